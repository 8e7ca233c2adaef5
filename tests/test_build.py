"""A configuration's options reach the run they are for."""

from __future__ import annotations

import errno
import gc
import json
import os
import time
import weakref

import pytest
import torch
from composer.core import Callback
from safetensors import SafetensorError

from detour.build import build_trainer, close
from detour.errors import CheckpointError, ConfigError, DataError, TrainingError
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder, write_run_files


def losses(run) -> list[float]:
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return [line["loss/train/total"] for line in lines if "loss/train/total" in line]


@pytest.mark.trains
def test_bf16_trains_on_the_cpu_close_to_fp32_with_fp32_weights(tiny_run):
    exact = losses(tiny_run("fp32"))
    rough = losses(run := tiny_run("bf16", system={"precision": "bf16"}))
    assert rough != exact
    assert rough == pytest.approx(exact, rel=1e-2)
    weights = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].tensors("model")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_gradient_checkpointing_trains_to_the_same_bits(tiny_run):
    assert losses(tiny_run("plain")) == losses(tiny_run("saving", model={"gradient_checkpointing": True}))


def test_stable_adamw_trains_and_resumes(tiny_run):
    whole = tiny_run("whole", optimizer={"name": "stableadamw"}, checkpoint={"interval_tokens": 1})
    train(whole)
    saved = checkpoints.listing(RunFolder.of(whole).checkpoints)
    part = tiny_run("part", optimizer={"name": "stableadamw"}, checkpoint={"interval_tokens": 1})
    folder = RunFolder.of(part).checkpoints
    folder.mkdir(parents=True)
    (folder / saved[5].path.name).symlink_to(saved[5].path)
    train(part)
    mine, theirs = checkpoints.listing(folder)[-1].tensors("model"), saved[-1].tensors("model")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_clipping_bounds_the_norm_and_the_logged_norm_is_the_unclipped_one(tiny_run):
    run = tiny_run(optimizer={"clip_norm": 1e-3})
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    assert min(line["grad_norm"] for line in lines if "grad_norm" in line) > 1e-3


def test_proportions_decide_the_mix(tiny_run, corpus):
    streams = [{"path": str(corpus.train), "proportion": 0.75}, {"path": str(corpus.validation), "proportion": 0.25}]
    trainer = build_trainer(tiny_run(data={"train": streams, "validation": [], "global_batch_size": 15}))
    first = trainer.state.train_dataloader.dataset.samples_per_stream[0]
    ids = torch.cat([batch["sample_id"] for batch in trainer.state.train_dataloader])
    trainer.close()
    assert ((ids < first).float().mean() - 0.75).abs() < 0.02


def test_weights_and_biases_logs_offline_without_a_key_and_never_the_environment(tiny_run, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("DETOUR_TEST_SECRET", "hf_thisisasecret")
    run = tiny_run(logging={"wandb_project": "test"})
    train(run)
    written = list((RunFolder.of(run).path / "wandb").rglob("*.wandb"))
    assert len(written) == 1
    deadline = time.monotonic() + 20
    while written[0].stat().st_size < 1000 and time.monotonic() < deadline:
        time.sleep(0.1)  # its own process writes what it holds a moment after it said that it had finished
    content = written[0].read_bytes()
    for name in (b"loss/train/clm", b"loss/eval/mlm", b"phase/index", b"throughput/tokens_per_second", b"grad_norm"):
        assert name in content
    assert b"hf_thisisasecret" not in content


def test_a_finished_folder_is_not_written_over_when_resuming_is_off(tiny_run):
    train(tiny_run())
    with pytest.raises(CheckpointError, match="choose another name"):
        train(tiny_run(checkpoint={"resume": False}))


def test_a_gpu_is_refused_where_there_is_none(tiny_run):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        build_trainer(tiny_run(system={"device": "gpu"}))


def test_the_run_folder_says_what_ran(tiny_run):
    run = tiny_run()
    train(run)
    folder = RunFolder.of(run).path
    from detour.config.load import load

    assert load(folder / "config.yaml") == run
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__.split("+")[0]


def test_fewer_rows_than_a_batch_are_refused(tiny_run):
    phases = [{"name": "only", "objective": "mlm", "tokens": 1_000_000}]
    run = tiny_run(data={"global_batch_size": 5000}, phases=phases, schedule={"decay_phase": None})
    with pytest.raises(DataError, match=r"fewer rows than one batch \(data.global_batch_size: 5000\)"):
        build_trainer(run)


def test_a_row_that_returns_is_masked_differently(tiny_run, corpus):
    # two folders in equal shares, one of them small: its rows come several times an epoch
    streams = [{"path": str(corpus.train), "proportion": 0.5}, {"path": str(corpus.validation), "proportion": 0.5}]
    trainer = build_trainer(tiny_run(data={"train": streams, "validation": []}, schedule={"decay_phase": None},
                                     phases=[{"name": "m", "objective": "mlm", "tokens": 20_000}]))  # fmt: skip
    seen: dict[int, list[torch.Tensor]] = {}

    class Watch(Callback):
        def before_train_batch(self, state, logger) -> None:
            for sample, labels in zip(state.batch["sample_id"].tolist(), state.batch["labels"], strict=True):
                seen.setdefault(sample, []).append(labels)

    trainer.state.callbacks.append(Watch())
    trainer.fit()
    trainer.close()
    returned = [labels for labels in seen.values() if len(labels) > 1]
    assert len(returned) > 10
    assert not any(torch.equal(labels[0], labels[1]) for labels in returned)


def test_a_second_run_in_the_same_folder_is_refused(tiny_run):
    run = tiny_run()
    with (
        RunFolder.of(run).lock(),
        pytest.raises(CheckpointError, match="another process is training in this run folder"),
    ):
        train(run)


def test_a_disk_that_fills_up_ends_the_run_with_one_error_and_the_old_checkpoint(tiny_run, monkeypatch):
    run = tiny_run(checkpoint={"interval_tokens": 1})
    real, calls = checkpoints.save_file, []

    def full_disk(*arguments, **options):
        calls.append(1)
        if len(calls) > 7:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        return real(*arguments, **options)

    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot write a checkpoint.*No space left"):
        train(run)
    kept = checkpoints.listing(RunFolder.of(run).checkpoints)
    assert len(kept) == 2
    assert all(checkpoint.validate() is None for checkpoint in kept)


def test_saving_is_left_out_of_the_ledgers_device_seconds(tiny_run, monkeypatch):
    real = checkpoints.write

    def slow(*arguments, **options):
        time.sleep(0.5)
        return real(*arguments, **options)

    monkeypatch.setattr(checkpoints, "write", slow)
    run = tiny_run(checkpoint={"interval_tokens": 1})
    train(run)
    entries = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].state()["callbacks"]["Ledger"]["entries"]
    assert sum(entry["device_seconds"] for entry in entries) < 12 * 0.5


def test_rows_that_lie_elsewhere_train_to_the_same_bits_as_local_ones(tiny_run, corpus, tmp_path):
    streams = [{"path": str(tmp_path / "cache"), "remote": str(corpus.train)}]
    there = losses(tiny_run("remote", data={"train": streams, "cache_gigabytes": 1.0}))
    assert there == losses(tiny_run("local"))


def test_a_cache_limit_needs_remotes(tiny_run):
    with pytest.raises(ConfigError, match=r"data.cache_gigabytes: given, and not every folder"):
        tiny_run(data={"cache_gigabytes": 1.0})


def test_a_closed_trainer_lets_go_of_its_model(tiny_run):
    trainer = build_trainer(tiny_run())
    model = weakref.ref(trainer.state.model)
    close(trainer)
    del trainer
    gc.collect()
    assert model() is None


def test_a_disk_that_is_full_at_the_start_is_one_error_and_leaves_the_old_configuration(tiny_run, monkeypatch):
    run = tiny_run()
    write_run_files(run, {})
    before = (RunFolder.of(run).path / "config.yaml").read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("detour.files.os.fsync", full)
    with pytest.raises(TrainingError, match="cannot be written: No space left"):
        write_run_files(run, {})
    assert (RunFolder.of(run).path / "config.yaml").read_text() == before
