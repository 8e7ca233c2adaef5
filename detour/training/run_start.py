"""Where a run begins: launch, tokenizer, data, and checkpoints are checked before any part of the trainer is built."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from composer.utils import dist

from detour.config.schema import RunConfig
from detour.data.manifest import ShardManifest
from detour.data.remote import fetch_metadata
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, vocab_of
from detour.errors import DataError, ModelError
from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.select import branch_record, checkpoint_to_resume, measurement_changes
from detour.training.extensions import check_extensions
from detour.training.launch import check_launch, check_temporary_folder, device_of
from detour.training.run_folder import held_out_folders, held_out_key, run_record
from detour.training.start import Start, check_tokenizer, read_start, start_record
from detour.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """Where a run begins, found before any part of the trainer is built.

    Attributes:
        device: "cpu" or "gpu".
        vocab: The tokenizer's special and ordinary ids.
        tokenizer: The tokenizer's fingerprint.
        record: What identifies the run (`detour.training.run_folder.run_record`).
        resumed: The checkpoint to resume from; None starts the run.
        model: The weights of `model.init`; None on a resume, or for random weights.
        measurement_changes: How held-out losses are measured otherwise than before the resume.
    """

    device: str
    vocab: Vocab
    tokenizer: str
    record: dict[str, Any]
    resumed: Checkpoint | None
    model: Start | None
    measurement_changes: list[str]


def find_start(run: RunConfig) -> RunStart:
    """Checks the launch, tokenizer, data and checkpoints, and finds where the run begins.

    A collective operation: every process calls it. Writes nothing but the index and manifest of remote rows.

    Raises:
        ConfigError, DataError, ModelError, CheckpointError: Something does not fit.
    """
    check_launch()
    check_temporary_folder(run.data.workers)
    check_extensions(run)
    device = device_of(run)
    dist.initialize_dist(device, timeout=run.system.timeout_seconds)
    tokenizer = load_tokenizer(run.model.tokenizer or run.model.init or "")
    identity = tokenizer_sha256(tokenizer)
    for stream in [*run.train_streams.values(), *chain(*held_out_folders(run).values())]:
        if stream.remote:  # the record needs the manifests
            fetch_metadata(stream.remote, stream.path, timeout_s=run.data.timeout_seconds)
    record = run_record(run, tokenizer=identity)
    resumed = checkpoint_to_resume(run, record)
    model = None if resumed else read_start(run)
    record["start"] = start_record(resumed, model)
    record["branch"] = branch_record(run, resumed)
    if not resumed:
        check_tokenizer(run, tokenizer)
    vocab = vocab_of(tokenizer, size=run.architecture.vocab_size)
    check_positions(run, vocab)
    return RunStart(
        device=device,
        vocab=vocab,
        tokenizer=identity,
        record=record,
        resumed=resumed,
        model=model,
        measurement_changes=measurement_changes(run, record, resumed),
    )


def check_positions(run: RunConfig, vocab: Vocab) -> None:
    """Checks that the model has a position for every token of the packed documents, and counts them from the right row.

    Raises:
        DataError: A folder has longer documents than the model's limit.
        ModelError: The model's positions depend on a padding id that the tokenizer has not.
    """
    arch = run.architecture
    held_out = {held_out_key(name): folders for name, folders in held_out_folders(run).items()}
    for key, streams in {"data.train": run.train_streams.values(), **held_out}.items():
        for stream in streams:
            longest = ShardManifest.load(Path(stream.path)).longest_document
            if longest > arch.longest_document:
                raise DataError(
                    f"{key}: {stream.path}: its documents have up to {longest} tokens, expected at most the model's limit, "
                    f"{arch.longest_document}; pack them with --max-document {arch.longest_document}"
                )
    if arch.required_pad_id not in (None, vocab.pad_id):
        raise ModelError(
            f"model.tokenizer: its padding id is {vocab.pad_id}, expected {arch.required_pad_id}, on which the positions of "
            "the model depend"
        )
