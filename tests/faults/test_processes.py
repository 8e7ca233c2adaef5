"""Rows 17 and 19: another number of processes, and memory that runs out on one of them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(200)
EACH_STEP = {"interval_tokens": 1, "keep": 100}


def losses(left) -> list[float]:
    return [line["loss/train/total"] for line in left.lines if "loss/train/total" in line]


def largest_difference(first, second) -> float:
    one, two = first.tensors("model"), second.tensors("model")
    assert one.keys() == two.keys()
    return max((tensor - two[name]).abs().max().item() for name, tensor in one.items())


@pytest.mark.faults(17, "1 -> 2 -> 1 processes at the same global batch: same rows in each step, same losses")
def test_the_number_of_processes_may_change_twice(tiny_run, start, left):
    whole, moved = (tiny_run(name, checkpoint=EACH_STEP) for name in ("whole", "moved"))
    assert start(whole)[0].code() == 0
    for processes, batch in ((1, 3), (2, 7)):
        fault = ("signal_at", batch, 15, 0)
        assert [child.code() for child in start(moved, fault=fault, processes=processes)] == [75] * processes
        assert left(moved).last.state()["timestamp"]["batch"] == batch + 1
    assert start(moved)[0].code() == 0
    assert losses(left(moved)) == pytest.approx(losses(left(whole)), rel=1e-5)
    assert largest_difference(left(whole).last, left(moved).last) < 1e-5
    ledgers = [left(run).last.state()["callbacks"]["Ledger"]["fingerprint"] for run in (whole, moved)]
    assert ledgers[0] == ledgers[1], "the rows of every step, in order"


@pytest.mark.faults(17, "a batch that cannot be shared out")
def test_an_indivisible_batch_is_refused(tiny_run, start, left):
    children = start(tiny_run(data={"global_batch_size": 3}), processes=2)
    assert [child.code() for child in children] == [1, 1]
    assert "error: data.global_batch_size: 3 is not divisible by 2 processes" in children[0].text()


@pytest.mark.faults(
    19, "memory runs out at a micro-batch on one of two processes: both end, no deadlock, and a smaller one goes on"
)
@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_memory_that_runs_out_on_one_process_ends_all(tiny_run, start, left, parallelism):
    run = tiny_run(checkpoint=EACH_STEP, system={"parallelism": parallelism})
    children = start(run, "data.micro_batch_size=1", fault=("out_of_memory", 5, 2, 1), processes=2)
    codes = [child.code(30) for child in children]
    assert codes[1] == 1
    assert codes[0] != 0
    assert "error: data.micro_batch_size: 1 rows of 64 tokens do not fit into memory; lower it" in children[1].text()
    assert len(left(run).saved) == 5
    whole = tiny_run("whole", checkpoint=EACH_STEP)
    assert start(whole)[0].code() == 0
    assert start(run, "data.micro_batch_size=2")[0].code() == 0
    norms = [[line["grad_norm"] for line in left(r).lines if "grad_norm" in line] for r in (whole, run)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4), "gradients do not depend on the micro-batch"
