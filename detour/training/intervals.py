"""When something that happens every so many tokens is due: pure, so that it survives a resume without state."""

from __future__ import annotations

from collections.abc import Sequence

from composer.core import Event, State


def due(interval: int, boundaries: Sequence[int], before: int, now: int) -> bool:
    """Whether the clock, going from ``before`` to ``now`` tokens, passed a multiple of the interval or a boundary."""
    return before // interval != now // interval or any(before < boundary <= now for boundary in boundaries)


class EveryTokens:
    """Composer's form of `due`: true at the end of a batch that passed a multiple of the interval or a boundary."""

    def __init__(self, interval: int, boundaries: Sequence[int]) -> None:
        self.interval, self.boundaries = interval, boundaries

    def __call__(self, state: State, event: Event) -> bool:
        if event not in (Event.BATCH_END, Event.BATCH_CHECKPOINT) or state.previous_timestamp is None:
            return False
        return due(self.interval, self.boundaries, state.previous_timestamp.token.value, state.timestamp.token.value)
