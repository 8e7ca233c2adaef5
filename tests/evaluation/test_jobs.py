"""The cells of an evaluation as processes: the same results, whatever runs them and however often it is interrupted."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, JobError
from detour.evaluation import jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TABLES = ("summary.md", "scores.md", "scores.csv", "scores.tex")


@pytest.fixture
def call(constructed, made, write_task, data_root, forked_python, tmp_path, monkeypatch):
    """A function from an output folder and further arguments to those of an evaluation of one model on one task."""
    tasks = [write_task("one", "classification", made.classification(), training={"learning_rate": 3e-3, "epochs": 1})]
    suite = tmp_path / "both.yaml"
    suite.write_text(f"tasks: [{tasks[0]}]\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def arguments(out: Path, *more: str, seeds: int = 3) -> list[str]:
        chosen = ["--suite", str(suite), "--data", str(data_root), "--seeds", str(seeds)]
        return ["eval", "run", f"model={constructed}", "task.limit.train=32", *more, *chosen, "--out", str(out)]

    return arguments


def results(out: Path) -> dict[str, object]:
    """Everything an evaluation has found: all but the seconds that it took."""
    found: dict[str, object] = {name: (out / name).read_bytes() for name in TABLES}
    for path in sorted((out / "cells").rglob("*.json")):
        if path.name.startswith("predictions"):
            found[path.name] = path.read_bytes()
        else:
            record = json.loads(path.read_text())
            assert record["outcome"].pop("seconds") > 0
            found[path.name] = json.dumps(record)
    with (out / "results.csv").open() as file:
        found["results.csv"] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return found


def test_the_results_do_not_depend_on_what_runs_the_cells(call, slurm, tmp_path):
    """In this process; in processes that are interrupted after the first record; as array jobs of a stand-in for SLURM."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = CliRunner().invoke(app, call(tmp_path / "alone"), catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
    assert alone.exit_code == 0
    expected = results(tmp_path / "alone")
    assert len(expected) == len(TABLES) + 3 + 3 + 1

    local = tmp_path / "local"
    command = [sys.executable, "-m", "detour", *call(local, "executor.parallel=1")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((local / "cells").rglob("seed*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 75
    assert "stopped by SIGINT; the same command continues" in said
    kept = {path: path.stat().st_mtime_ns for path in (local / "cells").rglob("seed*.json")}
    assert len(kept) < 3
    done = subprocess.run([*command[:3], *call(local, "executor.parallel=2")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} of 3 cells done" in done.stderr
    assert "3 of 3 cells done" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert results(local) == expected

    cluster = ["executor.cluster=slurm", "executor.parallel=3", "executor.slurm.partition=short"]
    CliRunner().invoke(app, call(tmp_path / "cluster", *cluster), catch_exceptions=False)
    assert results(tmp_path / "cluster") == expected
    assert "#SBATCH --array=0-2%3\n" in (slurm / "job-100").read_text()


def test_a_cell_that_fails_is_named_with_its_log(call, constructed, tmp_path, monkeypatch):
    """The processes do not find what this one has checked, as on a machine with other disks."""
    monkeypatch.setattr(jobs, "_job", _lost())
    with pytest.raises(JobError) as error:
        CliRunner().invoke(app, call(tmp_path / "out", "executor.parallel=2", seeds=1), catch_exceptions=False)
    assert "1 of 1 jobs failed" in str(error.value)
    assert "lost.yaml" in str(error.value)
    assert str(tmp_path / "out" / "jobs" / "model=one-seed42.log") in str(error.value)


def _lost():
    real = jobs._job

    def job(*arguments):
        made = real(*arguments)
        changed = ["lost.yaml" if word.endswith("both.yaml") else word for word in made.arguments]
        return replace(made, arguments=tuple(changed))

    return job


def test_an_executor_that_does_not_exist_is_refused_before_anything_is_read(call, tmp_path):
    with pytest.raises(ConfigError, match="executor: paralel: unknown key; did you mean 'parallel'"):
        CliRunner().invoke(app, call(tmp_path / "out", "executor.paralel=2"), catch_exceptions=False)
    assert not (tmp_path / "out").exists()
