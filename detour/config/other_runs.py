"""What a run takes from another run: its budget, or its past. Read as in `detour.config.schema`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Sets one phase's length so that this run costs as much as another (`detour.training.match`).

    Attributes:
        run: Folder of a finished run; or a YAML, whose cost is then that of `detour plan`. Null changes nothing.
        by: "tokens", "flops" or "device_seconds".
        phase: The phase whose length is set; null for the first.
        document_tokens: With a YAML: mean document length in tokens; null takes the row length.
    """

    run: str | None = None
    by: Literal["tokens", "flops", "device_seconds"] = "flops"
    phase: str | None = None
    document_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class BranchConfig:
    """Starts this run from a checkpoint of another run, as if this run had trained up to there itself.

    Weights, optimizer state, position in the data, random states and metrics are taken over. Refused if this run would have
    trained those tokens otherwise: with another seed, start model, data, objective, learning rate, precision and so on.

    Attributes:
        run: Folder of the other run, the trunk; null branches from none.
        tokens: Branch from its first checkpoint at or after this token count; null for its latest.
    """

    run: str | None = None
    tokens: int | None = None
