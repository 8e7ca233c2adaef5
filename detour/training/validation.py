"""Evaluation during training: one Evaluator per objective, all over the same validation rows and masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from composer import DataSpec, Evaluator
from composer.utils import dist

from detour import objectives
from detour.batch import IGNORE
from detour.config.schema import RunConfig
from detour.data.loader import StreamSpec, build_loader
from detour.data.manifest import ShardManifest
from detour.data.overlap import TrainValidationOverlap, refuse_same_shards
from detour.data.stream import RowDataset
from detour.data.validation import ValidationFolder
from detour.data.validation_loader import ValidationLoader
from detour.objectives import Objective, RowRandom
from detour.training.intervals import EveryTokens
from detour.training.run_folder import validation_rows
from detour.vocab import Vocab

log = logging.getLogger(__name__)


class ValidationData:
    """The validation folders of a run, and the rows drawn from them for evaluation.

    Verified shards are compared with the training shards row by row: the training loader must call ``shared.add_training``
    for each of its shards, and `check_shared` then reports rows found in both.

    Args:
        run: The configuration.
        identity: `tokenizer_sha256` of the tokenizer.

    Raises:
        DataError: A folder is damaged, does not fit the run, or contains a shard of the training data.
    """

    def __init__(self, run: RunConfig, identity: str) -> None:
        self.run, self.shared = run, TrainValidationOverlap()
        self.folders: list[ValidationFolder] = []
        self.dataset: RowDataset | None = None
        if not run.data.validation:
            return
        train, validation = (
            {stream.path: ShardManifest.load(Path(stream.path)) for stream in streams}
            for streams in (run.train_streams.values(), run.data.validation)
        )
        refuse_same_shards(train, validation)
        self.folders = validation_rows(run, validation)
        self.dataset = build_loader(
            streams=[StreamSpec(path=stream.path, remote=stream.remote) for stream in run.data.validation],
            device_batch_size=1,  # rows are read by index
            shuffle=False,
            shuffle_seed=0,
            canonical_nodes=1,
            workers=0,
            timeout_s=run.data.timeout_seconds,
            verify_hashes=run.data.verify_hashes,
            tokenizer_sha256=identity,
            seq_len=run.data.seq_len,
            verified=self.shared.add_validation,
        ).dataset  # type: ignore[assignment]
        available = sum(folder.total_rows for folder in self.folders)
        if run.evaluation.rows > available and dist.get_global_rank() == 0:
            log.warning(
                "evaluation.rows: %d, but data.validation has only %d rows; all are used",
                run.evaluation.rows,
                available,
            )

    def check_shared(self) -> None:
        """Reports validation rows that are also trained on. To be called once the training folders have been read.

        Raises:
            DataError: They are more than a few.
        """
        for folder, rows in self.shared.counts().items():
            log.warning(
                "data.validation: %s: %d rows are also in data.train, which lowers the held-out loss",
                folder,
                rows,
            )

    def evaluators(
        self, vocab: Vocab, boundaries: Sequence[int], data_spec: Callable[..., DataSpec]
    ) -> list[Evaluator]:
        """One Evaluator per objective of `evaluation.objectives`; none without validation folders.

        Args:
            vocab: Token ids.
            boundaries: Token counts at which phases end, where evaluation is due as well.
            data_spec: Makes Composer's DataSpec from a loader and a transform of its batches.
        """
        if self.dataset is None:
            return []
        evaluation, out = self.run.evaluation, []
        for name, options in evaluation.objectives.items():
            objective = objectives.build(name, options)
            transform = partial(_corrupt, objective=objective, vocab=vocab, seed=evaluation.seed)
            loader = self._loader(draws=1)
            if evaluation.mask_draws > 1 and _is_random(objective, vocab, next(iter(loader))):
                loader = self._loader(draws=evaluation.mask_draws)
            out.append(
                Evaluator(
                    label=name,
                    dataloader=data_spec(loader, transform),
                    metric_names=["loss"],
                    device_eval_microbatch_size=self.run.data.micro_batch_size,
                    subset_num_batches=len(loader),
                    eval_interval=EveryTokens(
                        evaluation.interval_tokens, boundaries, active=partial(self._measured, name)
                    ),
                )
            )
        return out

    def _measured(self, name: str, tokens: int) -> bool:
        """Whether the phase of the batch that begins after ``tokens`` tokens measures the held-out loss under an objective."""
        chosen = self.run.phase_schedule.at(tokens).phase.evaluate
        return chosen is None or name in chosen

    def _loader(self, *, draws: int) -> ValidationLoader:
        assert self.dataset is not None
        return ValidationLoader(
            self.dataset,
            self.folders,
            batch_rows=self.run.data.micro_batch_size,
            processes=dist.get_world_size(),
            rank=dist.get_global_rank(),
            draws=draws,
        )


def _corrupt(batch: dict[str, Any], *, objective: Objective, vocab: Vocab, seed: int) -> dict[str, Any]:
    """Corrupts a batch with the same masks at each evaluation, so that only the model changes the loss."""
    rng = RowRandom(seed=seed, step=batch["draw"], sample_id_B=batch["sample_id"])
    supervised: dict[str, Any] = objective(batch, vocab, rng)  # type: ignore[arg-type,assignment]
    if batch["idle"]:
        supervised["labels"] = torch.full_like(supervised["labels"], IGNORE)
        if "loss_tokens" in supervised:
            supervised["loss_tokens"] = torch.zeros_like(supervised["loss_tokens"])
    return {**supervised, "draw": batch["draw"], "stream": batch["stream"]}


def _is_random(objective: Objective, vocab: Vocab, batch: dict[str, Any]) -> bool:
    """Whether the corruption depends on the random draw."""
    rng = RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"])
    objective(batch, vocab, rng)  # type: ignore[arg-type]
    return rng.drawn
