"""A run may continue from a checkpoint only if nothing that was already trained would change."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest

from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from detour.training.checkpoints.resume_rules import differences

BASE: dict[str, Any] = {
    "name": "run",
    "model": {"size": "tiny", "tokenizer": "folder"},
    "data": {"train": [{"path": "rows"}], "seq_len": 64, "global_batch_size": 4, "micro_batch_size": 2},
    "phases": [
        {"name": "before", "objective": "mlm", "tokens": 100_000},
        {"name": "detour", "objective": "clm", "tokens": 100_000, "rewarm_tokens": 50},
        {"name": "decay", "objective": "mlm", "tokens": 10_000},
    ],
    "schedule": {"peak_lr": 1e-3, "final_lr": 1e-4, "warmup_tokens": 60, "decay_phase": "decay"},
    "checkpoint": {"interval_tokens": 100},
    "evaluation": {"interval_tokens": 100},
}
END = 210_000


def run_with(**changes: Any) -> RunConfig:
    """``schedule__peak_lr=2e-3`` or ``phases__2__tokens=5`` replaces one value."""
    values = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        at: Any = values
        for part in parents:
            at = at[part] if isinstance(at, list) else at.setdefault(part, {})
        at[last] = value
    return from_mapping(values)


def record_of(run: RunConfig) -> dict[str, Any]:
    """As it lies in a checkpoint: through JSON."""
    return json.loads(json.dumps({"config": asdict(run), "tokenizer": "t" * 64, "data": [["r" * 64, None]]}))


def differ(now: RunConfig, *, tokens: int, before: RunConfig | None = None, **record: Any) -> list[str]:
    return differences(record_of(before or run_with()), now, {**record_of(now), **record}, tokens=tokens)


@pytest.mark.parametrize("tokens", [0, 1, 60, 100_000, 150_000, END, END + 200])
def test_the_same_run_may_always_continue(tokens):
    assert differ(run_with(), tokens=tokens) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 18}, "seed: was 17, now 18"),
        ({"model__init": "folder"}, "model.init: was None, now 'folder'"),
        ({"model__size": "ettin-17m"}, "model.size: was 'tiny', now 'ettin-17m'"),
        ({"model__architecture": {"mlp_dropout": 0.1}}, "model.architecture: was {}, now {'mlp_dropout': 0.1}"),
        ({"data__seq_len": 128}, "data.seq_len: was 64, now 128"),
        ({"data__global_batch_size": 8}, "data.global_batch_size: was 4, now 8"),
        ({"data__shuffle": False}, "data.shuffle: was True, now False"),
        ({"data__shuffle_seed": 1}, "data.shuffle_seed: was 42, now 1"),
        ({"data__canonical_nodes": 2}, "data.canonical_nodes: was 1, now 2"),
        ({"optimizer__eps": 1e-8}, "optimizer: was {"),
        ({"optimizer__clip_norm": 1.0}, "optimizer: was {"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_what_every_batch_depended_on_is_fixed(change, line):
    (found,) = differ(run_with(**change), tokens=1000)
    assert found.startswith(line)


@pytest.mark.faults(18, "another tokenizer or other rows on resume: reported")
@pytest.mark.parametrize("key", ["tokenizer", "data"])
def test_another_tokenizer_or_other_rows_are_reported(key):
    (line,) = differ(run_with(), tokens=1000, **{key: "other"})
    assert line.startswith(f"{key}: was ")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other", "folder": "elsewhere"},
        {"data__micro_batch_size": 1, "data__workers": 0},
        {"data__train": [{"path": "moved"}]},
        {"model__tokenizer": "moved", "model__compile": True},
        {"system__precision": "bf16"},
        {"checkpoint__interval_tokens": 7, "evaluation__rows": 1},
        {"logging__wandb_project": "p"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_no_batch_depended_on_is_free(change):
    assert differ(run_with(**change), tokens=1000) == []


# --- phases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"phases__2__tokens": 20_000},
        {"phases__2__objective": "clm"},
        {"phases__2__lr_factor": 0.5},
        {"phases__1__tokens": 150_000},
        {"phases": [*BASE["phases"], {"name": "more", "objective": "clm", "tokens": 500}]},
        {"phases": BASE["phases"][:2], "schedule__decay_phase": None},
    ],
    ids=str,
)
def test_the_future_of_the_phases_may_change(change):
    assert differ(run_with(**change), tokens=150_000) == []


@pytest.mark.faults(18, "another objective, length or freezing of a phase that has begun: reported")
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"phases__0__objective": "clm"}, "phases[0].objective: was 'mlm', now 'clm'"),
        ({"phases__0__tokens": 90_000}, "phases[0].tokens: was 100000, now 90000"),
        ({"phases__1__tokens": 40_000}, "phases[1].tokens: was 100000, now 40000"),
        ({"phases__1__freeze": {"embeddings": True}}, "phases[1].freeze: "),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_the_past_of_the_phases_may_not(change, line):
    assert any(found.startswith(line) for found in differ(run_with(**change), tokens=150_000))


def one_phase(tokens: int, *more: dict[str, Any], decay_phase: str | None = None) -> RunConfig:
    phases = [{"name": "detour", "objective": "clm", "tokens": tokens}, *more]
    return run_with(phases=phases, schedule__decay_phase=decay_phase)


DECAY = {"name": "decay", "objective": "mlm", "tokens": 300}


@pytest.mark.parametrize("overshoot", [0, 1, 37])
def test_a_finished_run_may_be_given_a_decay_or_be_lengthened(overshoot):
    """Its last batch may have ended beyond the last token; no batch began there."""
    before = one_phase(1000)
    for now in (
        one_phase(1000, DECAY, decay_phase="decay"),
        one_phase(3000),
        one_phase(3000, {**DECAY, "lr_factor": 0.1}),
    ):
        assert differ(now, before=before, tokens=1000 + overshoot) == []


# --- the learning rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"schedule__peak_lr": 2e-3},
        {"schedule__warmup_tokens": 61},  # however short beside the run
        {"schedule__warmup_tokens": 0},
        {"schedule__decay_phase": "detour"},
        {"schedule__decay_phase": "before"},
    ],
    ids=str,
)
def test_another_rate_in_the_past_is_reported_with_its_token(change):
    (line,) = [line for line in differ(run_with(**change), tokens=150_000) if line.startswith("schedule")]
    assert line.startswith("schedule: the learning rate at token ")


@pytest.mark.parametrize(
    "change",
    [
        {"schedule__final_lr": 0.0},
        {"schedule__shape": "linear"},
        {"schedule__decay_phase": None},
    ],
    ids=str,
)
def test_the_decay_may_change_until_it_has_begun(change):
    assert differ(run_with(**change), tokens=200_000) == []
    (line,) = differ(run_with(**change), tokens=201_000)
    assert line.startswith("schedule: the learning rate at token 200,")


def test_a_decay_under_way_may_not_be_lengthened():
    """Its curve would have been another from its first batch on."""
    lines = differ(run_with(phases__2__tokens=20_000), tokens=205_000)
    assert [line.split(":")[0] for line in lines] == ["schedule"]


def test_every_difference_has_its_line():
    now = run_with(seed=1, data__shuffle=False, phases__0__lr_factor=0.5)
    found = [line.split(":")[0] for line in differ(now, tokens=1000, tokenizer="other")]
    assert found == ["seed", "data.shuffle", "tokenizer", "phases[0].lr_factor", "schedule"]
