"""Row 2 again: a run killed around the boundaries of its phases.

They differ in objective, folders, row length and batch size; one reads a mixture whose proportions change from step to step, one
takes turns with an objective that has a module and a stream of its own.
"""

from __future__ import annotations

import random
import signal

import pytest
import torch

from data_prep.synthetic import RELATIONS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def changes(phase_folders, pair_rows):
    mixture = [
        {"path": phase_folders[name], "proportion": {"from": start, "to": 1 - start}}
        for name, start in (("general", 0.8), ("domain", 0.2))
    ]
    pairs = {"objective": "pair_classification", "options": {"classes": sorted(RELATIONS)}}
    turns = {"turns": [{"objective": "clm", "steps": 2}, pairs]}
    stream = {"train": [{"path": pair_rows}], "seq_len": 48, "global_batch_size": 4, "micro_batch_size": 2}
    return {
        "mixture": {"data": {"train": mixture}},
        "wide": {"objective": "alternate", "options": turns, "streams": {"pairs": stream}, "tokens": 1300},
    }


@pytest.mark.faults(
    2,
    "SIGKILL around the boundaries of phases that change their data, with a scheduled mixture and an objective with module and "
    "stream, one process and two; bitwise equal end",
)
@pytest.mark.parametrize(
    ("kills", "workers", "processes"),
    [
        (4, 0, 1),
        (2, 2, 2),
        *(pytest.param(30, workers, processes, marks=pytest.mark.long) for workers in (0, 2) for processes in (1, 2)),
    ],
)
def test_killed_around_its_boundaries_it_ends_with_the_bits_of_the_unbroken_run(
    phased_run, changes, start, left, assert_same_end, kills, workers, processes
):
    whole, part = (phased_run(name, workers=workers, changes=changes) for name in ("whole", "part"))
    assert {child.code(200) for child in start(whole, processes=processes)} == {0}
    index = [line["phase/index"] for line in left(whole).lines if "phase/index" in line]
    assert sorted(set(index)) == [0, 1, 2, 3, 4]
    assert any("loss/train/pair_classification" in line for line in left(whole).lines)
    firsts = [batch for batch in range(1, len(index)) if index[batch] != index[batch - 1]]
    rng = random.Random(kills + workers)
    around = sorted(rng.choice(firsts) + rng.choice((-1, 0, 1)) for _ in range(kills))
    for batch in around:
        children = start(part, fault=("signal_at", batch, int(signal.SIGKILL), 0), processes=processes)
        assert children[0].code(200) == -signal.SIGKILL, children[0].text()[-4000:]
        for other in children[1:]:
            assert other.code(200) != 0
    assert {child.code(200) for child in start(part, processes=processes)} == {0}
    assert_same_end(left(whole), left(part))
    heads = [left(run).last.tensors("objectives") for run in (whole, part)]
    assert heads[0]
    assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())
