"""The list of runs below a folder, from folders written by hand."""

from __future__ import annotations

import fcntl
import json
import os

import pytest
import yaml

from detour.cli.main import main
from detour.errors import DataError
from detour.report.run_list import DEPTH, list_runs

PHASES = [{"name": "detour", "objective": "clm", "tokens": 1_000}, {"name": "decay", "objective": "mlm", "tokens": 500}]
WRITTEN = 1_700_000_000


@pytest.fixture
def write(tmp_path):
    """A function that writes a run of steps of 100 tokens, whose last line is a number of seconds old."""

    def to(name: str, steps: int, *, age: int):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"name": name, "phases": PHASES}))
        (folder / "environment.json").write_text("{}")
        lines = [
            {
                "batch": n,
                "token": 100 * n,
                "phase/index": int(n > 10),
                "lr": 1e-3,
                "grad_norm": 1.0,
                "loss/train/total": 5.0,
            }
            for n in range(1, steps + 1)
        ]
        lines.append({"batch": steps, "token": 100 * steps, "loss/eval/mlm": 7.25, "loss/eval/clm": 6.5})
        metrics = folder / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(metrics, (WRITTEN - age, WRITTEN - age))
        return folder

    return to


def test_runs_are_listed_in_one_line_each_the_last_written_first(write, tmp_path, monkeypatch, capsys):
    write("runs/old", 15, age=90)
    write("experiments/one/runs/detour-seed17", 12, age=10)
    live = write("runs/live", 5, age=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: float(WRITTEN))
    with (live / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as exit:
            main(["status"])
    assert not exit.value.code
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "runs/" in line]
    cells = [" ".join(word for word in row if word != "│") for row in rows]
    assert cells == [
        "runs/live training detour: clm 500 of 1.5k (33%) 5.0000 mlm 7.2500, clm 6.5000 1.0 s ago",
        "experiments/one/runs/detour-seed17 stopped decay: mlm 1.2k of 1.5k (80%) 5.0000 mlm 7.2500, clm 6.5000 10.0 s ago",
        "runs/old complete decay: mlm 1.5k of 1.5k (100%) 5.0000 mlm 7.2500, clm 6.5000 90.0 s ago",
    ]


def test_a_run_that_cannot_be_read_or_has_no_batch_does_not_hide_the_others(write, tmp_path):
    write("good", 3, age=1)
    (write("bad", 3, age=2) / "config.yaml").write_text("phases: 3\n")
    begun = write("begun", 3, age=3)
    (begun / "metrics.jsonl").unlink()
    (begun / "run.json").write_text("{}")
    os.utime(begun / "run.json", (WRITTEN - 3, WRITTEN - 3))
    good, bad, begun = list_runs(tmp_path)
    assert (good.folder.name, good.problem) == ("good", "")
    assert bad.status is None
    assert bad.problem.startswith("cannot be read: config.yaml: not the configuration of a run")
    assert (begun.folder.name, begun.problem) == ("begun", "no batch yet")


def test_folders_too_deep_hidden_or_inside_a_run_are_not_searched(write, tmp_path):
    write("a/b/c/d", 3, age=1)
    write("a/b/c/e/f", 3, age=1)
    write(".hidden", 3, age=1)
    write("a/b/c/d/copy", 3, age=1)
    assert [run.folder.as_posix() for run in list_runs(tmp_path)] == ["a/b/c/d"]
    assert DEPTH == 4


def test_a_folder_without_runs_is_an_error_that_says_what_a_run_is(tmp_path):
    with pytest.raises(DataError, match=r"neither a run folder \(config.yaml and metrics.jsonl\) nor one with runs"):
        list_runs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        list_runs(tmp_path / "none")
