"""Contradictions of a configuration: one case for each check."""

from __future__ import annotations

import pytest

from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from tests.config.values import problems, values

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__size": "tinny"}, "model.size: no 'tinny'; did you mean 'tiny'?"),
        (
            {"model__architecture": {"num_attention_heads": 3}},
            "architecture: hidden_size 128 over num_attention_heads 3",
        ),
        ({"model__architecture": {"num_attention_heads": 0}}, "architecture: num_attention_heads is 0"),
        ({"model__attention_backend": "flsh"}, "model.attention_backend: 'flsh'; did you mean 'flash'?"),
        ({"model__tokenizer": None}, "model.tokenizer: missing"),
        ({"data__train": []}, "data.train: empty"),
        (
            {"data__train": [{"path": "a", "proportion": 1.0}, {"path": "b"}]},
            "data.train: proportion is given for some",
        ),
        ({"data__train__0__proportion": 0.0}, "data.train: every proportion must be above 0"),
        ({"data__train__0__proportion": NAN}, "data.train: every proportion must be above 0"),
        ({"data__train__0__proportion": 0.9}, "data.train: proportions sum to 0.9, expected 1"),
        (
            {"data__validation__0__proportion": 2.0},
            "data.validation: rows are drawn in proportion to the folders' sizes",
        ),
        ({"data__train__0__name": "x"}, "data.train: name is for folders of held-out rows, as in data.validation"),
        ({"data__validation__0__name": "a/b"}, "data.validation: the name 'a/b' holds '/'"),
        (
            {"data__validation": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]},
            "data.validation: 2 folders are called 'x'",
        ),
        ({"data__seq_len": 7}, "data.seq_len: 7, expected at least 8"),
        ({"data__global_batch_size": 0}, "data.global_batch_size: 0, expected at least 1"),
        ({"data__micro_batch_size": 0}, "data.micro_batch_size: 0, expected at least 1"),
        ({"data__canonical_nodes": 0}, "data.canonical_nodes: 0, expected at least 1"),
        ({"data__timeout_seconds": 0}, "data.timeout_seconds: 0, expected at least 1"),
        ({"data__workers": -1}, "data.workers: -1, expected at least 0"),
        ({"data__shuffle_seed": -1}, "data.shuffle_seed: -1, expected 0 to 4294967295"),
        ({"phases": [], "schedule__decay_phase": None, "schedule__warmup_tokens": 0}, "phases: empty"),
        ({"phases__0__name": "decay"}, "phases: the name 'decay' is used 2 times"),
        ({"phases__0__objective": "clmm"}, "phases[0]: objectives: no 'clmm'; did you mean 'clm'?"),
        ({"phases__1__options": {"rate": 2.0}}, "phases[1]: objective 'mlm': "),
        ({"phases__0__freeze__layers": "0-99"}, "phases[0].freeze.layers: '0-99' is not a range of layers 0 to 3"),
        ({"phases__0__freeze__layers": "low"}, "phases[0].freeze.layers: 'low' is not a list of layers"),
        ({"phases__0__optimizer_state": "drop"}, "phases[0].optimizer_state: 'drop'; expected one of keep, reset"),
        ({"phases__0__tokens": 0}, "phases[0].tokens: 0, expected at least one step of 256 tokens"),
        ({"phases__1__rewarm_tokens": 301}, "phases[1].rewarm_tokens: 301, expected 0 to the phase's 300 tokens"),
        ({"phases__1__rewarm_tokens": -1}, "phases[1].rewarm_tokens: -1, expected 0"),
        ({"phases__0__lr_factor": -0.1}, "phases[0].lr_factor: -0.1, expected at least 0"),
        ({"phases__0__lr_factor": NAN}, "phases[0].lr_factor: nan, expected at least 0"),
        (
            {"phases__0__optimizer": {"betas": [0.9, 1.0]}},
            "phases[0].optimizer.betas: [0.9, 1.0], expected two numbers",
        ),
        (
            {"phases__0__optimizer": {"weight_decay": -1.0}},
            "phases[0].optimizer.weight_decay: -1.0, expected at least 0",
        ),
        (
            {"phases__0__optimizer": {"clip_norm": 0.0}},
            "phases[0].optimizer.clip_norm: 0.0, expected a number above 0, or",
        ),
        (
            {"phases__0__optimizer": {"clip_norm": NAN}},
            "phases[0].optimizer.clip_norm: nan, expected a number above 0, or",
        ),
        (
            {"phases__0__rope": {"theta": 0.0}},
            "phases[0].rope: architecture: global_rope_theta is 0.0, expected a number",
        ),
        (
            {"phases__0__rope": {"scaling": {"rope_type": "yarn", "factor": 8.0}}},
            "phases[0].rope: architecture: global_rope_scaling has factor, rope_type; yarn takes rope_type, factor, orig",
        ),
        (
            {"phases__0__rope": {"local_theta": NAN}},
            "phases[0].rope: architecture: local_rope_theta is nan, expected a",
        ),
        ({"schedule__shape": "cosin"}, "schedule.shape: 'cosin'; did you mean 'cosine'?"),
        ({"schedule__decay_phase": "decoy"}, "schedule.decay_phase: 'decoy'; did you mean 'decay'?"),
        ({"schedule__final_lr": 1.0}, "schedule: final_lr 1.0 and peak_lr 0.001"),
        ({"schedule__final_lr": -1.0}, "schedule: final_lr -1.0 and peak_lr 0.001"),
        ({"schedule__peak_lr": 0.0, "schedule__final_lr": 0.0}, "schedule: final_lr 0.0 and peak_lr 0.0"),
        ({"schedule__peak_lr": INF}, "schedule: final_lr 0.0001 and peak_lr inf"),
        ({"schedule__warmup_tokens": 1301}, "schedule.warmup_tokens: 1301, expected 0 to the run's 1300 tokens"),
        ({"schedule__warmup_tokens": -1}, "schedule.warmup_tokens: -1, expected 0"),
        ({"optimizer__name": "adam"}, "optimizer.name: 'adam'; did you mean 'adamw'?"),
        ({"optimizer__betas": [0.9, 1.0]}, "optimizer.betas: [0.9, 1.0], expected two numbers in [0, 1)"),
        ({"optimizer__weight_decay": -1e-5}, "optimizer.weight_decay: -1e-05, expected at least 0"),
        ({"optimizer__eps": NAN}, "optimizer.eps: nan, expected a number above 0"),
        ({"optimizer__eps": 0.0}, "optimizer.eps: 0.0, expected a number above 0"),
        ({"optimizer__clip_norm": 0.0}, "optimizer.clip_norm: 0.0, expected a number above 0"),
        ({"system__device": "tpu"}, "system.device: 'tpu'"),
        ({"system__precision": "fp16"}, "system.precision: 'fp16'"),
        ({"system__parallelism": "dp"}, "system.parallelism: 'dp'"),
        ({"system__timeout_seconds": 0}, "system.timeout_seconds: 0, expected at least 1"),
        ({"system__max_minutes": -1.0}, "system.max_minutes: -1.0, expected at least 0"),
        ({"guard__max_skips": -1}, "guard.max_skips: -1, expected at least 0"),
        ({"guard__spike_factor": 1.0}, "guard.spike_factor: 1.0, expected a number above 1"),
        ({"guard__spike_factor": NAN}, "guard.spike_factor: nan, expected a number above 1"),
        ({"guard__spike_window": 0}, "guard.spike_window: 0, expected at least 1"),
        ({"checkpoint__interval_tokens": 0}, "checkpoint.interval_tokens: 0, expected at least 1"),
        ({"checkpoint__keep": 0}, "checkpoint.keep: 0, expected at least 1"),
        ({"evaluation__interval_tokens": 0}, "evaluation.interval_tokens: 0, expected at least 1"),
        ({"evaluation__rows": 0}, "evaluation.rows: 0, expected at least 1"),
        ({"evaluation__objectives": {"mmlm": {}}}, "evaluation.objectives.mmlm: objectives: no 'mmlm'"),
        ({"seed": -1}, "seed: -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed: 4294967296, expected 0 to 4294967295"),
        ({"name": "a/b"}, "name: 'a/b' holds '/', which would make it a path"),
        ({"name": ".."}, "name: '..' begins with a dot"),
        ({"name": ""}, "name: '' is empty"),
        ({"name": "x" * 300}, f"name: '{'x' * 80}' is 300 bytes long, expected at most 200"),
        ({"name": "a\n---\nb"}, "name: 'a\\n---\\nb' holds the character U+000A"),
        ({"phases__0__name": "a\nb"}, "phases[0].name: 'a\\nb' holds the character U+000A"),
        ({"data__micro_batch_size": 2**40}, "data.micro_batch_size: 1099511627776, expected at most 1048576"),
        ({"data__workers": 10**9}, "data.workers: 1000000000, expected at most 1024"),
        ({"system__timeout_seconds": 10**12}, "system.timeout_seconds: 1000000000000, expected at most 10000000"),
        ({"evaluation__rows": 2**40}, "evaluation.rows: 1099511627776, expected at most"),
        ({"phases__0__tokens": 10**30}, "phases: 1000000000000000000000000000"),
        ({"model__architecture": {"vocab_size": 2**40}}, "architecture: vocab_size is 1099511627776, expected 1 to"),
        (
            {
                "data__cache_gigabytes": 0.0,
                "data__train": [{"path": "a", "remote": "b"}],
                "phases__0__data": {"train": [{"path": "c", "remote": "d"}]},
            },
            "data.cache_gigabytes: 0.0, expected",
        ),
        ({"data__train": [{"path": "a"}, {"path": "./b/../a"}]}, "data.train: the folder "),
        ({"data__validation": [{"path": "a"}, {"path": "a/"}]}, "data.validation: the folder "),
        ({"data__train": [{"path": "a\0b"}]}, "data.train[0].path: 'a\\x00b' cannot be a path"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_contradiction_is_refused(changes, message):
    found = problems(values(**changes))
    assert found.startswith(f"config: {message}"), found


@pytest.mark.parametrize(
    "changes",
    [
        {"model__init": "folder", "model__tokenizer": None},
        {"data__train": [{"path": "a", "proportion": 0.3}, {"path": "b", "proportion": 0.7}]},
        {"data__seq_len": 8},
        {"phases__1__rewarm_tokens": 100},
        {"phases__0__lr_factor": 0.0},
        {"phases__0__optimizer": {"betas": [0.0, 0.5], "weight_decay": 0, "clip_norm": "none"}},
        {"schedule__warmup_tokens": 1100},
        {"schedule__final_lr": 1e-3},
        {"optimizer__clip_norm": 1.0},
        {"seed": 2**32 - 1},
        {"evaluation__objectives": {}},
    ],
    ids=str,
)
def test_the_edges_of_what_is_allowed_are_allowed(changes):
    assert isinstance(from_mapping(values(**changes)), RunConfig)


def test_the_objectives_that_are_named_are_the_ones_evaluated():
    run = from_mapping(values(evaluation__objectives={"clm": None}))
    assert dict(run.evaluation.objectives) == {"clm": None}
    assert set(from_mapping(values()).evaluation.objectives) == {"mlm", "clm"}
