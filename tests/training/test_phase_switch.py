"""The switch in a real Composer run: where it flips, what it freezes, what it sets."""

from __future__ import annotations

import json

import pytest
import torch
from composer.core import Callback, Event

from detour.batch import IGNORE
from detour.build import build_trainer
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.state import capture
from detour.training.run_folder import RunFolder


class Watch(Callback):
    """Notes what each batch looks like when the model gets it."""

    def __init__(self) -> None:
        self.batches: list[dict] = []

    def before_train_batch(self, state, logger) -> None:
        batch = state.batch
        self.batches.append({
            "token": state.timestamp.token.value,
            "tokens": int(batch["doc_lengths"].sum()),
            "sample_id": batch["sample_id"].tolist(),
            "input_ids": batch["input_ids"].clone(),
            "labels": batch["labels"].clone(),
            "attention": batch["attention"],
            "objective": batch["objective"],
            "lr": [group["lr"] for group in state.optimizers[0].param_groups],
        })  # fmt: skip


def watch(run) -> list[dict]:
    trainer = build_trainer(run)
    watcher = Watch()
    trainer.state.callbacks.append(watcher)
    trainer.fit()
    trainer.close()
    return watcher.batches


@pytest.mark.parametrize("workers", [0, 2])
def test_the_objective_flips_at_the_first_batch_past_the_boundary(tiny_run, workers):
    run = tiny_run(data={"workers": workers})
    schedule = run.phase_schedule
    batches = watch(run)
    assert {batch["objective"] for batch in batches} == {"mlm", "clm"}
    for batch in batches:
        phase = schedule.at(batch["token"]).phase
        assert batch["objective"] == phase.objective
        assert batch["attention"] == ("causal" if phase.objective == "clm" else "bidirectional")
        assert (batch["labels"] != IGNORE).any()


def test_the_learning_rate_of_every_batch_is_that_of_its_first_token(tiny_run):
    run = tiny_run()
    for batch in watch(run):
        assert batch["lr"] == [run.lr_at(batch["token"])] * 2


def test_twins_see_the_same_rows_in_the_same_order(tiny_run):
    detour = watch(tiny_run("detour"))
    twin_phases = [
        {"name": "before", "objective": "mlm", "tokens": 2000},
        {"name": "decay", "objective": "mlm", "tokens": 1000, "options": {"rate": 0.15}},
    ]
    twin = watch(tiny_run("twin", phases=twin_phases))
    assert [batch["sample_id"] for batch in detour] == [batch["sample_id"] for batch in twin]
    assert [batch["token"] for batch in detour] == [batch["token"] for batch in twin]
    for mine, theirs in zip(detour, twin, strict=True):  # where both mask, they mask alike
        if mine["token"] >= 2000:
            assert torch.equal(mine["input_ids"], theirs["input_ids"])


@pytest.mark.trains
def test_the_micro_batch_size_does_not_change_the_loss(tiny_run):
    def losses(name, micro):
        run = tiny_run(name, data={"micro_batch_size": micro})
        train(run)
        lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
        return [line["loss/train/total"] for line in lines if "loss/train/total" in line]

    assert losses("whole", 4) == pytest.approx(losses("single", 1), rel=1e-5)


def snapshot(trainer) -> tuple[dict, dict]:
    tensors, _ = capture(trainer.state, [])
    return {k: v.clone() for k, v in tensors["model"].items()}, {k: v.clone() for k, v in tensors["optimizer"].items()}


class AtPhase(Callback):
    """Takes a snapshot when the given phase begins."""

    def __init__(self, start: int) -> None:
        self.start, self.taken = start, None

    def batch_start(self, state, logger) -> None:
        if self.taken is None and state.timestamp.token.value >= self.start:
            tensors, _ = capture(state, [])
            self.taken = tuple({k: v.clone() for k, v in tensors[f].items()} for f in ("model", "optimizer"))


def test_frozen_layers_and_embeddings_keep_weights_and_moments_bit_for_bit(tiny_run):
    phases = [
        {"name": "before", "objective": "mlm", "tokens": 500},
        {"name": "detour", "objective": "clm", "tokens": 1000, "freeze": {"layers": "0-1", "embeddings": True}},
    ]
    trainer = build_trainer(tiny_run(phases=phases, schedule={"decay_phase": None}, optimizer={"weight_decay": 0.1}))
    watcher = AtPhase(500)
    trainer.state.callbacks.append(watcher)
    trainer.fit()
    weights, moments = snapshot(trainer)
    trainer.close()
    weights_before, moments_before = watcher.taken
    frozen = ("model.embeddings.", "model.layers.0.", "model.layers.1.")
    for name, tensor in weights.items():
        assert torch.equal(tensor, weights_before[name]) == name.startswith(frozen), name
    for name, tensor in moments.items():
        still = name.split("encoder.", 1)[1].startswith((*frozen, "decoder.weight"))
        assert torch.equal(tensor, moments_before[name]) == still, name


def test_the_optimizer_is_kept_across_the_flip_and_reset_only_on_request(tiny_run):
    def steps_counted(name, choice):
        phases = [
            {"name": "before", "objective": "mlm", "tokens": 1000},
            {"name": "detour", "objective": "clm", "tokens": 500, "optimizer_state": choice},
        ]
        run = tiny_run(name, phases=phases, schedule={"decay_phase": None})
        train(run)
        last = checkpoints.listing(RunFolder.of(run).checkpoints)[-1]
        return last.tensors("optimizer")["encoder.head.dense.weight/step"].item()

    kept, reset = steps_counted("kept", "keep"), steps_counted("reset", "reset")
    assert kept == 6
    assert reset == 2


def test_observers_do_not_change_the_weights(tiny_run):
    def weights(name, **sections):
        run = tiny_run(name, **sections)
        train(run)
        return checkpoints.listing(RunFolder.of(run).checkpoints)[-1].tensors("model")

    dropout = {"architecture": {**tiny_run().model.architecture, "mlp_dropout": 0.1}}
    bare = weights("bare", model=dropout, data={"validation": []})
    watched = weights(
        "watched",
        model=dropout,
        checkpoint={"interval_tokens": 300},
        evaluation={"interval_tokens": 200},
        logging={"progress_bar": True},
    )
    assert all(torch.equal(bare[name], watched[name]) for name in bare)


def test_held_out_loss_is_measured_under_both_objectives_at_every_boundary(tiny_run):
    run = tiny_run()
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    for objective in ("mlm", "clm"):
        at = [line["token"] for line in lines if f"loss/eval/{objective}" in line]
        assert at[0] == 0
        assert [sum(token >= boundary for token in at) for boundary in (1000, 2000, 3000)] == [3, 2, 1]


def test_loss_names_tell_objectives_apart_and_the_ledger_adds_up(tiny_run):
    run = tiny_run()
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    trained = [line for line in lines if "lr" in line]
    assert all(("loss/train/mlm" in line) != ("loss/train/clm" in line) for line in trained)
    assert all(line[f"loss/train/{'clm' if line['phase/index'] == 1 else 'mlm'}"] for line in trained)
    entries = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].state()["callbacks"]["Ledger"]["entries"]
    assert sum(entry["tokens"] for entry in entries) == trained[-1]["token"]
    assert sum(entry["supervised"] for entry in entries) == trained[-1]["tokens/supervised"]
    assert sum(entry["flops"] for entry in entries) == pytest.approx(trained[-1]["flops/total"])
    # one process, one start: what products would have made of the time is the time at one rate
    (rate,) = {round(entry["matmul_flops"] / entry["device_seconds"]) for entry in entries}
    assert 1e9 < rate < 1e13
    for line in trained:
        per_second = line["throughput/flops_per_second_per_device"]
        assert line["throughput/mfu"] == pytest.approx(per_second / rate, rel=1e-3)
        assert 0 < line["throughput/mfu"] < 1
    mlm, clm, decay = entries
    assert 0.25 < mlm["supervised"] / mlm["tokens"] < 0.35
    assert 0.9 < clm["supervised"] / clm["tokens"] < 1
    assert 0.1 < decay["supervised"] / decay["tokens"] < 0.2


def test_the_switch_listens_to_public_events_only(tiny_run):
    trainer = build_trainer(tiny_run())
    (switch,) = trainer.state.algorithms
    heard = {event for event in Event if switch.match(event, trainer.state)}
    assert heard == {Event.AFTER_DATALOADER, Event.BATCH_START, Event.AFTER_TRAIN_BATCH}
    trainer.close()
