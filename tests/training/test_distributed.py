"""Two real gloo processes, started as a user starts them, against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from detour.config.load import to_yaml
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.trains, pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).parents[2]


def launch(run, processes: int, tmp_path: Path, *overrides: str) -> checkpoints.Checkpoint:
    """`composer -n PROCESSES main.py CONFIG`, and the run's last checkpoint."""
    config = tmp_path / f"{run.name}.yaml"
    config.write_text(to_yaml(run))
    command = [sys.executable, "-m", "composer.cli", "-n", str(processes), "main.py", str(config), *overrides]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return checkpoints.listing(RunFolder.of(run).checkpoints)[-1]


def largest_difference(first: checkpoints.Checkpoint, second: checkpoints.Checkpoint, file: str) -> float:
    one, two = first.tensors(file), second.tensors(file)
    assert one.keys() == two.keys()
    return max((tensor - two[name]).abs().max().item() for name, tensor in one.items())


def norms(run) -> list[float]:
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return [line["grad_norm"] for line in lines if "grad_norm" in line]


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_two_processes_train_what_one_trains(tiny_run, tmp_path, parallelism):
    # gradients that were summed instead of averaged would show in their norms, though not in Adam's weights
    alone = tiny_run("alone")
    train(alone)
    one = checkpoints.listing(RunFolder.of(alone).checkpoints)[-1]
    other = tiny_run(parallelism, system={"parallelism": parallelism})
    two = launch(other, 2, tmp_path)
    assert two.tokens == one.tokens
    assert largest_difference(one, two, "model") < 1e-5
    assert largest_difference(one, two, "optimizer") < 1e-6
    assert norms(alone) == pytest.approx(norms(other), rel=1e-4)


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_freezing_clipping_and_a_resume_are_the_same_on_two_processes(tiny_run, tmp_path, parallelism):
    sections = {
        "phases": [
            {"name": "detour", "objective": "clm", "tokens": 1000, "freeze": {"layers": "0", "embeddings": True}},
            {"name": "decay", "objective": "mlm", "tokens": 1000},
        ],
        "optimizer": {"clip_norm": 0.5},
    }
    alone = tiny_run("alone", **sections)
    train(alone)
    one = checkpoints.listing(RunFolder.of(alone).checkpoints)
    run = tiny_run(parallelism, system={"parallelism": parallelism}, **sections)
    folder = RunFolder.of(run).checkpoints
    folder.mkdir(parents=True)
    os.symlink(one[0].path, folder / one[0].path.name)  # from the end of the frozen phase
    two = launch(run, 2, tmp_path)
    assert two.tokens == one[-1].tokens
    assert largest_difference(one[-1], two, "model") < 1e-5


def test_the_number_of_processes_may_change_at_a_resume(tiny_run, tmp_path):
    alone = tiny_run("alone", checkpoint={"interval_tokens": 1})
    train(alone)
    saved = checkpoints.listing(RunFolder.of(alone).checkpoints)
    moved = tiny_run("moved", checkpoint={"interval_tokens": 1})
    folder = RunFolder.of(moved).checkpoints
    folder.mkdir(parents=True)
    os.symlink(saved[4].path, folder / saved[4].path.name)
    two = launch(moved, 2, tmp_path)
    assert two.tokens == saved[-1].tokens
    assert largest_difference(saved[-1], two, "model") < 1e-5
    for late in checkpoints.listing(folder)[-4:]:
        late.path.rename(tmp_path / late.path.name)  # back to the middle, and on with one process
    train(moved)
    assert largest_difference(saved[-1], checkpoints.listing(folder)[-1], "model") < 1e-5


def test_a_batch_that_cannot_be_shared_out_is_refused_in_one_line(tiny_run, tmp_path):
    run = tiny_run("odd")
    run = replace(run, data=replace(run.data, global_batch_size=3))
    with pytest.raises(AssertionError, match=r"global_batch_size: 3 is not divisible by 2 processes"):
        launch(run, 2, tmp_path)
