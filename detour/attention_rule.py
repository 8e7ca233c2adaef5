"""Attention rules: what an objective lets a token see of its document. Without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from detour.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """Which tokens of its document a token may attend to.

    Attributes:
        causal: Itself, the tokens to its left, and of those to its right only what `lookahead` or `reach` allow.
        window: Number of keys to the (left, right) of the token; None for the whole document. Right is 0 if causal.
        lookahead: Number of tokens to its right that a causal rule allows.
        reach: Whether that number is given for each token by the batch.
    """

    causal: bool
    window: tuple[int, int] | None = None
    lookahead: int = 0
    reach: bool = False

    @staticmethod
    def of(attention: str) -> Rule:
        """The rule that an objective names, without a window.

        Args:
            attention: "bidirectional"; "causal"; "lookahead:K", causal with K tokens to the right; or "reach", causal with the
                number of tokens to the right that the batch gives for each token.

        Raises:
            ConfigError: It is none of these.
        """
        found = re.fullmatch(r"bidirectional|causal|reach|lookahead:(\d{1,9})", attention)
        if not found:
            raise ConfigError(
                f"attention is '{attention}', expected 'bidirectional', 'causal', 'reach', or 'lookahead:K' with K tokens"
            )
        return Rule(causal=attention != "bidirectional", lookahead=int(found[1] or 0), reach=attention == "reach")

    def within(self, left: int, right: int) -> Rule:
        """This rule limited to a window of (left, right) keys."""
        if self.causal and not self.reach:
            right = min(right, self.lookahead)
        return replace(self, window=(left, right))

    def farthest(self, T: int) -> int:
        """Number of tokens to its right that a token may see in a document of T tokens; with `reach`, the most of any."""
        return self.lookahead if self.causal and not self.reach else T

    @property
    def sides(self) -> tuple[int, int]:
        """(left, right) in the convention of the kernels, where -1 means unlimited. With `reach`, the widest of any token."""
        return self.window or (-1, self.lookahead if self.causal and not self.reach else -1)
