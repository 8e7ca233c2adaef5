"""A mixture whose proportions change over a phase: rows against an independent simulation, exact resume, refusals."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detour.data.loader import loader_of
from detour.data.phased_loader import PhasedLoader, PhaseRows, apportion
from detour.errors import ConfigError
from detour.train import train
from detour.training.checkpoints.files import newest_valid
from detour.training.run_folder import RunFolder
from tests.training.test_phase_data import orders_of, watch


def mixture_phase(folders) -> dict:
    general, domain = ({"from": first, "to": 1.0 - first} for first in (1.0, 0.0))
    train = [{"path": folders["general"], "proportion": general}, {"path": folders["domain"], "proportion": domain}]
    return {"name": "mixture", "objective": "mlm", "tokens": 4000, "data": {"train": train}}


def saved(run):
    found, _ = newest_valid(RunFolder.of(run).checkpoints)
    assert found is not None
    return found


def test_a_mixture_follows_its_schedule_by_rows_of_each_folder_in_their_own_order(tiny_run, phase_folders):
    """Rows of each batch by an independent simulation: what each folder is owed, by exact fractions."""
    phase = mixture_phase(phase_folders)
    run = tiny_run("mixture", phases=[phase, {"name": "decay", "objective": "mlm", "tokens": 600}])
    folders = [phase_folders["general"], phase_folders["domain"]]
    orders, at = [list(islice(orders_of(run, [{"path": folder}]), 6)) for folder in folders], [0, 0]
    first_rows = len(orders[0][0])
    owed = [Fraction(0), Fraction(0)]
    found = [each for each in watch(run) if each[0] < phase["tokens"]]
    assert len(found) > 8
    for before, rows, shape, _ in found:
        assert shape == (4, 64)
        share = Fraction(before, phase["tokens"])
        owed = [owed[0] + 4 * (1 - share), owed[1] + 4 * share]
        counts = [math.floor(each) for each in owed]
        for index in sorted(range(2), key=lambda i: counts[i] - owed[i])[: 4 - sum(counts)]:
            counts[index] += 1
        owed = [each - count for each, count in zip(owed, counts, strict=True)]
        expected = []
        for index, count in enumerate(counts):
            epoch = [row for epoch in orders[index] for row in epoch]
            expected += [row + first_rows * index for row in epoch[at[index] : at[index] + count]]
            at[index] += count
        assert list(rows) == expected
    assert abs(at[0] - at[1]) <= 4  # from all of one to all of the other: half of the rows each


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_with_a_scheduled_mixture_resumes_bitwise(tiny_run, phase_folders, workers):
    phases = [mixture_phase(phase_folders), {"name": "decay", "objective": "mlm", "tokens": 600}]
    whole = tiny_run(
        "whole", phases=phases, data={"workers": workers}, checkpoint={"interval_tokens": 500, "keep": 100}
    )
    train(whole)
    expected, every = saved(whole), sorted(RunFolder.of(whole).checkpoints.iterdir())
    for cut in (2, 5, len(every) - 1) if workers == 0 else (4,):
        again = replace(whole, name=f"cut{cut}")
        shutil.copytree(RunFolder.of(whole).path, RunFolder.of(again).path)
        for path in every[cut:]:
            shutil.rmtree(RunFolder.of(again).checkpoints / path.name)
        train(again)
        for part in ("model", "optimizer"):
            ours, theirs = saved(again).tensors(part), expected.tensors(part)
            assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), (cut, part)


@pytest.mark.parametrize(
    ("general", "domain", "message"),
    [
        (
            {"from": 1.0, "to": 0.0},
            {"from": 0.0, "to": 0.9},
            "proportions sum to 0.999 after 1% of the phase, expected 1",
        ),
        ({"from": 1.0, "to": 0.0}, 0.5, "proportions sum to 1.5 after 0% of the phase, expected 1"),
        (
            {"from": 1.2, "to": 0.0},
            {"from": -0.2, "to": 1.0},
            "every proportion must be above 0, or 0 where it is scheduled",
        ),
        ({"from": 1.0, "too": 0.0}, {"from": 0.0, "to": 1.0}, "proportion: "),
        ({"from": 1.0, "to": 0.0, "shape": "round"}, {"from": 0.0, "to": 1.0}, "a schedule's shape is 'round'"),
    ],
)
def test_proportions_that_are_no_mixture_are_refused(tiny_run, phase_folders, general, domain, message):
    phase = mixture_phase(phase_folders)
    for stream, proportion in zip(phase["data"]["train"], (general, domain), strict=True):
        stream["proportion"] = proportion
    with pytest.raises(ConfigError, match=message):
        tiny_run(phases=[phase], schedule={"decay_phase": None})


def test_another_number_of_processes_is_refused_within_such_a_phase_and_at_its_end_is_not():
    loader = PhasedLoader(
        [], [{"": PhaseRows(datasets=(), device_rows=4)}], now=lambda: (0, "", 0.0), processes=2, make_loader=loader_of
    )
    state = {"phase": 0, "positions": [], "owed": {"": [0.5, -0.5]}, "processes": 1}
    with pytest.raises(
        ValueError, match="was written by 1 processes within a phase whose proportions change, and there are 2"
    ):
        loader.load_state_dict(state)
    loader.load_state_dict({**state, "owed": {}, "processes": None})
    assert loader.state_dict() == {**state, "owed": {}, "processes": None}


@given(
    st.integers(1, 12),
    st.lists(
        st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda each: sum(each) > 0.01), min_size=1, max_size=40
    ),
)
def test_every_batch_is_full_and_no_row_is_owed_or_given_twice(rows, proportions):
    owed, given_rows, due = [0.0] * 4, [0] * 4, [0.0] * 4
    for each in proportions:
        counts, owed = apportion(rows, each, owed)
        assert sum(counts) == rows
        assert min(counts) >= 0
        given_rows = [a + b for a, b in zip(given_rows, counts, strict=True)]
        due = [a + rows * b / sum(each) for a, b in zip(due, each, strict=True)]
    assert owed == pytest.approx([a - b for a, b in zip(due, given_rows, strict=True)], abs=1e-6)
    assert max(map(abs, owed)) < 4


def test_constant_proportions_are_met_to_within_a_row():
    owed, given_rows = [0.0] * 3, [0] * 3
    for batch in range(1, 200):
        counts, owed = apportion(7, [0.2, 0.5, 0.3], owed)
        given_rows = [a + b for a, b in zip(given_rows, counts, strict=True)]
        assert all(abs(n - 7 * batch * p) < 1 for n, p in zip(given_rows, (0.2, 0.5, 0.3), strict=True))


def test_a_phase_on_which_schedules_depend_does_not_change_its_length_at_a_resume(tiny_run, phase_folders):
    options = {"rate": {"from": 0.3, "to": 0.1}}
    for phase in ({"name": "a", "objective": "mlm", "tokens": 1000, "options": options}, mixture_phase(phase_folders)):
        short, long = (
            tiny_run(phases=[{**phase, "tokens": tokens}], schedule={"decay_phase": None}).phase_schedule
            for tokens in (1000, 4000)
        )
        assert long.diff_past(short.describe(), 900) == ["phases[0].tokens: was 1000, now 4000"]
        assert long.diff_past(long.describe(), 900) == []
    plain = [
        tiny_run(phases=[{"name": "a", "objective": "mlm", "tokens": t}], schedule={"decay_phase": None})
        for t in (1000, 4000)
    ]
    assert plain[1].phase_schedule.diff_past(plain[0].phase_schedule.describe(), 900) == []
