"""The one place where a configuration becomes objects and a Trainer."""

from __future__ import annotations

import atexit
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from composer import DataSpec, Trainer
from composer.core import Callback, Engine
from composer.utils import dist, reproducibility
from composer.utils.parallelism import FSDP2Config

from detour.batch import micro_batches
from detour.config.schema import RunConfig
from detour.data.loader import build_loader
from detour.data.remote import fetch_metadata
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, vocab_of
from detour.errors import ConfigError, DataError, StoppedError, TrainingError
from detour.models.attention import select
from detour.models.modernbert.encoder import TIED, Encoder
from detour.phase_clock import PhaseClock
from detour.training.beginning import beginning
from detour.training.callbacks.checkpointer import Checkpointer
from detour.training.callbacks.eval_loss import EvalLoss
from detour.training.callbacks.failure_watch import FailureWatch
from detour.training.callbacks.jsonl import JsonlLogger
from detour.training.callbacks.ledger import Ledger
from detour.training.callbacks.progress import ProgressBar
from detour.training.callbacks.step_guard import StepGuard
from detour.training.checkpoints.contents import check_weights
from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.select import checkpoint_to_resume, measurement_changes
from detour.training.checkpoints.state import RestoreRng, restore
from detour.training.composer_model import DetourModel, tokens_for_trainer
from detour.training.gradient_gate import GradientGate, gloo_sums_gradients
from detour.training.held_out import HeldOut
from detour.training.launch import check_launch, device_of, device_rows_of
from detour.training.match import fitted
from detour.training.optim import build_optimizer
from detour.training.phase_switch import PhaseSwitch
from detour.training.run_folder import RunFolder, run_record, write_run_files
from detour.training.start import Start, check_tokenizer, read_start, start_record
from detour.training.stop import StopRequest
from detour.training.wandb_logger import wandb_loggers
from detour.vocab import Vocab

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What is known of a run before its parts are built: where it begins, and what it is."""

    device: str
    vocab: Vocab
    identity: str
    record: dict[str, Any]
    resumed: Checkpoint | None
    model: Start | None
    measurement_changes: list[str]


def _find_start(run: RunConfig) -> _Start:
    """Collective; nothing is written but the index and manifest of remote rows."""
    check_launch()
    device = device_of(run)
    dist.initialize_dist(device, timeout=run.system.timeout_seconds)
    tokenizer = load_tokenizer(run.model.tokenizer or run.model.init or "")
    identity = tokenizer_sha256(tokenizer)
    for stream in [*run.data.train, *run.data.validation]:
        if stream.remote:  # what the run is depends on the manifests
            fetch_metadata(stream.remote, stream.path, timeout_s=run.data.timeout_seconds)
    record = run_record(run, tokenizer=identity)
    resumed = checkpoint_to_resume(run, record)
    model = None if resumed else read_start(run)
    record["start"] = start_record(resumed, model)
    if not resumed:
        check_tokenizer(run, tokenizer)
    return _Start(
        device=device,
        vocab=vocab_of(tokenizer, size=run.architecture.vocab_size),
        identity=identity,
        record=record,
        resumed=resumed,
        model=model,
        measurement_changes=measurement_changes(run, record, resumed),
    )


def build_trainer(run: RunConfig, stop: StopRequest | None = None) -> Trainer:
    """A Composer Trainer ready to `fit`, at the start of the run or at the newest checkpoint of its folder.

    Args:
        run: The configuration.
        stop: Who may ask it to end early; left out, nobody.

    Raises:
        ConfigError, DataError, ModelError, CheckpointError: Something does not fit; nothing was trained or written.
    """
    return _build(run, _find_start(run), stop or StopRequest())


def _build(run: RunConfig, start: _Start, stop: StopRequest) -> Trainer:
    device, vocab, identity, resumed = start.device, start.vocab, start.identity, start.resumed
    device_rows = device_rows_of(run)
    schedule, folder = run.phase_schedule, RunFolder.of(run)

    reproducibility.seed_all(run.seed)
    encoder = build_encoder(run, resumed, device=device, start=start.model)
    record = {**start.record, **beginning(encoder, resumed, device=device)}
    boundaries = schedule.boundaries[1:]
    held_out = HeldOut(run, identity)
    rows = _loader(run, device_rows, identity, held_out)
    held_out.check_shared()
    evaluators = held_out.evaluators(vocab, boundaries, _data_spec)
    batches = _batches_of(resumed)
    metrics = JsonlLogger(folder.metrics, batches_trained=batches)
    guard = StepGuard(
        max_skips=run.guard.max_skips,
        spike_factor=run.guard.spike_factor,
        window=run.guard.spike_window,
        metrics=metrics,
        stop=stop,
    )
    sharded = run.system.parallelism == "fsdp" and dist.get_world_size() > 1
    switch = PhaseSwitch(
        clock=PhaseClock(phases=schedule, wsd=run.schedule, vocab=vocab, seed=run.seed),
        gate=GradientGate(
            encoder,
            clip_norm=run.optimizer.clip_norm,
            scale=1 / dist.get_world_size() if gloo_sums_gradients(sharded=sharded) else 1.0,
        ),
        guard=guard,
    )
    dtype = torch.bfloat16 if run.system.precision == "bf16" else torch.float32
    ledger = Ledger(arch=encoder.arch, schedule=schedule, guard=guard, dtype=dtype)
    stateful = [ledger, switch, guard]
    checkpointer = Checkpointer(
        folder=folder.checkpoints,
        interval_tokens=run.checkpoint.interval_tokens,
        boundaries=boundaries,
        keep=run.checkpoint.keep,
        record=record,
        stateful=stateful,
        stop=stop,
    )
    callbacks: list[Callback] = [guard, ledger, EvalLoss([folder.name for folder in held_out.folders]), checkpointer]
    if resumed:
        callbacks.append(RestoreRng(resumed))
    if run.logging.progress_bar and dist.get_global_rank() == 0:
        callbacks.append(ProgressBar(schedule))

    model = DetourModel(
        encoder,
        bf16=run.system.precision == "bf16",
        mask_draws=run.evaluation.mask_draws,
        folders=max(1, len(held_out.folders)),
    )
    trainer = Trainer(
        model=model,
        optimizers=build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr),
        train_dataloader=_data_spec(rows, ledger.see),
        eval_dataloader=evaluators,
        max_duration=f"{schedule.total_tokens}tok",
        algorithms=[switch],
        callbacks=callbacks,
        loggers=[metrics, *wandb_loggers(run, folder, batches_trained=batches)],
        progress_bar=False,
        device=device,
        precision="amp_bf16" if run.system.precision == "bf16" and device == "gpu" else "fp32",
        parallelism_config={"fsdp": FSDP2Config(state_dict_type="full", mixed_precision="FULL")} if sharded else None,
        device_train_microbatch_size=min(run.data.micro_batch_size, device_rows),
        accumulate_train_batch_on_tokens=True,  # else micro-batches weigh by rows, and MLM's loss is wrong
        spin_dataloaders=False,  # the stream resumes by itself; spinning would read the past again
        seed=run.seed,
        deterministic_mode=run.system.deterministic,
        dist_timeout=run.system.timeout_seconds,
        run_name=run.name,
    )
    if sharded and not trainer.state.fsdp_enabled:
        raise ConfigError("system.parallelism: fsdp was asked for, and Composer did not shard the model")
    if trainer.state.dataloader_len == 0:  # Composer would turn empty epochs for ever
        raise DataError(f"data.train: fewer rows than one batch (data.global_batch_size: {run.data.global_batch_size})")
    if resumed:
        restore(
            trainer.state, resumed, stateful, touched=lambda: switch.touched([entry.steps for entry in ledger.entries])
        )
        if start.measurement_changes:
            metrics.write_event(trainer.state, {"measurement": start.measurement_changes})
        log.warning(
            "resuming from %s, at token %s of %s", resumed.path, f"{resumed.tokens:,}", f"{schedule.total_tokens:,}"
        )
    return trainer


def close(trainer: Trainer) -> None:
    """Ends it as `Trainer.close` does, and lets go of the model, which Composer would hold until Python ends.

    Not after an error in one of several processes: it waits for the others, which may never come.
    """
    trainer.close()
    atexit.unregister(Engine._close)  # it was registered with the trainer's whole state


def train(run: RunConfig) -> None:
    """The whole run: from the start or the newest checkpoint to the last token.

    Raises:
        StoppedError: It was asked to end early, by a signal or `system.max_minutes`, and has saved.
        TrainingError: A batch was bad (`detour.training.callbacks.step_guard`), or memory ran out.
        DataError: The loader failed or fell silent.
        ConfigError, ModelError, CheckpointError: As in `build_trainer`; a checkpoint could not be written.
    """
    run = fitted(run)
    check_launch()
    stop = StopRequest(run.system.max_minutes)
    folder, total = RunFolder.of(run), run.phase_schedule.total_tokens
    with ExitStack() as held:
        unwritable = None
        if dist.get_global_rank() == 0:
            try:
                held.enter_context(folder.lock())
            except TrainingError as error:
                unwritable = error
        start = _find_start(run)
        if start.resumed is not None and start.resumed.tokens >= total:
            log.warning("%s is complete (%s tokens); nothing to do", folder.path, f"{start.resumed.tokens:,}")
            return
        if unwritable:
            raise unwritable
        _train(run, start, stop)


def _train(run: RunConfig, start: _Start, stop: StopRequest) -> None:
    trainer = _build(run, start, stop)
    watch = FailureWatch(run.data)
    trainer.state.callbacks.append(watch)
    total = run.phase_schedule.total_tokens
    if dist.get_global_rank() == 0:
        (checkpointer,) = (each for each in trainer.state.callbacks if isinstance(each, Checkpointer))
        write_run_files(run, checkpointer.record)
    with stop.listening(), watch.watching():
        if not trainer.state.timestamp.token.value and trainer.state.evaluators:
            trainer.eval()
        trainer.fit()
        close(trainer)
    done = trainer.state.timestamp.token.value
    if stop.agreed and done < total:
        raise StoppedError(
            f"{RunFolder.of(run).path}: saved at token {done:,} of {total:,} and stopped early "
            f"({stop.reason or 'another process was asked to'}); the same command continues"
        )


def build_encoder(
    run: RunConfig, resumed: Checkpoint | None, *, device: str = "cpu", start: Start | None = None
) -> Encoder:
    """The model with its weights: a checkpoint's, a Hugging Face folder's, or fresh ones from the current seed.

    Args:
        run: The configuration.
        resumed: The checkpoint to continue from.
        device: "cpu" or "gpu".
        start: What `read_start` gave; left out, it is read here.

    Raises:
        ModelError: The folder's architecture is not the configured one, or its weights do not fit.
    """
    dtype = torch.bfloat16 if run.system.precision == "bf16" else torch.float32
    backend = select(run.model.attention_backend, device="cuda" if device == "gpu" else "cpu", dtype=dtype)
    encoder = Encoder(run.architecture, backend=backend, gradient_checkpointing=run.model.gradient_checkpointing)
    if resumed is not None:
        weights = resumed.tensors("model")
        with resumed.translate_errors():
            check_weights(weights)
            encoder.load_state_dict({**weights, TIED: weights["model.embeddings.tok_embeddings.weight"]})
    elif start := start or read_start(run):
        start.load_into(encoder)
    if run.model.compile:
        encoder.compile_regions()
    return encoder


def _batches_of(resumed: Checkpoint | None) -> int:
    if resumed is None:
        return 0
    with resumed.translate_errors():
        return int(resumed.state()["timestamp"]["batch"])


def _loader(run: RunConfig, device_rows: int, identity: str, held_out: HeldOut) -> Any:
    return build_loader(
        streams=run.data.train,
        device_batch_size=device_rows,
        shuffle=run.data.shuffle,
        shuffle_seed=run.data.shuffle_seed,
        canonical_nodes=run.data.canonical_nodes,
        workers=run.data.workers,
        timeout_s=run.data.timeout_seconds,
        verify_hashes=run.data.verify_hashes,
        tokenizer_sha256=identity,
        seq_len=run.data.seq_len,
        cache_bytes=round(limit * 1e9) if (limit := run.data.cache_gigabytes) else None,
        verified=held_out.shared.add_training,
    )


def _data_spec(loader: Any, batch_transforms: Any = None) -> DataSpec:
    return DataSpec(
        loader,
        batch_transforms=batch_transforms,
        get_num_samples_in_batch=lambda batch: len(batch["input_ids"]),
        get_num_tokens_in_batch=tokens_for_trainer,
        split_batch=micro_batches,
    )
