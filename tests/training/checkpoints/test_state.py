"""Stop anywhere, run the same command again: weights, optimizer, random numbers and losses as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}


def with_dropout(run_maker, name, **sections):
    model = run_maker().model
    architecture = {**model.architecture, **DROPOUT}
    return run_maker(name, model={"architecture": architecture}, checkpoint={"interval_tokens": 1}, **sections)


def metrics_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith(("throughput/", "memory/"))} for line in lines
    ]


def assert_bitwise_equal(first: checkpoints.Checkpoint, second: checkpoints.Checkpoint) -> None:
    assert first.tokens == second.tokens
    for file in ("model", "optimizer", "rng"):
        expected, found = first.tensors(file), second.tensors(file)
        assert expected.keys() == found.keys()
        assert len(expected) > 0
        for name, tensor in expected.items():
            assert torch.equal(tensor, found[name]), f"{file}: {name}"


def resume_from_each(run_maker, choose, **sections) -> None:
    """Runs to the end, then once more from each of the chosen checkpoints, and compares the ends."""
    whole = with_dropout(run_maker, "whole", **sections)
    train(whole)
    original = RunFolder.of(whole)
    saved = checkpoints.listing(original.checkpoints)
    for step in choose(saved):
        part = with_dropout(run_maker, f"from-{step}", **sections)
        folder = RunFolder.of(part)
        shutil.copytree(saved[step].path, folder.checkpoints / saved[step].path.name)
        shutil.copy(original.metrics, folder.metrics)
        train(part)
        assert_bitwise_equal(saved[-1], checkpoints.listing(folder.checkpoints)[-1])
        assert metrics_of(folder.path) == metrics_of(original.path)


@pytest.mark.faults(1, "stop and resume at each of 12 steps, both flips included, with dropout: bitwise equal")
def test_a_resume_at_any_step_is_bitwise_equal_to_the_unbroken_run(tiny_run):
    def every_step(saved):
        assert len(saved) == 12, "four steps of about 255 tokens in each phase"
        return range(len(saved) - 1)

    resume_from_each(tiny_run, every_step)


@pytest.mark.faults(1, "the same with two loader processes")
def test_a_resume_with_loader_processes_is_bitwise_equal_too(tiny_run):
    resume_from_each(tiny_run, lambda saved: (1, 7), data={"workers": 2})


def test_a_resume_in_a_later_epoch_or_at_its_edge_is_bitwise_equal(tiny_run):
    def edge_of_an_epoch_and_the_step_after(saved):
        times = [checkpoint.state()["timestamp"] for checkpoint in saved]
        assert times[-1]["epoch"] >= 2, "the run must turn over"
        last = [at for at, time in enumerate(times[:-1]) if times[at + 1]["epoch"] > time["epoch"]]
        return (last[0], last[0] + 1)

    phases = [
        {"name": "before", "objective": "mlm", "tokens": 40_000},
        {"name": "detour", "objective": "clm", "tokens": 30_000},
    ]
    data = {"global_batch_size": 100, "micro_batch_size": 100}  # few steps an epoch; the last partial one is dropped
    resume_from_each(
        tiny_run, edge_of_an_epoch_and_the_step_after, phases=phases, data=data, schedule={"decay_phase": None}
    )


def test_a_complete_run_is_left_alone(tiny_run):
    run = tiny_run()
    train(run)
    before = (RunFolder.of(run).metrics).read_bytes()
    train(run)
    assert RunFolder.of(run).metrics.read_bytes() == before


@pytest.mark.faults(18, "another seed on resume: refused with the difference")
def test_a_changed_past_is_refused_with_its_differences(tiny_run):
    train(tiny_run(phases=[{"name": "before", "objective": "mlm", "tokens": 1000}], schedule={"decay_phase": None}))
    with pytest.raises(checkpoints.CheckpointError, match=r"seed: was 17, now 18") as caught:
        train(
            tiny_run(
                seed=18, phases=[{"name": "before", "objective": "mlm", "tokens": 2000}], schedule={"decay_phase": None}
            )
        )
    assert "would change what was already trained" in str(caught.value)


def test_a_longer_future_is_allowed(tiny_run):
    short = [{"name": "before", "objective": "mlm", "tokens": 1000}]
    train(tiny_run(phases=short, schedule={"decay_phase": None}))
    longer = tiny_run(
        phases=[*short, {"name": "detour", "objective": "clm", "tokens": 1000}], schedule={"decay_phase": None}
    )
    train(longer)
    assert checkpoints.listing(RunFolder.of(longer).checkpoints)[-1].tokens >= 2000


def test_damaged_checkpoints_are_passed_over_and_never_lead_to_a_silent_restart(tiny_run):
    run = tiny_run(checkpoint={"interval_tokens": 1})
    train(run)
    saved = checkpoints.listing(RunFolder.of(run).checkpoints)
    for checkpoint in saved[1:]:
        file = checkpoint.path / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    train(run)
    again = checkpoints.listing(RunFolder.of(run).checkpoints)
    assert again[-1].tokens == saved[-1].tokens
    assert again[-1].validate() is None
    for checkpoint in again:
        (checkpoint.path / "manifest.json").unlink()
    with pytest.raises(checkpoints.CheckpointError, match="all checkpoints of this run are damaged"):
        train(run)


def test_other_decays_may_branch_off_the_end_of_a_phase(tiny_run):
    trunk = [{"name": "detour", "objective": "clm", "tokens": 1000}]
    decay = {"name": "decay", "objective": "mlm", "tokens": 500}
    train(tiny_run(phases=[*trunk, decay]))
    folder = RunFolder.of(tiny_run()).checkpoints
    shutil.rmtree(checkpoints.listing(folder)[-1].path)  # back to the trunk's end, which lies a few tokens past it
    other = tiny_run(phases=[*trunk, {**decay, "tokens": 900, "options": {"rate": 0.4}}], schedule={"shape": "linear"})
    train(other)
    assert checkpoints.listing(folder)[-1].tokens >= 1900


@pytest.mark.parametrize("name", ["adamw", "stableadamw"])
def test_a_resume_in_a_phase_with_its_own_optimizer_and_at_its_edges_is_bitwise_equal(tiny_run, name):
    own = {"betas": [0.8, 0.9], "weight_decay": 9e-4, "clip_norm": "none"}
    phases = [
        {"name": "first", "objective": "mlm", "tokens": 1000},
        {"name": "detour", "objective": "clm", "tokens": 1000, "optimizer": own},
        {"name": "decay", "objective": "mlm", "tokens": 1000},
    ]
    optimizer = {"name": name, "weight_decay": 1e-4, "clip_norm": 0.5}
    resume_from_each(tiny_run, lambda saved: (3, 5, 7), phases=phases, optimizer=optimizer)


YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16}


def test_a_resume_in_a_phase_with_its_own_rotary_positions_and_at_its_edges_is_bitwise_equal(tiny_run):
    phases = [
        {"name": "first", "objective": "mlm", "tokens": 1000, "rope": {"theta": 10_000.0}},
        {"name": "detour", "objective": "clm", "tokens": 1000, "rope": {"scaling": YARN}},
        {"name": "decay", "objective": "mlm", "tokens": 1000, "rope": {"theta": 500.0, "local_theta": 50.0}},
    ]
    resume_from_each(tiny_run, lambda saved: (1, 3, 5, 7), phases=phases, evaluation={"interval_tokens": 200})


FROZEN = {"layers": "0-1", "embeddings": True}


@pytest.mark.parametrize(
    "detour",
    [{"freeze": FROZEN}, {"optimizer_state": "reset"}, {"freeze": FROZEN, "optimizer_state": "reset"}],
    ids=["frozen", "reset", "both"],
)
def test_a_resume_at_the_edge_of_a_phase_that_freezes_or_resets_is_bitwise_equal(tiny_run, detour):
    phases = [
        {"name": "first", "objective": "clm", "tokens": 1000, "freeze": {"layers": "0"}},  # frozen from the first token
        {"name": "detour", "objective": "clm", "tokens": 1000, **detour},
        {"name": "decay", "objective": "mlm", "tokens": 1000},
    ]
    resume_from_each(tiny_run, lambda saved: (1, 3, 5), phases=phases)
