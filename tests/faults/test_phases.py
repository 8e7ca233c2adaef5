"""Row 2 again: a run whose phases differ in objective, folders, row length and batch size, killed around their boundaries."""

from __future__ import annotations

import random
import signal

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.mark.faults(
    2, "SIGKILL around the boundaries of phases that change their data, one process and two; bitwise equal end"
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
    phased_run, start, left, assert_same_end, kills, workers, processes
):
    whole, part = (phased_run(name, workers=workers) for name in ("whole", "part"))
    assert {child.code(200) for child in start(whole, processes=processes)} == {0}
    index = [line["phase/index"] for line in left(whole).lines if "phase/index" in line]
    assert sorted(set(index)) == [0, 1, 2, 3, 4]
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
