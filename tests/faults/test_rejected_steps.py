"""Rows 14 and 15: a non-finite or spiking step, on one process or on all, changes nothing."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.timeout(200)
EACH_STEP = {"interval_tokens": 1}
NAN_LOSS, INF_GRADIENT = ("scale_loss", [2], "nan", 0), ("spoil_gradient", 2, "inf", 1)
ONE_PHASE = {
    "phases": [{"name": "only", "objective": "mlm", "tokens": 3000}],
    "schedule": {"decay_phase": None},
    "checkpoint": EACH_STEP,
}


def same(first, second, file: str) -> bool:
    one, two = first.tensors(file), second.tensors(file)
    assert one.keys() == two.keys()
    return all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def finite(checkpoint) -> bool:
    return all(t.isfinite().all() for file in ("model", "optimizer") for t in checkpoint.tensors(file).values())


@pytest.mark.faults(14, "Inf gradient or NaN loss on one of two processes: no update on either, rows logged")
@pytest.mark.parametrize(
    ("parallelism", "fault"),
    [
        pytest.param("ddp", NAN_LOSS, id="ddp-nan"),
        pytest.param("fsdp", INF_GRADIENT, id="fsdp-inf"),
        pytest.param("ddp", INF_GRADIENT, id="ddp-inf", marks=pytest.mark.long),
        pytest.param("fsdp", NAN_LOSS, id="fsdp-nan", marks=pytest.mark.long),
    ],
)
def test_a_non_finite_step_of_one_process_changes_nothing_on_any(tiny_run, start, left, parallelism, fault):
    run = tiny_run(
        checkpoint=EACH_STEP, system={"parallelism": parallelism}, guard={"max_skips": 1}, optimizer={"clip_norm": 1.0}
    )
    assert [child.code() for child in start(run, fault=fault, processes=2)] == [0, 0]
    saved = left(run).saved
    assert len(saved) == 12
    assert same(saved[1], saved[2], "model")
    assert same(saved[1], saved[2], "optimizer")
    assert not same(saved[2], saved[3], "model")
    assert all(finite(checkpoint) for checkpoint in saved)
    (rejected,) = left(run).rejected_steps
    assert rejected["batch"] == 2
    assert rejected["rejected_step"]["action"] == "skip"
    assert len(rejected["rejected_step"]["rows"]) == 4, "those of both processes"
    entries = saved[-1].state()["callbacks"]["Ledger"]["entries"]
    assert [(entry["steps"], entry["skipped"]) for entry in entries] == [(3, 1), (4, 0), (4, 0)]
    assert sum(entry["tokens"] for entry in entries) == saved[-1].tokens, "the clock counts what was read"
    assert {t.item() for name, t in saved[-1].tensors("optimizer").items() if name.endswith("/step")} == {11.0}


@pytest.mark.faults(14, "the same with the policy 'stop': every process ends with an error")
def test_by_default_the_run_ends_on_every_process_and_its_weights_are_those_of_before(tiny_run, start, left):
    run = tiny_run(checkpoint=EACH_STEP)
    children = start(run, fault=("spoil_gradient", 5, "nan", 1), processes=2)
    assert [child.code() for child in children] == [1, 1]
    for child in children:
        assert "error: batch 5, token " in child.text()
        assert "the gradient norm is nan; no weight was changed" in child.text()
        assert "Traceback" not in child.text()
    assert len(left(run).saved) == 5
    assert finite(left(run).last)
    assert left(run).rejected_steps[0]["rejected_step"]["action"] == "stop"
    (child,) = start(run, "guard.max_skips=1")  # the past is not changed by another policy
    assert child.code() == 0


@pytest.mark.faults(15, "loss x50 and NaN: rejected, and the window stays clean")
def test_spikes_are_rejected_and_do_not_enter_the_median(tiny_run, start, left):
    run = tiny_run(guard={"max_skips": 2, "spike_factor": 4, "spike_window": 3}, **ONE_PHASE)
    batches = [5, 6, 8]
    (child,) = start(run, fault=("scale_loss", batches, "50", 0))
    assert child.code() == 0
    assert [line["batch"] for line in left(run).rejected_steps] == batches
    assert all("times the median" in line["rejected_step"]["problem"] for line in left(run).rejected_steps)
    state = left(run).last.state()["callbacks"]["StepGuard"]
    assert max(state["losses"]["mlm"]) < 10, "ln(600) is 6.4"


@pytest.mark.faults(15, "more rejected steps in a row than allowed: stopped")
@pytest.mark.parametrize("factor", ["50", "nan"])
def test_one_rejected_step_too_many_in_a_row_ends_the_run(tiny_run, start, left, factor):
    run = tiny_run(guard={"max_skips": 2, "spike_factor": 4, "spike_window": 3}, **ONE_PHASE)
    (child,) = start(run, fault=("scale_loss", [5, 6, 7, 8], factor, 0))
    assert child.code() == 1
    assert "guard.max_skips: 2" in child.text()
    assert [line["rejected_step"]["action"] for line in left(run).rejected_steps] == ["skip", "skip", "stop"]
    assert finite(left(run).last)


@pytest.mark.faults(14, "a run with rejected steps resumes bit for bit")
def test_a_resume_between_rejected_steps_is_bitwise_the_unbroken_run(tiny_run, start, left, assert_same_end):
    phase = {"name": "only", "objective": "mlm", "tokens": 1800}
    options = {"guard": {"max_skips": 3, "spike_factor": 4, "spike_window": 2}, **ONE_PHASE, "phases": [phase]}
    fault = ("scale_loss", [2, 3, 5], "50", 0)
    whole, part = tiny_run("whole", **options), tiny_run("part", **options)
    assert [child.code() for child in start(whole, fault=fault)] == [0]
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(start(part, "system.max_minutes=0", fault=fault)[0].code())
        assert len(codes) < 15
    assert codes == [75] * 7 + [0], "a start a step"
    assert_same_end(left(whole), left(part))
    assert len(left(whole).rejected_steps) == 3
