"""Checkpoints that are written beside training: the same bits, one at a time, and no failure is lost."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest
import torch
from composer.core import Callback

from detour.errors import CheckpointError
from detour.train import train
from detour.training.checkpoints import files
from detour.training.run_folder import RunFolder

EACH_STEP = {"interval_tokens": 1, "keep": 100}


class Steps(Callback):
    """Counts the steps; others may wait for one."""

    def __init__(self) -> None:
        self.count, self.changed = 0, threading.Condition()

    def batch_end(self, state, logger) -> None:
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.count >= count, timeout=30)


def saved(run):
    return files.listing(RunFolder.of(run).checkpoints)


def test_what_is_written_late_is_what_was_saved(tiny_run, monkeypatch):
    """Each write waits until training has gone on; its weights, moments and counts are those of before."""
    before, behind = (
        tiny_run("before", checkpoint=EACH_STEP),
        tiny_run("behind", checkpoint={**EACH_STEP, "background": True}),
    )
    train(before)
    real, steps, went_on = files.write, Steps(), []

    def late(folder, *, tokens, tensors, state):
        done = state["timestamp"]["batch"]
        if done < 12:
            went_on.append(steps.wait_for(done + 1))
        return real(folder, tokens=tokens, tensors=tensors, state=state)

    monkeypatch.setattr(files, "write", late)
    train(behind, callbacks=[steps])
    assert went_on
    assert all(went_on)
    assert [c.tokens for c in saved(behind)] == [c.tokens for c in saved(before)]
    assert len(saved(behind)) == 12
    for ours, theirs in zip(saved(behind), saved(before), strict=True):
        for part in ("model", "optimizer", "rng"):
            found, expected = ours.tensors(part), theirs.tensors(part)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()), (ours.tokens, part)
        assert counts(ours) == counts(theirs)


def counts(checkpoint):
    """The plain values, without seconds and what is computed from them."""
    state = checkpoint.state()
    for entry in state["callbacks"]["Ledger"]["entries"]:
        del entry["device_seconds"], entry["matmul_flops"]
    return [state[part] for part in ("last_batch_began", "dataset", "callbacks", "param_groups", "rng")]


def test_checkpoints_are_written_one_at_a_time_and_the_run_ends_after_the_last(tiny_run, monkeypatch):
    real, lock, alone = files.write, threading.Lock(), []

    def slow(*arguments, **options):
        alone.append(lock.acquire(blocking=False))
        time.sleep(0.05)
        lock.release()
        return real(*arguments, **options)

    monkeypatch.setattr(files, "write", slow)
    run = tiny_run(checkpoint={**EACH_STEP, "background": True})
    train(run)
    assert alone == [True] * 12
    assert saved(run)[-1].tokens >= run.phase_schedule.total_tokens
    assert all(checkpoint.validate() is None for checkpoint in saved(run))


def test_a_write_that_fails_ends_the_run_after_the_current_step(tiny_run, monkeypatch):
    real, steps = files.write, Steps()

    def full(folder, *, tokens, **rest):
        if len(saved(run)) == 2:
            steps.wait_for(steps.count + 1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(folder, tokens=tokens, **rest)

    monkeypatch.setattr(files, "write", full)
    run = tiny_run(checkpoint={"interval_tokens": 200, "keep": 100, "background": True})
    with pytest.raises(CheckpointError, match=r"cannot write a checkpoint: .*No space left"):
        train(run, callbacks=[steps])
    assert steps.count < 12
    assert len(saved(run)) == 2
    assert all(checkpoint.validate() is None for checkpoint in saved(run))


def test_a_least_interval_spares_the_ends_of_phases(tiny_run):
    run = tiny_run(checkpoint={**EACH_STEP, "min_interval_seconds": 1e6})
    train(run)
    assert len(saved(run)) == 3
    assert all(c.tokens >= end for c, end in zip(saved(run), run.phase_schedule.boundaries[1:], strict=True))
