"""Values that change over a phase, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour import scheduled
from detour.errors import ConfigError
from detour.phases import Phase, PhaseSchedule
from detour.schedule import WSD


@pytest.mark.parametrize(
    ("value", "fraction", "expected"),
    [
        ({"from": 0.3, "to": 0.1}, 0.0, 0.3),
        ({"from": 0.3, "to": 0.1}, 0.5, 0.2),
        ({"from": 0.3, "to": 0.1}, 1.0, 0.1),
        ({"from": 0.3, "to": 0.1}, 1.7, 0.1),
        ({"from": 0.4, "to": 0.0, "shape": "cosine"}, 0.25, 0.2 + 0.2 * math.sqrt(0.5)),
        ({"from": 0.3, "to": 0.1, "shape": "steps", "steps": 3}, 0.32, 0.3),
        ({"from": 0.3, "to": 0.1, "shape": "steps", "steps": 3}, 0.34, 0.2),
        ({"from": 0.3, "to": 0.1, "shape": "steps", "steps": 3}, 0.99, 0.1),
        ({"from": 0, "to": 64}, 0.51, 33),
        (0.3, 0.5, 0.3),
        ({"rate": {"from": 0, "to": 1.0}, "parts": [{"proportion": {"from": 1, "to": 3}}]}, 0.5,
         {"rate": 0.5, "parts": [{"proportion": 2}]}),
    ],
)  # fmt: skip
def test_a_schedule_has_the_value_of_a_hand_count(value, fraction, expected):
    found = scheduled.at(value, fraction)
    assert found == (expected if isinstance(expected, (dict, int)) else pytest.approx(expected, rel=1e-12))


def test_integers_stay_integers_and_floats_floats():
    assert type(scheduled.at({"from": 0, "to": 64}, 0.3)) is int
    assert type(scheduled.at({"from": 0.0, "to": 64}, 1.0)) is float


@given(first=st.floats(-10, 10), last=st.floats(-10, 10), shape=st.sampled_from(scheduled.SHAPES), x=st.floats(-1, 2))
def test_every_shape_starts_and_ends_exactly_and_stays_between(first, last, shape, x):
    value = {"from": first, "to": last, "shape": shape} | ({"steps": 4} if shape == "steps" else {})
    assert scheduled.at(value, 0.0) == first
    assert scheduled.at(value, 1.0) == last
    low, high = sorted((first, last))
    assert low - 1e-9 <= scheduled.at(value, x) <= high + 1e-9


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"from": 1, "to": 2, "shap": "linear"}, "not 'shap'; did you mean 'shape'"),
        ({"from": "a", "to": 2}, "'from' is 'a', expected a number"),
        ({"from": 1, "to": math.inf}, "'to' is inf, expected a number"),
        ({"from": True, "to": 1}, "'from' is True, expected a number"),
        ({"from": 1, "to": 2, "shape": "square"}, "shape is 'square', expected one of linear, cosine, steps"),
        ({"from": 1, "to": 2, "shape": "steps"}, "steps are None with the shape 'steps'"),
        ({"from": 1, "to": 2, "shape": "steps", "steps": 1}, "steps are 1 with the shape 'steps'"),
        ({"from": 1, "to": 2, "steps": 3}, "steps are 3 with the shape 'linear'"),
    ],
)
def test_a_malformed_schedule_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        scheduled.at(value, 0.5)


def test_the_schedules_inside_a_value_are_found_with_their_keys():
    options = {"rate": {"from": 0.3, "to": 0.1}, "n": 3, "objectives": [{"proportion": {"from": 1, "to": 2}}]}
    assert [key for key, _ in scheduled.scheduled(options)] == ["rate", "objectives[0].proportion"]


def test_the_learning_rate_factor_of_a_phase_may_change_over_it():
    phases = PhaseSchedule([
        Phase(name="a", objective="clm", tokens=100),
        Phase(name="b", objective="mlm", tokens=200, lr_factor={"from": 1.0, "to": 0.5}),
    ])  # fmt: skip
    wsd = WSD(peak_lr=2.0)
    assert [wsd.lr_at(t, phases) for t in (99, 100, 200, 300)] == pytest.approx([2.0, 2.0, 1.5, 1.0])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.3, "0.3"),
        (None, "none"),
        (True, "true"),
        ({"from": 0.3, "to": 0.15}, "0.3 to 0.15"),
        ({"from": 0.3, "to": 0.1, "shape": "steps", "steps": 3}, "0.3 to 0.1 (3 steps)"),
        (
            [
                {"objective": "clm", "proportion": 1.0, "options": {}},
                {"objective": "mntp", "proportion": {"from": 1, "to": 3}, "options": {"rate": 0.15}},
            ],
            "clm (proportion 1) + mntp (proportion 1 to 3, rate 0.15)",
        ),
        ([{"objective": "mlm"}], "mlm"),
        (["a", "b", "c"], "a + b + c"),
        (["a", "b", "c", "d", "e"], "a, b, and 3 more"),
    ],
)
def test_a_value_is_spelled_in_words(value, words):
    assert scheduled.spelled(value) == words
