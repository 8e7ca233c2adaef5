"""The status of a run, from folders written by hand."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os

import pytest
import yaml
from rich.console import Console

from detour.errors import DataError
from detour.report.status import read_status, view
from detour.report.watch import watch

PHASES = [
    {"name": "detour", "objective": "clm", "tokens": 10_000},
    {"name": "decay", "objective": "mlm", "tokens": 5_000},
]
WRITTEN = 1_700_000_000.0


def text_of(status) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(view(status))
    return console.file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A function that writes a run of steps of 100 tokens, at 50 tokens/s, with a loss that falls from 9 by 0.01 a step."""

    def write(steps: int, *lines: dict):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"name": "my run", "phases": PHASES}))
        (tmp_path / "environment.json").write_text("{}")
        metrics = [
            {
                "batch": n, "token": 100 * n, "phase/index": int(100 * (n - 1) >= 10_000), "lr": 1e-3, "grad_norm": 1.0,
                "loss/train/total": 9 - 0.01 * n, "throughput/tokens_per_second": 50.0,
            }
            for n in range(1, steps + 1)
        ]  # fmt: skip
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in [*metrics, *lines]))
        os.utime(path, (WRITTEN, WRITTEN))
        return tmp_path

    return write


@pytest.fixture
def training(tmp_path):
    """Holds the lock of the run folder, as a run that trains in it does."""
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_run_that_trains(folder, training):
    held_out = {"batch": 100, "token": 10_000, "loss/eval/mlm": 7.25}
    status = read_status(folder(120, held_out), now=WRITTEN + 3)
    assert (status.name, status.state, status.phase) == ("my run", "training", "decay: mlm")
    assert (status.tokens, status.planned, status.phase_tokens) == (12_000, 15_000, (2_000, 5_000))
    # the last 20 steps are of this phase: 101 to 120, mean 110.5
    assert status.losses == {"": pytest.approx(9 - 0.01 * 110.5)}
    assert status.held_out == {"mlm": (10_000, 7.25)}
    assert status.seconds_left == pytest.approx(3_000 / 50)
    assert status.silent_seconds == pytest.approx(3)
    assert status.checkpoint is None
    assert status.warnings == ["there is no checkpoint yet: if the run died now it would start over."]
    text = text_of(status)
    for part in (
        "my run: training",
        "2k of 5k (40%)",
        "12k of 15k (80%), 50 tokens/s, 60.0 s left",
        "held-out mlm",
        "7.25",
    ):
        assert part in text, text


def test_a_run_at_the_boundary_is_still_in_the_phase_of_its_last_batch(folder, training):
    status = read_status(folder(100), now=WRITTEN)
    assert (status.phase, status.phase_tokens) == ("detour: clm", (10_000, 10_000))


def test_a_run_that_died(folder):
    status = read_status(folder(120), now=WRITTEN + 10_000)
    assert status.state == "stopped"
    assert "no process is training in this folder; the command that started the run resumes it." in status.warnings
    assert "left" not in text_of(status)


def test_a_complete_run_needs_nothing(folder):
    status = read_status(folder(150), now=WRITTEN + 10_000)
    assert (status.state, status.warnings) == ("complete", [])
    assert "15k of 15k (100%)" in text_of(status)


@pytest.mark.parametrize(("silent", "warned"), [(50, False), (61, True)])
def test_a_live_run_that_writes_nothing_may_hang(folder, training, silent, warned):
    """A step takes 2 s; twenty of them are less than a minute, which is always waited."""
    status = read_status(folder(120), now=WRITTEN + silent)
    assert any("nothing was written for 61.0 s, and a step takes 2.0 s" in text for text in status.warnings) is warned


def test_rejected_steps_and_losses_that_are_not_finite_are_counted(folder, training):
    event = {"batch": 121, "token": 12_100, "rejected_step": {"problem": "not finite"}}
    bad = {"batch": 121, "token": 12_100, "phase/index": 1, "loss/train/total": math.nan, "lr": 1e-3, "grad_norm": 1.0}
    status = read_status(folder(120, event, bad), now=WRITTEN)
    assert "1 steps were rejected by the guard and did not change the weights." in status.warnings
    assert any(
        text.startswith("1 training losses are not finite, the first at token 12,000") for text in status.warnings
    )


def test_a_run_without_a_batch_and_no_run_at_all_are_told_apart(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"name": "x", "phases": PHASES}))
    with pytest.raises(DataError, match="the run has not trained its first batch yet"):
        read_status(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_status(tmp_path / "nothing")


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_ends_when_the_run_is_no_longer_training(folder, terminal):
    run = folder(120)
    lock = (run / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # the run ends
            folder(150)
            lock.close()

    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    status = watch(run, interval=3.0, console=console, sleep=sleep)
    assert looks == [3.0, 3.0]
    assert status.state == "complete"
    assert "my run: complete" in console.file.getvalue()
