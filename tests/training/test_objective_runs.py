"""Runs under the objectives beyond MLM and CLM: exact resume, logged schedules, counted costs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from detour.build import build_trainer
from detour.config.check import check
from detour.cost.flops import training_flops
from detour.errors import ConfigError
from detour.train import train
from detour.training.checkpoints.files import newest_valid
from detour.training.run_folder import RunFolder

PHASES = [
    {"name": "spans", "objective": "mlm", "tokens": 1000, "options": {"mean_span": 2.0, "rate": {"from": 0.4, "to": 0.1}}},
    {
        "name": "mixed",
        "objective": "mixed",
        "tokens": 1000,
        "options": {
            "objectives": [
                {"objective": "clm", "proportion": {"from": 1, "to": 3}},
                {"objective": "mntp", "proportion": 1},
            ]
        },
    },
    {
        "name": "turns",
        "objective": "alternate",
        "tokens": 1000,
        "options": {"turns": [{"objective": "prefix_lm"}, {"objective": "masked_diffusion", "options": {"block": 8}}]},
    },
    {"name": "anneal", "objective": "mntp", "tokens": 1000, "options": {"lookahead": {"from": 0, "to": 64}}},
    {"name": "decay", "objective": "mlm", "tokens": 1000, "lr_factor": {"from": 1.0, "to": 0.5}},
]  # fmt: skip


@pytest.fixture
def run_of(tiny_run):
    def make(name, **sections):
        evaluation = {
            "objectives": {"mlm": {"rate": 0.15}, "masked_diffusion": {}, "prefix_lm": {}},
            "interval_tokens": 2000,
        }
        run = tiny_run(name, phases=PHASES, checkpoint={"interval_tokens": 700}, evaluation=evaluation, **sections)
        assert not check(run)
        return run

    return make


@pytest.mark.slow
def test_a_run_cut_anywhere_and_resumed_is_the_unbroken_one_bitwise(run_of):
    whole = run_of("whole")
    train(whole)
    folder = RunFolder.of(whole)
    expected, _ = newest_valid(folder.checkpoints)
    assert expected is not None
    saved = sorted(path for path in folder.checkpoints.iterdir() if path.is_dir())
    assert len(saved) >= 6
    for cut in (2, 5):  # within and between phases
        again = replace(whole, name=f"cut{cut}")
        shutil.copytree(folder.path, RunFolder.of(again).path)
        for path in saved[cut:]:
            shutil.rmtree(RunFolder.of(again).checkpoints / path.name)
        train(again)
        found, _ = newest_valid(RunFolder.of(again).checkpoints)
        assert found is not None
        assert found.tokens == expected.tokens
        for part in ("model", "optimizer"):
            ours, theirs = found.tensors(part), expected.tensors(part)
            assert ours.keys() == theirs.keys()
            for name, tensor in theirs.items():
                assert torch.equal(ours[name], tensor), (cut, part, name)


def test_scheduled_options_are_logged_and_the_learning_rate_follows_its_factor(run_of):
    run = run_of("logged")
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    steps = [line for line in lines if "phase/index" in line]
    schedule, before = run.phase_schedule, 0
    seen = set()
    for line in steps:
        span = schedule.at(before)
        x = (before - span.start) / 1000
        if span.phase.name == "spans":
            assert line["phase/rate"] == pytest.approx(0.4 - 0.3 * x, rel=1e-6)
        elif span.phase.name == "mixed":
            assert line["phase/objectives[0].proportion"] == pytest.approx(1 + 2 * x, abs=0.51)  # whole numbers
        elif span.phase.name == "anneal":
            assert line["phase/lookahead"] == pytest.approx(64 * x, abs=0.51)
        elif span.phase.name == "decay" and before > span.start:
            # the decay of the schedule, times a factor that falls to a half
            fraction = min(x, 1.0)
            wsd = 1e-4 + (1e-3 - 1e-4) * (1 - fraction**0.5)
            assert line["lr"] == pytest.approx(wsd * (1 - 0.5 * fraction), rel=1e-6)
        seen.add(span.phase.name)
        before = line["token"] if "token" in line else line["time/token"]
    assert len(seen) == 5


def test_the_ledger_counts_the_attention_that_was_computed(run_of):
    """A row of prefix LM costs between causal and bidirectional attention, and the ledger lies strictly between."""
    run = run_of("counted")
    trainer = build_trainer(run)
    ledger = next(c for c in trainer.state.callbacks if type(c).__name__ == "Ledger")
    trainer.fit()
    trainer.close()
    cost = ledger.costs[2]
    assert cost.steps >= 2
    rows = cost.tokens / 64
    arch = run.architecture
    low = training_flops(arch, [64], attention="causal", supervised=0) * rows * 0.5
    high = training_flops(arch, [64], attention="bidirectional", supervised=64) * rows
    assert low < cost.flops < high


def test_a_kernel_without_masks_and_an_attention_by_token_are_refused_before_training(run_of, monkeypatch):
    monkeypatch.setattr("detour.build.select", lambda *_, **__: "flash")
    with pytest.raises(ConfigError, match=r"phases\[1\]: its attention differs from token to token"):
        build_trainer(run_of("refused"))


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"options": {"rate": {"from": 0.3, "to": 1.5}}}, r"phases\[0\]: objective 'mlm': rate is 1.5"),
        (
            {"options": {"rate": {"from": 0.3, "to": 0.1, "shap": 1}}},
            r"phases\[0\]: objective 'mlm': a schedule has the keys",
        ),
        ({"lr_factor": {"from": 1.0, "to": -1.0}}, r"phases\[0\].lr_factor: -1.0"),
        ({"lr_factor": {"to": 1.0}}, r"phases\[0\].lr_factor: .*expected a number, or a schedule"),
    ],
)
def test_a_schedule_that_ends_out_of_range_is_refused_before_training(tiny_run, phase, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run(
            "bad", phases=[{"name": "a", "objective": "mlm", "tokens": 1000, **phase}], schedule={"decay_phase": None}
        )


def test_a_held_out_loss_under_turns_is_refused(tiny_run):
    turns = {"turns": [{"objective": "clm"}, {"objective": "mlm"}]}
    with pytest.raises(ConfigError, match=r"evaluation.objectives.alternate: it differs from step to step"):
        tiny_run("turns", evaluation={"objectives": {"alternate": turns}})
