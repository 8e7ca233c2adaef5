"""Row 5: a signal or the time limit in mid-step is one coordinated save, exit code 75, and a bitwise resume."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detour.config.load import to_yaml

pytestmark = pytest.mark.timeout(200)
REPOSITORY = Path(__file__).parents[2]
DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}


def with_dropout(tiny_run, name: str, **sections):
    return tiny_run(
        name,
        model={**tiny_run().model.__dict__, "architecture": {**tiny_run().model.architecture, **DROPOUT}},
        **sections,
    )


@pytest.mark.faults(5, "SIGTERM in mid-step on one of two processes: both save once and end with 75; bitwise resume")
@pytest.mark.parametrize("parallelism", ["ddp", pytest.param("fsdp", marks=pytest.mark.long)])
def test_a_signal_to_one_process_saves_once_on_all(tiny_run, start, left, assert_same_end, parallelism):
    sections = {"system": {"parallelism": parallelism}}
    whole, part = (with_dropout(tiny_run, name, **sections) for name in ("whole", "part"))
    assert [child.code() for child in start(whole, processes=2)] == [0, 0]
    children = start(part, fault=("signal_at", 5, signal.SIGTERM, 1), processes=2)
    assert [child.code() for child in children] == [75, 75]
    batches = [checkpoint.state()["timestamp"]["batch"] for checkpoint in left(part).saved]
    assert batches == [4, 6], "the end of a phase, and the step of the signal"
    assert "stopped early (SIGTERM); the same command continues" in children[1].text()
    assert "stopped early (another process was asked to)" in children[0].text()
    assert [child.code() for child in start(part, processes=2)] == [0, 0]
    assert_same_end(left(whole), left(part))


@pytest.mark.faults(5, "the same signal through Composer's launcher: its exit code is 75")
@pytest.mark.long
def test_the_launcher_passes_the_exit_code_on(tiny_run, left, tmp_path):
    run = tiny_run(phases=[{"name": "endless", "objective": "mlm", "tokens": 10**12}], schedule={"decay_phase": None})
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    command = [sys.executable, "-m", "composer.cli", "-n", "2", "main.py", str(tmp_path / "run.yaml")]
    launcher = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = left(run).folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert launcher.poll() is None
        signal.sigtimedwait([], 0.1)
    launcher.send_signal(signal.SIGTERM)
    text, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 75, text[-3000:]
    (saved,) = left(run).saved
    assert saved.validate() is None


@pytest.mark.faults(5, "SIGTERM to loader processes too, as schedulers send it")
def test_a_signal_to_every_process_of_the_run_saves_too(tiny_run, start, left):
    run = tiny_run(data={"workers": 2, "micro_batch_size": 4})
    (child,) = start(run, fault=("signal_workers", 1, signal.SIGTERM, True))
    assert child.code() == 75
    assert len(left(run).saved) == 1


@pytest.mark.faults(5, "Ctrl-C: saved; twice: at once")
def test_one_ctrl_c_saves_and_a_second_does_not_wait(tiny_run, start, left):
    once = tiny_run("once", data={"micro_batch_size": 4})  # the signal comes in each micro-batch
    (child,) = start(once, fault=("signal_at", 1, signal.SIGINT, 0))
    assert child.code() == 75
    assert len(left(once).saved) == 1
    twice = tiny_run("twice", data={"micro_batch_size": 2})
    (child,) = start(twice, fault=("signal_at", 1, signal.SIGINT, 0))
    assert child.code() not in (0, 75)
    assert left(twice).saved == []


@pytest.mark.faults(5, "a wall-clock limit: saved in time, 75, and finished by repeating the command")
def test_a_time_limit_of_nothing_still_makes_a_step_each_start(tiny_run, start, left, assert_same_end):
    sections = {"checkpoint": {"interval_tokens": 10**9, "keep": 1}, "data": {"workers": 1}}
    whole, part = tiny_run("whole", **sections), tiny_run("part", **sections)
    assert start(whole)[0].code() == 0
    codes = [start(part, "system.max_minutes=0")[0].code() for _ in range(3)]
    assert codes == [75] * 3
    assert left(part).last.state()["timestamp"]["batch"] == 3
    assert start(part, "system.max_minutes=100")[0].code() == 0
    assert_same_end(left(whole), left(part))


@pytest.mark.faults(5, "a wall-clock limit of seconds, by the real clock")
def test_a_run_ends_before_its_time_is_over(tiny_run, start, left):
    endless = [{"name": "endless", "objective": "mlm", "tokens": 10**12}]
    run = tiny_run(phases=endless, schedule={"decay_phase": None}, system={"max_minutes": 8 / 60})
    began = time.monotonic()
    (child,) = start(run)
    assert child.code(60) == 75
    assert time.monotonic() - began < 12  # the limit, and what comes before it counts and after it is kept
    (saved,) = left(run).saved
    assert saved.state()["timestamp"]["batch"] > 5
