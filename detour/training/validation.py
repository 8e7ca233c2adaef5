"""Evaluation during training: one Evaluator per objective, all over the same validation rows and masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from detour.errors import ConfigError
from detour.objectives import ModuleObjective, Objective, RowRandom
from detour.training.intervals import EveryTokens
from detour.training.run_folder import held_out_folders, held_out_key, validation_rows
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
        self.folders: dict[str, list[ValidationFolder]] = {}
        self._datasets: dict[str, RowDataset] = {}
        if not (held_out := held_out_folders(run)):
            return
        train = {stream.path: ShardManifest.load(Path(stream.path)) for stream in run.train_streams.values()}
        for name, folders in held_out.items():
            key, validation = held_out_key(name), {spec.path: ShardManifest.load(Path(spec.path)) for spec in folders}
            refuse_same_shards(train, validation)
            self._check_rows(name, [*validation.values()])
            self.folders[name] = validation_rows(run, validation, name)
            loader = build_loader(
                streams=[StreamSpec(path=spec.path, remote=spec.remote) for spec in folders],
                device_batch_size=1,  # rows are read by index
                shuffle=False,
                shuffle_seed=0,
                canonical_nodes=1,
                workers=0,
                timeout_s=run.data.timeout_seconds,
                verify_hashes=run.data.verify_hashes,
                tokenizer_sha256=identity,
                seq_len=next(iter(validation.values())).seq_len if name else run.data.seq_len,
                verified=self.shared.add_validation,
            )
            self._datasets[name] = cast(RowDataset, loader.dataset)
            available = sum(folder.total_rows for folder in self.folders[name])
            if run.evaluation.rows > available and dist.get_global_rank() == 0:
                log.warning(
                    "evaluation.rows: %d, but %s has only %d rows; all are used", run.evaluation.rows, key, available
                )

    def _check_rows(self, stream: str, manifests: Sequence[ShardManifest]) -> None:
        """Raises ConfigError if an objective cannot be evaluated on the held-out rows of its stream."""
        for name, options in self.run.evaluation.objectives.items():
            objective = objectives.build(name, options)
            if objective.stream_at(0) == stream and (problem := objective.row_problem(manifests)):
                raise ConfigError(f"evaluation.objectives.{name}: {problem}")

    def folders_of(self, objective: str) -> list[str]:
        """Names of the held-out folders of an objective of `evaluation.objectives`."""
        stream = objectives.build(objective, self.run.evaluation.objectives[objective]).stream_at(0)
        return [folder.name for folder in self.folders.get(stream, [])]

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
        """One Evaluator per objective of `evaluation.objectives` that has validation folders.

        Args:
            vocab: Token ids.
            boundaries: Token counts at which phases end, where evaluation is due as well.
            data_spec: Makes Composer's DataSpec from a loader and a transform of its batches.
        """
        evaluation, out = self.run.evaluation, []
        for name, options in evaluation.objectives.items():
            objective = objectives.build(name, options)
            if (stream := objective.stream_at(0)) not in self._datasets:
                continue
            transform = partial(_corrupt, objective=objective, vocab=vocab, seed=evaluation.seed)
            loader = self._loader(stream, draws=1)
            if evaluation.mask_draws > 1 and _is_random(objective, vocab, next(iter(loader))):
                loader = self._loader(stream, draws=evaluation.mask_draws)
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

    def _loader(self, stream: str, *, draws: int) -> ValidationLoader:
        return ValidationLoader(
            self._datasets[stream],
            self.folders[stream],
            batch_rows=self.run.data.micro_batch_size,
            processes=dist.get_world_size(),
            rank=dist.get_global_rank(),
            draws=draws,
        )


def _corrupt(batch: dict[str, Any], *, objective: Objective, vocab: Vocab, seed: int) -> dict[str, Any]:
    """Corrupts a batch with the same masks at each evaluation, so that only the model changes the loss."""
    rng = RowRandom(seed=seed, step=batch["draw"], sample_id_B=batch["sample_id"])
    supervised: dict[str, Any] = objective(batch, vocab, rng)  # type: ignore[arg-type,assignment]
    if batch["idle"] and not isinstance(objective, ModuleObjective):  # which need not read labels; see `update_metric`
        supervised["labels"] = torch.full_like(supervised["labels"], IGNORE)
        if "loss_tokens" in supervised:
            supervised["loss_tokens"] = torch.zeros_like(supervised["loss_tokens"])
    return {**supervised, "draw": batch["draw"], "stream": batch["stream"], "idle": batch["idle"]}


def _is_random(objective: Objective, vocab: Vocab, batch: dict[str, Any]) -> bool:
    """Whether the corruption depends on the random draw."""
    rng = RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"])
    objective(batch, vocab, rng)  # type: ignore[arg-type]
    return rng.drawn
