"""From a configuration to a Trainer, part by part."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from composer import DataSpec, Trainer
from composer.core import Algorithm, Callback, Engine
from composer.loggers import LoggerDestination
from composer.utils import dist, reproducibility
from composer.utils.parallelism import FSDP2Config
from torch.distributed.fsdp import register_fsdp_forward_method

from detour.batch import micro_batches
from detour.config.schema import RunConfig
from detour.data.phased_loader import PhasedLoader
from detour.errors import ConfigError, DataError
from detour.models.attention import select
from detour.models.encoder import Encoder
from detour.phase_clock import PhaseClock
from detour.training.callbacks.checkpointer import Checkpointer
from detour.training.callbacks.eval_loss import EvalLoss
from detour.training.callbacks.gradient_sync import GradientSync
from detour.training.callbacks.ledger import Ledger
from detour.training.callbacks.progress import ProgressBar
from detour.training.callbacks.restore_rng import RestoreRng
from detour.training.callbacks.step_guard import StepGuard
from detour.training.checkpoints.contents import check_weights
from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.state import restore
from detour.training.composer_model import DetourModel, tokens_for_trainer
from detour.training.extensions import TrainerExtensions, build_extensions
from detour.training.gradient_gate import GradientGate, gloo_sums_gradients
from detour.training.loggers.jsonl import JsonlLogger
from detour.training.loggers.wandb import wandb_loggers
from detour.training.objective_modules import add_modules
from detour.training.optim import build_optimizer
from detour.training.phase_switch import PhaseSwitch
from detour.training.run_folder import RunFolder
from detour.training.run_start import RunStart, find_start
from detour.training.start import Start, read_start
from detour.training.start_weights import start_weights_record
from detour.training.stop import StopRequest
from detour.training.training_data import check_objectives, micro_batch_rows, training_rows
from detour.training.validation import ValidationData

log = logging.getLogger(__name__)


def build_trainer(
    run: RunConfig,
    *,
    callbacks: Iterable[Callback] = (),
    algorithms: Iterable[Algorithm] = (),
    loggers: Iterable[LoggerDestination] = (),
) -> Trainer:
    """A Composer Trainer ready to `fit`, at the start of the run or at the latest checkpoint in its folder.

    Args:
        run: The configuration.
        callbacks: Run after the library's own and those of the YAML. Checkpoints do not hold their state.
        algorithms: Run after the phase switch and those of the YAML.
        loggers: Receive every metric, besides metrics.jsonl and those of the YAML.

    Raises:
        ConfigError, DataError, ModelError, CheckpointError: Something does not fit; nothing was trained or written.
    """
    extensions = build_extensions(run, callbacks=callbacks, algorithms=algorithms, loggers=loggers)
    return assemble(run, find_start(run), StopRequest(), extensions)


def assemble(run: RunConfig, start: RunStart, stop: StopRequest, extensions: TrainerExtensions) -> Trainer:
    """The Trainer of a run whose start is known; at a checkpoint, with its state restored. Arguments as `build_trainer`.

    Args:
        run: The configuration.
        start: From `find_start`.
        stop: Asks the run to save and end early.
        extensions: From `build_extensions`.
    """
    sharded = run.system.parallelism != "ddp" and dist.get_world_size() > 1
    reproducibility.seed_all(run.seed)
    encoder = build_encoder(run, start.resumed, device=start.device, start=start.model)
    add_modules(encoder, run.phases, seed=run.seed, resumed=start.resumed)
    record = {**start.record, **start_weights_record(encoder, start.resumed, device=start.device)}
    held_out = ValidationData(run, start.tokenizer)
    rows = training_rows(run, start.tokenizer, verified=held_out.shared.add_training)
    held_out.check_shared()
    data_spec = partial(_data_spec, limit=encoder.arch.longest_document)
    evaluators = held_out.evaluators(start.vocab, run.phase_schedule.boundaries[1:], data_spec)
    parts = _parts(run, start, stop, encoder=encoder, record=record, held_out=held_out, sharded=sharded)
    trainer = Trainer(
        model=_composer_model(run, encoder, held_out),
        optimizers=build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr),
        train_dataloader=data_spec(rows, parts.ledger.see),
        eval_dataloader=evaluators,
        max_duration=f"{run.phase_schedule.total_tokens}tok",
        algorithms=[parts.switch, *extensions.algorithms],
        callbacks=[*parts.callbacks, *extensions.callbacks],
        loggers=[*parts.loggers, *extensions.loggers],
        progress_bar=False,
        device=start.device,
        precision="amp_bf16" if run.system.precision == "bf16" and start.device == "gpu" else "fp32",
        parallelism_config={"fsdp": _fsdp(run)} if sharded else None,
        device_train_microbatch_size=next(iter(parts.switch.micro_batch_rows[0].values())),
        accumulate_train_batch_on_tokens=True,  # micro-batches weighted by rows would bias the masked-LM loss
        spin_dataloaders=False,  # the stream resumes by itself; spinning would read past rows again
        seed=run.seed,
        deterministic_mode=run.system.deterministic,
        dist_timeout=run.system.timeout_seconds,
        run_name=run.name,
    )
    if sharded and not trainer.state.fsdp_enabled:
        raise ConfigError(
            f"system.parallelism: {run.system.parallelism} was asked for, and Composer did not shard the model"
        )
    if sharded:
        register_fsdp_forward_method(encoder, "loss_of")
    if isinstance(rows, PhasedLoader):
        rows.now = lambda: parts.switch.reads_at(trainer.state.timestamp)
    if trainer.state.dataloader_len == 0:  # Composer would loop over empty epochs forever
        raise DataError(f"data.train: fewer rows than one batch (data.global_batch_size: {run.data.global_batch_size})")
    if start.resumed:
        _resume(run, trainer, start, parts)
    return trainer


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the library itself adds to a Trainer."""

    switch: PhaseSwitch
    ledger: Ledger
    guard: StepGuard
    metrics: JsonlLogger
    callbacks: list[Callback]
    loggers: list[LoggerDestination]

    @property
    def stateful(self) -> list[Any]:
        """Those whose state is in a checkpoint."""
        return [self.ledger, self.switch, self.guard]


def _parts(
    run: RunConfig,
    start: RunStart,
    stop: StopRequest,
    *,
    encoder: Encoder,
    record: dict[str, Any],
    held_out: ValidationData,
    sharded: bool,
) -> _Parts:
    folder, schedule, batches = RunFolder.of(run), run.phase_schedule, _batches_of(start.resumed)
    trunk = RunFolder(Path(run.branch.run)).metrics if run.branch.run else None
    metrics = JsonlLogger(folder.metrics, batches_trained=batches, trunk=trunk)
    guard = StepGuard(
        max_skips=run.guard.max_skips,
        spike_factor=run.guard.spike_factor,
        window=run.guard.spike_window,
        metrics=metrics,
        stop=stop,
    )
    gate = GradientGate(encoder, scale=1 / dist.get_world_size() if gloo_sums_gradients(sharded=sharded) else 1.0)
    clock = PhaseClock(phases=schedule, wsd=run.schedule, vocab=start.vocab, seed=run.seed, optimizer=run.optimizer)
    ledger = Ledger(arch=encoder.arch, schedule=schedule, guard=guard, dtype=_dtype(run))
    parts = _Parts(
        switch=PhaseSwitch(clock=clock, gate=gate, guard=guard, micro_batch_rows=micro_batch_rows(run)),
        ledger=ledger,
        guard=guard,
        metrics=metrics,
        callbacks=[guard, ledger, EvalLoss({name: held_out.folders_of(name) for name in run.evaluation.objectives})],
        loggers=[metrics, *wandb_loggers(run, folder, batches_trained=batches)],
    )
    parts.callbacks.append(
        Checkpointer(
            folder=folder.checkpoints,
            settings=run.checkpoint,
            boundaries=schedule.boundaries[1:],
            record=record,
            stateful=parts.stateful,
            stop=stop,
        )
    )
    if sharded and run.system.parallelism == "fsdp":
        parts.callbacks.append(GradientSync(encoder))
    if start.resumed:
        parts.callbacks.append(RestoreRng(start.resumed))
    if run.logging.progress_bar and dist.get_global_rank() == 0:
        parts.callbacks.append(ProgressBar(schedule))
    return parts


def _fsdp(run: RunConfig) -> FSDP2Config:
    full_shard = run.system.parallelism == "fsdp_full_shard"
    return FSDP2Config(state_dict_type="full", mixed_precision="FULL", reshard_after_forward=full_shard)


def _resume(run: RunConfig, trainer: Trainer, start: RunStart, parts: _Parts) -> None:
    assert start.resumed is not None
    restore(
        trainer.state,
        start.resumed,
        parts.stateful,
        touched=parts.switch.parameters_with_moments,
        set_groups=parts.switch.set_groups,
    )
    if start.measurement_changes:
        parts.metrics.write_event(trainer.state, {"measurement": start.measurement_changes})
    tokens, total = start.resumed.tokens, run.phase_schedule.total_tokens
    log.warning("resuming from %s, at token %s of %s", start.resumed.path, f"{tokens:,}", f"{total:,}")


def _composer_model(run: RunConfig, encoder: Encoder, held_out: ValidationData) -> DetourModel:
    return DetourModel(
        encoder,
        bf16=run.system.precision == "bf16",
        mask_draws=run.evaluation.mask_draws,
        folders=max([1, *map(len, held_out.folders.values())]),
    )


def close(trainer: Trainer) -> None:
    """Closes the trainer and releases its model, which Composer would hold until Python exits.

    Not after an error on one of several processes: closing waits for all of them.
    """
    trainer.close()
    atexit.unregister(Engine._close)  # registered with the trainer's whole state


def build_encoder(
    run: RunConfig, resumed: Checkpoint | None = None, *, device: str = "cpu", start: Start | None = None
) -> Encoder:
    """The encoder with its weights: a checkpoint's, those of `model.init`, or random ones from the current seed.

    Args:
        run: The configuration.
        resumed: The checkpoint to continue from.
        device: "cpu" or "gpu"; chooses the attention backend. The weights stay on the CPU.
        start: From `read_start`; None reads `model.init`.

    Raises:
        ModelError: The architecture of `model.init` is not the configured one, or its weights do not fit.
    """
    backend = select(run.model.attention_backend, device="cuda" if device == "gpu" else "cpu", dtype=_dtype(run))
    check_objectives(run, backend)
    encoder = Encoder(run.architecture, backend=backend, gradient_checkpointing=run.model.gradient_checkpointing)
    if resumed is not None:
        weights = resumed.tensors("model")
        with resumed.translate_errors():
            check_weights(weights)
            encoder.load_weights(weights)
    elif start := start or read_start(run):
        start.load_into(encoder)
    if run.model.compile:
        encoder.compile_regions()
    return encoder


def _dtype(run: RunConfig) -> torch.dtype:
    return torch.bfloat16 if run.system.precision == "bf16" else torch.float32


def _batches_of(resumed: Checkpoint | None) -> int:
    if resumed is None:
        return 0
    with resumed.translate_errors():
        return int(resumed.state()["timestamp"]["batch"])


def _data_spec(loader: Any, batch_transforms: Any = None, *, limit: int) -> DataSpec:
    return DataSpec(
        loader,
        batch_transforms=batch_transforms,
        get_num_samples_in_batch=lambda batch: len(batch["input_ids"]),
        get_num_tokens_in_batch=tokens_for_trainer,
        split_batch=partial(micro_batches, limit=limit),
    )
