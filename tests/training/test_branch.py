"""A run that branches from another run's checkpoint is the run that trained alone, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detour.config.load import from_mapping
from detour.config.other_runs import BranchConfig
from detour.config.schema import RunConfig
from detour.cost.ledger import read_costs
from detour.errors import CheckpointError, ConfigError
from detour.export.run import export_run
from detour.report.compare import compare_runs
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

MLM = {"name": "stable", "objective": "mlm", "tokens": 1500}
CLM = {"name": "detour", "objective": "clm", "tokens": 700}
DECAY = {"name": "decay", "objective": "mlm", "tokens": 700, "options": {"rate": 0.15}}
TIMED = ("throughput/", "memory/", "time/")


def last(run: RunConfig) -> checkpoints.Checkpoint:
    return checkpoints.listing(RunFolder.of(run).checkpoints)[-1]


def lines(run: RunConfig) -> list[dict]:
    read = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(TIMED)} for line in read]


def branched(run: RunConfig, trunk: RunConfig, tokens: int | None = None, name: str = "branch") -> RunConfig:
    return replace(run, name=name, branch=BranchConfig(run=str(RunFolder.of(trunk).path), tokens=tokens))


def assert_same_weights(one: checkpoints.Checkpoint, other: checkpoints.Checkpoint) -> None:
    assert one.tokens == other.tokens
    for file in ("model", "optimizer", "rng"):
        ours, theirs = one.tensors(file), other.tensors(file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def runs(tiny_run):
    """The arm that trains alone, and the trunk that another arm could share with it."""
    alone = tiny_run("alone", phases=[CLM, DECAY])
    trunk = tiny_run("trunk", phases=[CLM], schedule={"decay_phase": None})
    train(trunk)
    return alone, trunk


def test_a_branch_at_a_phase_boundary_equals_the_run_that_trained_alone(runs):
    alone, trunk = runs
    train(alone)
    branch = branched(alone, trunk, 700)
    train(branch)
    assert_same_weights(last(branch), last(alone))
    mine, theirs = last(branch).state(), last(alone).state()
    assert mine["callbacks"]["Ledger"]["fingerprint"] == theirs["callbacks"]["Ledger"]["fingerprint"]
    for ours, other in zip(read_costs(mine), read_costs(theirs), strict=True):
        assert (ours.tokens, ours.supervised, ours.flops, ours.steps) == (
            other.tokens, other.supervised, other.flops, other.steps,
        )  # fmt: skip
    assert lines(branch) == lines(alone)
    (shared,) = mine["run"]["branch"]["costs"]
    (counted,) = read_costs(last(trunk).state())
    assert (shared["tokens"], shared["flops"]) == (counted.tokens, counted.flops)
    assert mine["run"]["branch"]["tokens"] == last(trunk).tokens
    assert compare_runs([RunFolder.of(alone).path, RunFolder.of(branch).path]).same
    out = RunFolder.of(branch).path / "export"
    export_run(RunFolder.of(branch).path, out)
    sentence = f"The first {last(trunk).tokens:,} tokens ({counted.flops:.3e} FLOPs) were trained once for several runs"
    assert sentence in (out / "README.md").read_text()


def test_a_branch_in_the_middle_of_a_phase_equals_the_run_that_trained_alone(tiny_run):
    """The trunk ends where another arm flips to CLM; this arm goes on with the same objective."""
    alone = tiny_run("alone", phases=[MLM, DECAY])
    trunk = tiny_run("trunk", phases=[{**MLM, "tokens": 800}], schedule={"decay_phase": None})
    train(trunk)
    branch = branched(alone, trunk)
    train(alone)
    train(branch)
    assert_same_weights(last(branch), last(alone))


def test_a_branch_resumes_from_its_own_checkpoints(runs):
    """Its first half is a run that ends early; the trunk is gone by then."""
    alone, trunk = runs
    train(alone)
    branch = branched(alone, trunk)
    half = replace(branch, phases=[branch.phases[0], replace(branch.phases[1], tokens=300)])
    half = replace(half, schedule=replace(half.schedule, decay_phase=None))
    whole = replace(branch, schedule=replace(branch.schedule, decay_phase=None))
    train(half)
    RunFolder.of(trunk).path.rename(RunFolder.of(trunk).path.with_name("moved"))
    train(whole)
    assert last(whole).tokens == last(alone).tokens
    assert last(whole).state()["run"]["branch"] == last(half).state()["run"]["branch"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 18}, "seed: was 17, now 18"),
        ({"data": {"shuffle_seed": 1}}, "data.shuffle_seed: was 42, now 1"),
        ({"data": {"micro_batch_size": 4}}, "data.micro_batch_size: was 2, now 4"),
        ({"system": {"precision": "bf16"}}, "system.precision: was 'fp32', now 'bf16'"),
        ({"guard": {"max_skips": 1}}, "guard: was"),
        ({"optimizer": {"eps": 1e-8}}, "optimizer: was"),
        ({"schedule": {"peak_lr": 2e-3}}, "schedule: the learning rate at token"),
        ({"phases": [{**CLM, "objective": "mlm"}, DECAY]}, "phases[0].objective: was 'clm', now 'mlm'"),
        ({"phases": [{**CLM, "freeze": {"layers": "0"}}, DECAY]}, "phases[0].freeze: was"),
        ({"phases": [{**CLM, "tokens": 300}, {**DECAY, "tokens": 1100}]}, "phases[0].tokens: was 700, now 300"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_branch_that_would_have_trained_otherwise_is_refused(runs, tiny_run, changes, named):
    _, trunk = runs
    run = tiny_run("branch", **{"phases": [CLM, DECAY], **changes})
    with pytest.raises(CheckpointError, match="cannot branch from here") as error:
        train(branched(run, trunk))
    assert named in str(error.value)
    assert not RunFolder.of(run).checkpoints.exists()


def test_a_branch_point_that_does_not_exist_is_refused(runs):
    alone, trunk = runs
    with pytest.raises(CheckpointError, match="no checkpoint at or after 5,000"):
        train(branched(alone, trunk, 5000))
    with pytest.raises(CheckpointError, match="no checkpoints there"):
        train(replace(alone, name="branch", branch=BranchConfig(run=str(Path(trunk.folder) / "nowhere"))))


def test_a_damaged_branch_point_is_refused(runs):
    alone, trunk = runs
    weights = last(trunk).path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        train(branched(alone, trunk, 700))


def test_tokens_without_a_run_and_a_matched_budget_are_refused(tiny_run):
    for branch, match in [({"tokens": 5}, {}), ({"run": "a"}, {"run": "b"})]:
        with pytest.raises(ConfigError, match=r"branch\."):
            tiny_run(branch=branch, match=match)


def test_the_configuration_round_trips(tiny_run):
    run = tiny_run(branch={"run": "runs/trunk", "tokens": 7})
    assert run.branch == BranchConfig(run="runs/trunk", tokens=7)
    assert from_mapping({"branch": {"run": "runs/trunk"}, **_rest(tiny_run())}).branch.tokens is None


def _rest(run: RunConfig) -> dict:
    from dataclasses import asdict

    return {key: value for key, value in asdict(run).items() if key != "branch"}
