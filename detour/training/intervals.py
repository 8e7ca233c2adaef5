"""Token intervals: when a periodic event is due. Stateless, so a resume needs no saved state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from composer.core import Event, State


def due(interval: int, boundaries: Sequence[int], before: int, now: int) -> bool:
    """Whether a multiple of the interval or a boundary lies in (before, now], in tokens."""
    return before // interval != now // interval or any(before < boundary <= now for boundary in boundaries)


class EveryTokens:
    """`due` as a Composer predicate, for use as an ``eval_interval``: true at the end of a batch that passed a due point.

    Args:
        interval: Tokens between two due points.
        boundaries: Further due points.
        active: Whether it can be due at the end of a batch that began after so many tokens.
    """

    def __init__(
        self, interval: int, boundaries: Sequence[int], *, active: Callable[[int], bool] = lambda tokens: True
    ) -> None:
        self.interval, self.boundaries, self.active = interval, boundaries, active

    def __call__(self, state: State, event: Event) -> bool:
        if event not in (Event.BATCH_END, Event.BATCH_CHECKPOINT) or state.previous_timestamp is None:
            return False
        before = state.previous_timestamp.token.value
        return self.active(before) and due(self.interval, self.boundaries, before, state.timestamp.token.value)
