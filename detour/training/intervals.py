"""Token intervals: when a periodic event is due. Stateless, so a resume needs no saved state."""

from __future__ import annotations

from collections.abc import Sequence

from composer.core import Event, State


def due(interval: int, boundaries: Sequence[int], before: int, now: int) -> bool:
    """Whether a multiple of the interval or a boundary lies in (before, now], in tokens."""
    return before // interval != now // interval or any(before < boundary <= now for boundary in boundaries)


class EveryTokens:
    """`due` as a Composer predicate, for use as an ``eval_interval``: true at the end of a batch that passed a due point.

    Args:
        interval: Tokens between two due points.
        boundaries: Further due points.
    """

    def __init__(self, interval: int, boundaries: Sequence[int]) -> None:
        self.interval, self.boundaries = interval, boundaries

    def __call__(self, state: State, event: Event) -> bool:
        if event not in (Event.BATCH_END, Event.BATCH_CHECKPOINT) or state.previous_timestamp is None:
            return False
        return due(self.interval, self.boundaries, state.previous_timestamp.token.value, state.timestamp.token.value)
