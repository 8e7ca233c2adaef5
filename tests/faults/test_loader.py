"""Row 16: a loader process that dies, raises or falls silent ends the run within its time-out."""

from __future__ import annotations

import shutil
import signal

import pytest

pytestmark = pytest.mark.timeout(200)


@pytest.mark.faults(16, "a loader process is killed, or stopped for good: an error in time, and the command goes on")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_loader_process_that_dies_or_falls_silent_ends_the_run_in_time(tiny_run, start, left, number):
    run = tiny_run(data={"workers": 2, "timeout_seconds": 2}, checkpoint={"interval_tokens": 1})
    (child,) = start(run, fault=("signal_workers", 1, number))
    assert child.code(30) == 1
    assert "error: data.train: a loader process died, or brought nothing for 2 seconds" in child.text()
    assert left(run).saved
    assert start(run)[0].code() == 0


@pytest.mark.faults(16, "reading falls silent, in a loader process or in the training process itself")
@pytest.mark.parametrize("workers", [0, 2])
def test_reading_that_falls_silent_ends_the_run_in_time(tiny_run, start, workers):
    run = tiny_run(data={"workers": workers, "timeout_seconds": 1})
    (child,) = start(run, fault=("silent_rows", 10))
    assert child.code(30) == 1
    assert "error: data.train: a loader process died, or brought nothing for 1 seconds" in child.text()


@pytest.mark.faults(16, "on one of two processes: both end")
def test_the_other_process_ends_too(tiny_run, start):
    run = tiny_run(data={"workers": 1, "timeout_seconds": 2})
    children = start(run, fault=("signal_workers", 1, signal.SIGKILL), processes=2)
    assert [child.code(60) for child in children] == [1, 1]


@pytest.mark.faults(16, "a shard vanishes while a loader process reads")
def test_an_error_of_a_loader_process_names_its_file(tiny_run, start, corpus, tmp_path):
    rows = tmp_path / "rows"
    shutil.copytree(corpus.train, rows)
    run = tiny_run(data={"workers": 1, "train": [{"path": str(rows)}]})
    (child,) = start(run, fault=("lose_shards", 1, str(rows)))
    assert child.code(60) == 1
    assert "shard.00000.mds" in child.text()


@pytest.mark.faults(16, "SIGKILL of the run while its loader processes live: the same command starts at once")
def test_loader_processes_that_outlive_a_killed_run_do_not_hold_its_folder(tiny_run, start):
    run = tiny_run(data={"workers": 1}, checkpoint={"interval_tokens": 1})
    (child,) = start(run, fault=("signal_at", 6, signal.SIGKILL, 0))
    assert child.code() == -signal.SIGKILL
    assert start(run)[0].code() == 0
