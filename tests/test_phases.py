"""Phases: which objective trains where, what may freeze, and what a resume may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour.errors import ConfigError
from detour.optimizer import PhaseOptimizer
from detour.phases import Freeze, Phase, PhaseRope, PhaseSchedule

LENGTHS = st.lists(st.integers(1, 10**12), min_size=1, max_size=6)


def schedule_of(*lengths: int) -> PhaseSchedule:
    return PhaseSchedule([Phase(name=f"p{i}", objective="mlm", tokens=n) for i, n in enumerate(lengths)])


DETOUR = PhaseSchedule([
    Phase(name="before", objective="mlm", tokens=1000, options={"rate": 0.3}),
    Phase(name="detour", objective="clm", tokens=2000, freeze=Freeze(layers="0-3")),
    Phase(name="decay", objective="mlm", tokens=500),
])  # fmt: skip


def changed(index: int, **changes) -> PhaseSchedule:
    phases = list(DETOUR.phases)
    phases[index] = replace(phases[index], **changes)
    return PhaseSchedule(phases)


# --- at() -----------------------------------------------------------------------------------------------------------


@given(LENGTHS, st.data())
def test_a_batch_belongs_to_the_phase_its_first_token_falls_into(lengths, data):
    schedule = schedule_of(*lengths)
    tokens = data.draw(st.integers(0, sum(lengths) - 1))
    span = schedule.at(tokens)
    assert sum(lengths[: span.index]) <= tokens < sum(lengths[: span.index + 1])
    assert span.phase is schedule.phases[span.index]


@given(LENGTHS)
def test_boundaries_are_exact_to_the_token(lengths):
    schedule = schedule_of(*lengths)
    for index in range(len(lengths)):
        start, end = sum(lengths[:index]), sum(lengths[: index + 1])
        for tokens in (start, end - 1):
            span = schedule.at(tokens)
            assert (span.index, span.start, span.end) == (index, start, end)


@given(LENGTHS, st.integers(0, 10**12))
def test_past_the_end_is_the_last_phase(lengths, beyond):
    schedule = schedule_of(*lengths)
    assert schedule.total_tokens == sum(lengths)
    assert schedule.at(schedule.total_tokens + beyond).index == len(lengths) - 1


def test_a_negative_token_count_is_refused():
    with pytest.raises(ValueError, match="-1"):
        DETOUR.at(-1)


def test_a_phase_is_found_by_its_name():
    span = DETOUR.span_of("detour")
    assert (span.index, span.start, span.end, span.phase.objective) == (1, 1000, 3000, "clm")


# --- freezing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("", []),
        ("  ", []),
        ("5", [5]),
        ("0-7", range(8)),
        ("0,3,8-14", [0, 3, *range(8, 15)]),
        (" 0 , 3 - 4 ", [0, 3, 4]),
        ("2-2", [2]),
        ("3,1-4", [1, 2, 3, 4]),
        ("0-21", range(22)),
    ],
)
def test_layer_lists_are_read_with_both_ends_of_a_range(layers, expected):
    assert Freeze(layers=layers).layer_indices(22) == frozenset(expected)


@pytest.mark.parametrize("layers", ["a", "0-", "-3", "0--3", "1.5", "0 3", ",", "0,", "0-3-5", "all", "0;3"])
def test_a_malformed_layer_list_is_refused(layers):
    with pytest.raises(ConfigError, match="is not a list of layers"):
        Freeze(layers=layers).layer_indices(22)


@pytest.mark.parametrize("layers", ["22", "0-22", "0,99", "7-3"])
def test_layers_that_the_model_lacks_and_backward_ranges_are_refused(layers):
    with pytest.raises(ConfigError, match="range of layers 0 to 21"):
        Freeze(layers=layers).layer_indices(22)


# --- what a resume may change ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 1000, 1001, 3500])
def test_an_unchanged_schedule_has_no_differences(tokens):
    assert DETOUR.diff_past(DETOUR.describe(), tokens) == []


@pytest.mark.parametrize(
    "now",
    [
        changed(1, objective="mlm"),
        changed(1, tokens=1),
        changed(2, lr_factor=0.5),
        PhaseSchedule(DETOUR.phases[:1]),
        PhaseSchedule([DETOUR.phases[0], DETOUR.phases[2]]),
        PhaseSchedule([*DETOUR.phases, Phase(name="more", objective="clm", tokens=7)]),
    ],
)
def test_phases_that_have_not_begun_may_change(now):
    assert now.diff_past(DETOUR.describe(), 1000) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"name": "x"}, "phases[1].name: was 'detour', now 'x'"),
        ({"objective": "mlm"}, "phases[1].objective: was 'clm', now 'mlm'"),
        ({"options": {"a": 1}}, "phases[1].options: was {}, now {'a': 1}"),
        ({"lr_factor": 0.5}, "phases[1].lr_factor: was 1.0, now 0.5"),
        (
            {"optimizer": PhaseOptimizer(betas=(0.8, 0.9))},
            "phases[1].optimizer: was {'betas': None, 'weight_decay': None, 'clip_norm': None}, "
            "now {'betas': [0.8, 0.9], 'weight_decay': None, 'clip_norm': None}",
        ),
        (
            {"rope": PhaseRope(theta=1e6)},
            "phases[1].rope: was {'theta': None, 'local_theta': None, 'scaling': None}, "
            "now {'theta': 1000000.0, 'local_theta': None, 'scaling': None}",
        ),
        ({"rewarm_tokens": 9}, "phases[1].rewarm_tokens: was 0, now 9"),
        ({"optimizer_state": "reset"}, "phases[1].optimizer_state: was 'keep', now 'reset'"),
    ],
)
def test_a_begun_phase_may_change_nothing_but_its_length(change, line):
    assert changed(1, **change).diff_past(DETOUR.describe(), 1001) == [line]
    assert changed(1, **change).diff_past(DETOUR.describe(), 1000) == []


def test_a_record_of_an_earlier_version_has_the_defaults_of_the_keys_that_it_lacks():
    older = [{key: value for key, value in phase.items() if key != "optimizer"} for phase in DETOUR.describe()]
    for phase in older:
        del phase["rope"]["scaling"], phase["data"]["restart"]
    assert DETOUR.diff_past(older, 1500) == []
    now = changed(1, optimizer=PhaseOptimizer(weight_decay=0.1))
    assert [line.split(":")[0] for line in now.diff_past(older, 1500)] == ["phases[1].optimizer"]


def test_a_begun_phase_may_not_change_its_freezing():
    (line,) = changed(1, freeze=Freeze(layers="0-4")).diff_past(DETOUR.describe(), 1001)
    assert "0-3" in line
    assert "0-4" in line


@given(st.integers(1, 5000), st.integers(1001, 3000))
def test_a_phase_under_way_may_have_any_length_not_below_what_was_trained(length, tokens):
    differences = changed(1, tokens=length).diff_past(DETOUR.describe(), tokens)
    allowed = 1000 + length >= tokens
    assert differences == ([] if allowed else [f"phases[1].tokens: was 2000, now {length}"])


@pytest.mark.parametrize("length", [999, 1001, 2000])
def test_a_finished_phase_may_not_change_its_length(length):
    assert f"phases[0].tokens: was 1000, now {length}" in changed(0, tokens=length).diff_past(DETOUR.describe(), 1500)


def test_a_finished_run_may_be_lengthened():
    assert changed(2, tokens=501).diff_past(DETOUR.describe(), 3500) == []


def test_a_begun_phase_may_not_vanish():
    assert PhaseSchedule(DETOUR.phases[:1]).diff_past(DETOUR.describe(), 1001) == [
        "phases[1]: 'detour' was trained and is now missing"
    ]


def test_every_difference_has_its_line():
    now = PhaseSchedule(
        [replace(DETOUR.phases[0], name="x", lr_factor=2.0), replace(DETOUR.phases[1], objective="mlm")]
    )
    assert [line.split(":")[0] for line in now.diff_past(DETOUR.describe(), 1500)] == [
        "phases[0].name",
        "phases[0].lr_factor",
        "phases[1].objective",
    ]
