"""Two gloo processes against one: started once by Composer's launcher, as a user does, and otherwise cheaply."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.synthetic import RELATIONS
from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.trains, pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def launch(start, forked_python, tmp_path):
    """A function that trains a run in two processes and gives its last checkpoint; `launcher`: by Composer's own."""

    def with_launcher(run: RunConfig) -> None:
        config = tmp_path / f"{run.name}.yaml"
        config.write_text(to_yaml(run))
        command = [forked_python, "-m", "composer.cli", "-n", "2", "main.py", str(config)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def in_two(run: RunConfig, *, launcher: bool = False) -> checkpoints.Checkpoint:
        if launcher:
            with_launcher(run)
        else:
            children = start(run, processes=2)
            assert [child.code(200) for child in children] == [0, 0], children[0].text()[-4000:]
        return checkpoints.listing(RunFolder.of(run).checkpoints)[-1]

    return in_two


def largest_difference(first: checkpoints.Checkpoint, second: checkpoints.Checkpoint, file: str) -> float:
    one, two = first.tensors(file), second.tensors(file)
    assert one.keys() == two.keys()
    return max((tensor - two[name]).abs().max().item() for name, tensor in one.items())


def norms(run) -> list[float]:
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return [line["grad_norm"] for line in lines if "grad_norm" in line]


def held_out_losses(run) -> list[float]:
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return [line[key] for line in lines if (key := "loss/eval/pair_classification") in line]


@pytest.mark.parametrize(("parallelism", "launcher"), [("ddp", True), ("fsdp", False), ("fsdp_full_shard", False)])
def test_two_processes_train_what_one_trains(tiny_run, launch, parallelism, launcher):
    # gradients that were summed instead of averaged would show in their norms, though not in Adam's weights
    alone = tiny_run("alone")
    train(alone)
    one = checkpoints.listing(RunFolder.of(alone).checkpoints)[-1]
    other = tiny_run(parallelism, system={"parallelism": parallelism})
    two = launch(other, launcher=launcher)
    assert two.tokens == one.tokens
    assert largest_difference(one, two, "model") < 1e-5
    assert largest_difference(one, two, "optimizer") < 1e-6
    assert norms(alone) == pytest.approx(norms(other), rel=1e-4)


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp", "fsdp_full_shard"])
def test_what_phases_change_and_a_resume_are_the_same_on_two_processes(tiny_run, launch, parallelism):
    sections = {
        "phases": [
            {
                "name": "detour",
                "objective": "clm",
                "tokens": 1000,
                "freeze": {"layers": "0", "embeddings": True},
                "optimizer": {"betas": [0.8, 0.9], "weight_decay": 0.2},
                "rope": {"theta": 300.0, "scaling": {"rope_type": "linear", "factor": 2.0}},
            },
            {"name": "decay", "objective": "mlm", "tokens": 1000, "optimizer": {"clip_norm": 0.2, "weight_decay": 0.4}},
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
    two = launch(run)
    assert two.tokens == one[-1].tokens
    assert largest_difference(one[-1], two, "model") < 1e-5


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp", "fsdp_full_shard"])
def test_a_module_and_a_stream_of_an_objective_are_the_same_on_two_processes(
    streamed_run, held_out_pairs, launch, parallelism
):
    # in each step, some parameters have no gradient: the head of the pairs, or the head of the language model
    measured = {
        "objectives": {"pair_classification": {"classes": sorted(RELATIONS)}},
        "streams": {"pairs": [{"path": held_out_pairs}]},
        "rows": 5,  # one process has an idle batch
    }
    alone = streamed_run(
        "alone", micro=(1, 1), evaluation=measured
    )  # of the two processes: two micro-batches of text, three of pairs
    train(alone)
    one = checkpoints.listing(RunFolder.of(alone).checkpoints)
    run = streamed_run(parallelism, micro=(1, 1), system={"parallelism": parallelism}, evaluation=measured)
    folder = RunFolder.of(run).checkpoints
    folder.mkdir(parents=True)
    os.symlink(one[2].path, folder / one[2].path.name)  # from the middle of the turns
    two = launch(run)
    assert two.tokens == one[-1].tokens
    for file in ("model", "objectives"):
        assert largest_difference(one[-1], two, file) < 1e-5
    assert held_out_losses(run)[-1] == pytest.approx(held_out_losses(alone)[-1], rel=1e-5)


def test_the_number_of_processes_may_change_at_a_resume(tiny_run, launch, tmp_path):
    alone = tiny_run("alone", checkpoint={"interval_tokens": 1})
    train(alone)
    saved = checkpoints.listing(RunFolder.of(alone).checkpoints)
    moved = tiny_run("moved", checkpoint={"interval_tokens": 1})
    folder = RunFolder.of(moved).checkpoints
    folder.mkdir(parents=True)
    os.symlink(saved[4].path, folder / saved[4].path.name)
    two = launch(moved)
    assert two.tokens == saved[-1].tokens
    assert largest_difference(saved[-1], two, "model") < 1e-5
    for late in checkpoints.listing(folder)[-4:]:
        late.path.rename(tmp_path / late.path.name)  # back to the middle, and on with one process
    train(moved)
    assert largest_difference(saved[-1], checkpoints.listing(folder)[-1], "model") < 1e-5


def test_a_batch_that_cannot_be_shared_out_is_refused_in_one_line(tiny_run, start):
    run = tiny_run("odd")
    run = replace(run, data=replace(run.data, global_batch_size=3))
    children = start(run, processes=2)
    assert [child.code() for child in children] == [1, 1]
    assert "global_batch_size: 3 is not divisible by 2 processes" in children[0].text()
