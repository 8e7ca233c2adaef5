"""The one place where a configuration becomes objects and a Trainer."""

from __future__ import annotations

import atexit
import logging
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from composer import DataSpec, Evaluator, Trainer
from composer.core import Callback, Engine
from composer.utils import dist, reproducibility
from composer.utils.parallelism import FSDP2Config

from detour import objectives
from detour.batch import Batch, count_tokens, micro_batches
from detour.config.check import arch, phase_schedule, wsd
from detour.config.schema import RunConfig, StreamConfig
from detour.data.loader import StreamSpec, build_loader
from detour.data.remote import fetch_metadata
from detour.data.tokenizer import fingerprint, load_tokenizer, vocab_of
from detour.errors import ConfigError, DataError, ModelError, StoppedError, TrainingError
from detour.export import hf
from detour.match import fitted
from detour.model.backends import select
from detour.model.encoder import TIED, Encoder
from detour.objectives import Objective, RowRandom
from detour.record import RunFolder, run_record, write_run_files
from detour.training.callbacks.checkpointer import Checkpointer
from detour.training.callbacks.eval_loss import EvalLoss
from detour.training.callbacks.jsonl import JsonlLogger
from detour.training.callbacks.ledger import Ledger
from detour.training.callbacks.progress import ProgressBar
from detour.training.checkpoint import Checkpoint
from detour.training.choice import checkpoint_to_resume
from detour.training.composer_model import DetourModel
from detour.training.contents import check_weights
from detour.training.failures import FailureWatch
from detour.training.guard import StepGuard
from detour.training.intervals import EveryTokens
from detour.training.launch import check_launch, device_of, device_rows_of
from detour.training.optim import build_optimizer
from detour.training.phase import PhaseSwitch, gloo_sums_gradients
from detour.training.resume import RestoreRng, restore
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


def _find_start(run: RunConfig) -> _Start:
    """Collective; nothing is written but the index and manifest of remote rows."""
    check_launch()
    device = device_of(run)
    dist.initialize_dist(device, timeout=run.system.timeout_seconds)
    tokenizer = load_tokenizer(run.model.tokenizer or run.model.init or "")
    identity = fingerprint(tokenizer)
    for stream in [*run.data.train, *run.data.validation]:
        if stream.remote:  # what the run is depends on the manifests
            fetch_metadata(stream.remote, stream.path, timeout_s=run.data.timeout_seconds)
    record = run_record(run, tokenizer=identity)
    return _Start(
        device=device,
        vocab=vocab_of(tokenizer, size=arch(run).vocab_size),
        identity=identity,
        record=record,
        resumed=checkpoint_to_resume(run, record),
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
    schedule, folder = phase_schedule(run), RunFolder.of(run)

    reproducibility.seed_all(run.seed)
    encoder = build_encoder(run, resumed, device=device)
    rows = _loader(run, run.data.train, device_rows, identity, training=True)
    boundaries = schedule.boundaries[1:]
    evaluators = _evaluators(run, vocab, identity, boundaries)
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
        encoder=encoder,
        schedule=schedule,
        wsd=wsd(run),
        vocab=vocab,
        seed=run.seed,
        guard=guard,
        clip_norm=run.optimizer.clip_norm,
        gradient_scale=1 / dist.get_world_size() if gloo_sums_gradients(sharded=sharded) else 1.0,
    )
    dtype = torch.bfloat16 if run.system.precision == "bf16" else torch.float32
    ledger = Ledger(arch=encoder.arch, schedule=schedule, guard=guard, dtype=dtype)
    stateful = [ledger, switch, guard]
    checkpointer = Checkpointer(
        folder=folder.checkpoints,
        interval_tokens=run.checkpoint.interval_tokens,
        boundaries=boundaries,
        keep=run.checkpoint.keep,
        record=start.record,
        stateful=stateful,
        stop=stop,
    )
    callbacks: list[Callback] = [guard, ledger, EvalLoss(), checkpointer]
    if resumed:
        callbacks.append(RestoreRng(resumed))
    if run.logging.progress_bar and dist.get_global_rank() == 0:
        callbacks.append(ProgressBar(schedule))

    model = DetourModel(encoder, bf16=run.system.precision == "bf16")
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
        device_train_microbatch_size=min(run.data.micro_batch_rows, device_rows),
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
        raise DataError(f"data.train: fewer rows than one batch (data.global_batch_rows: {run.data.global_batch_rows})")
    if resumed:
        restore(
            trainer.state, resumed, stateful, touched=lambda: switch.touched([entry.steps for entry in ledger.entries])
        )
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
        TrainingError: A batch was bad (`detour.training.guard`), or memory ran out.
        DataError: The loader failed or fell silent.
        ConfigError, ModelError, CheckpointError: As in `build_trainer`; a checkpoint could not be written.
    """
    run = fitted(run)
    check_launch()
    stop = StopRequest(run.system.max_minutes)
    folder, total = RunFolder.of(run), phase_schedule(run).total_tokens
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
    total = phase_schedule(run).total_tokens
    if dist.get_global_rank() == 0:
        write_run_files(run)
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


def build_encoder(run: RunConfig, resumed: Checkpoint | None, *, device: str = "cpu") -> Encoder:
    """The model with its weights: a checkpoint's, a Hugging Face folder's, or fresh ones from the current seed.

    Raises:
        ModelError: The folder's architecture is not the configured one, or its weights do not fit.
    """
    wanted = arch(run)
    dtype = torch.bfloat16 if run.system.precision == "bf16" else torch.float32
    backend = select(run.model.attention_backend, device="cuda" if device == "gpu" else "cpu", dtype=dtype)
    encoder = Encoder(wanted, backend=backend, gradient_checkpointing=run.model.gradient_checkpointing)
    weights = None
    if resumed is not None:
        weights = resumed.tensors("model")
    elif run.model.init is not None:
        source = hf.fetch(run.model.init)
        found = hf.read_architecture(source)
        _check_architecture(run.model.init, asdict(found), asdict(wanted))
        if found.causal_left != wanted.causal_left:
            log.warning(
                "%s: causal layers saw %d keys to the left, this run sees %d (model.architecture.causal_left_window)",
                run.model.init, found.causal_left, wanted.causal_left,
            )  # fmt: skip
        weights = hf.read_weights(source, wanted)
    if weights is not None:
        with resumed.understood() if resumed is not None else nullcontext():
            check_weights(weights)
            encoder.load_state_dict({**weights, TIED: weights["model.embeddings.tok_embeddings.weight"]})
    if run.model.compile:
        encoder.compile_regions()
    return encoder


def _check_architecture(source: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """All that decides what the weights mean must agree; dropout, initialisation and length limits are free."""
    free = ("embedding_dropout", "attention_dropout", "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
            "max_position_embeddings", "causal_left_window")  # fmt: skip
    lines = [
        f"{key} is {found[key]}, configured {wanted[key]}"
        for key in found
        if key not in free and found[key] != wanted[key]
    ]
    if lines:
        raise ModelError(f"{source}: not the configured model.size / model.architecture: " + "; ".join(lines))


def _batches_of(resumed: Checkpoint | None) -> int:
    if resumed is None:
        return 0
    with resumed.understood():
        return int(resumed.state()["timestamp"]["batch"])


def _loader(run: RunConfig, streams: list[StreamConfig], device_rows: int, identity: str, *, training: bool) -> Any:
    return build_loader(
        streams=[StreamSpec(path=s.path, proportion=s.proportion, remote=s.remote) for s in streams],
        device_batch_rows=device_rows,
        shuffle=run.data.shuffle and training,
        shuffle_seed=run.data.shuffle_seed,
        canonical_nodes=run.data.canonical_nodes,
        workers=run.data.workers if training else 0,
        timeout_s=run.data.timeout_seconds,
        drop_last=training,
        verify_hashes=run.data.verify_hashes,
        vocab_fingerprint=identity,
        row_tokens=run.data.row_tokens,
        cache_bytes=round(limit * 1e9) if training and (limit := run.data.cache_gigabytes) else None,
    )


def _data_spec(loader: Any, batch_transforms: Any = None) -> DataSpec:
    return DataSpec(
        loader,
        batch_transforms=batch_transforms,
        get_num_samples_in_batch=lambda batch: len(batch["input_ids"]),
        get_num_tokens_in_batch=count_tokens,
        split_batch=micro_batches,
    )


def _corrupt_for_evaluation(batch: Batch, *, objective: Objective, vocab: Vocab, seed: int) -> Batch:
    # step 0 every time: the same masks at each evaluation, so that the curve moves with the model alone
    return objective(batch, vocab, RowRandom(seed=seed, step=0, sample_id_B=batch["sample_id"]))


def _evaluators(run: RunConfig, vocab: Vocab, identity: str, boundaries: list[int]) -> list[Evaluator]:
    """One for each objective, all over the same held-out rows."""
    if not run.data.validation:
        return []
    rows = max(1, min(run.data.micro_batch_rows, run.evaluation.rows // dist.get_world_size()))
    batches = max(1, run.evaluation.rows // (rows * dist.get_world_size()))
    loader = _loader(run, run.data.validation, rows, identity, training=False)
    return [
        Evaluator(
            label=name,
            dataloader=_data_spec(
                loader,
                partial(_corrupt_for_evaluation, objective=objectives.build(name, options), vocab=vocab, seed=run.seed),
            ),
            metric_names=["loss"],
            subset_num_batches=batches,
            eval_interval=EveryTokens(run.evaluation.interval_tokens, boundaries),
        )
        for name, options in run.evaluation.objectives.items()
    ]
