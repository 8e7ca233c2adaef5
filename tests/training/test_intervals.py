"""What happens every so many tokens happens once for each multiple passed, whatever the size of a batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from composer.core import Event, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from detour.training.intervals import EveryTokens, due


@given(st.integers(1, 500), st.lists(st.integers(1, 1000), max_size=4), st.integers(0, 1000), st.integers(1, 300))
def test_it_is_due_when_the_clock_passed_a_multiple_or_a_boundary(interval, boundaries, before, batch):
    passed = range(before + 1, before + batch + 1)
    expected = any(tokens % interval == 0 or tokens in boundaries for tokens in passed)
    assert due(interval, boundaries, before, before + batch) == expected


def test_it_is_due_at_the_exact_token_and_not_again_after_it():
    assert [due(100, [], before, before + 25) for before in (50, 75, 100)] == [False, True, False]
    assert [due(10**9, [110], before, before + 10) for before in (90, 100, 110)] == [False, True, False]


@pytest.mark.parametrize("event", [Event.BATCH_END, Event.BATCH_CHECKPOINT])
def test_composer_s_form_reads_the_clock_before_and_after_the_batch(event):
    every = EveryTokens(100, [130])

    def state(before: int, now: int):
        return SimpleNamespace(previous_timestamp=Timestamp(token=before), timestamp=Timestamp(token=now))

    assert [every(state(*clock), event) for clock in ((0, 99), (99, 101), (101, 129), (129, 131))] == [
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("event", [Event.BATCH_START, Event.EPOCH_END, Event.FIT_START])
def test_composer_s_form_is_silent_at_other_events_and_before_the_first_batch(event):
    state = SimpleNamespace(previous_timestamp=Timestamp(token=0), timestamp=Timestamp(token=1000))
    assert EveryTokens(100, [])(state, Event.BATCH_END)
    assert not EveryTokens(100, [])(state, event)
    state.previous_timestamp = None
    assert not EveryTokens(100, [])(state, Event.BATCH_END)
