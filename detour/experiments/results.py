"""Reads what an experiment has produced so far: scores of every arm and training seed, and their comparisons."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detour.errors import DataError, first_line
from detour.evaluation.data.task import load_task
from detour.evaluation.models import folder_hash
from detour.evaluation.results.arm_tables import Means
from detour.evaluation.results.arms import scores_of_records
from detour.evaluation.results.levels import ArmComparison, arm_means, compare_arms
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.tables import Flagged, degenerate_cells
from detour.evaluation.results.verdicts import NATS, POINTS, Basis, Scale
from detour.evaluation.suite import deciding, read_records
from detour.experiments.cells import Plan, trained
from detour.report.run_history import read_run
from detour.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One kind of measurement of all arms.

    Attributes:
        key: "finetuning", "probes" or "held_out".
        title: For people.
        note: How it was measured, in a sentence or two.
        scale: Unit and direction.
        basis: What intervals and tests rest on.
        means: Arm -> task -> summary.
        comparisons: Every pair of the experiment.
        scores: All scores.
        missing: Encoders without these scores, which are left out with their training seed.
        degenerate: (arm, task) -> fine-tunings whose test predictions are one class only, or empty.
    """

    key: str
    title: str
    note: str
    scale: Scale
    basis: Basis
    means: Means
    comparisons: list[ArmComparison]
    scores: list[Score]
    missing: list[str] = field(default_factory=list)
    degenerate: Flagged = field(default_factory=dict)


def read_results(plan: Plan) -> list[Measured]:
    """Every kind of measurement for which at least one training seed is complete in all arms.

    Raises:
        DataError: A record is damaged, belongs to another encoder, or was made with other settings than its siblings.
    """
    config = plan.experiment.config
    finetuning = config.finetuning
    found = [
        _measured(
            plan,
            "finetuning",
            "Fine-tuning",
            f"Test scores, {finetuning.seeds} fine-tuning seeds per encoder and task; the epoch is chosen on the validation "
            f"split. Changes to every task: {', '.join(finetuning.overrides) or 'none'}.",
            POINTS,
            {name: _finetuned(plan, name) for name in plan.experiment.names.values()},
        ),
        _measured(
            plan,
            "probes",
            "Linear probes",
            "Logistic regression on the mean-pooled states of the frozen encoder (words for entities). Changes to every task: "
            f"{', '.join(config.probes.overrides) or 'none'}.",
            POINTS,
            {name: _probed(plan, name) for name in plan.experiment.names.values()} if config.probes.linear else {},
        ),
        _measured(
            plan,
            "held_out",
            f"Held-out {config.held_out} loss",
            "At the end of training, in nats per target token; the same rows and masks for every arm and seed. Lower is better.",
            NATS,
            {name: _held_out(plan, key) for key, name in plan.experiment.names.items()},
        ),
    ]
    return [each for each in found if each is not None]


def _degenerate(plan: Plan, seeds: Sequence[int]) -> Flagged:
    names = [name for (_, seed), name in plan.experiment.names.items() if seed in seeds]
    folders = [plan.folder / "evaluation" / name for name in names]
    records = [record for folder in folders if (folder / "cells").is_dir() for record in read_records(folder)]
    return degenerate_cells(records, lambda name: name.rpartition("@")[0])


def _measured(
    plan: Plan, key: str, title: str, note: str, scale: Scale, by_model: dict[str, list[Score]]
) -> Measured | None:
    config, names = plan.experiment.config, plan.experiment.names
    missing = [name for name, scores in by_model.items() if not scores]
    seeds = [s for s in config.seeds if all(by_model.get(names[arm, s]) for arm in config.arms)]
    scores = [score for each in by_model.values() for score in each if score.training_seed in seeds]
    if not scores:
        return None
    arms = [config.baseline, *(arm for arm in config.arms if arm != config.baseline)]
    basis, means = arm_means(scores, arms=arms, scale=scale)
    margin = config.margin if scale is POINTS else None
    flagged = _degenerate(plan, seeds) if key == "finetuning" else {}
    comparisons = [
        compare_arms(scores, one, other, margin=margin, scale=scale, flagged=flagged) for one, other in config.pairs
    ]
    return Measured(
        key=key, title=title, note=note, scale=scale, basis=basis, means=means, comparisons=comparisons, scores=scores,
        missing=missing, degenerate=flagged,
    )  # fmt: skip


def _finetuned(plan: Plan, name: str) -> list[Score]:
    """Scores of one encoder; empty as long as a task or seed is missing."""
    folder = plan.folder / "evaluation" / name
    if not all(job.is_done() for job in plan.jobs if job.kind == "finetune" and f"export-{name}" in job.needs):
        return []
    if not (folder / "cells").is_dir():
        return []
    records, sha256 = list(read_records(folder)), folder_hash(plan.model(name))
    for record in records:
        if record["model"]["sha256"] != sha256:
            raise DataError(f"{folder}: holds scores of another encoder than {plan.model(name)}; remove that folder")
    return scores_of_records(records)


def check_alike(plan: Plan) -> None:
    """Raises DataError if two encoders were fine-tuned on one task with other settings or data."""
    first: dict[str, tuple[Path, object]] = {}
    for name in plan.experiment.names.values():
        folder = plan.folder / "evaluation" / name
        for record in read_records(folder) if (folder / "cells").is_dir() else []:
            settings = {key: value for key, value in deciding(record).items() if key in ("task", "data")}
            where, other = first.setdefault(record["task"]["name"], (folder, settings))
            if settings != other:
                raise DataError(f"{folder}: task {record['task']['name']} was run with other settings than in {where}")


def _probed(plan: Plan, name: str) -> list[Score]:
    path = plan.folder / "probes" / f"{name}.csv"
    if not path.is_file():
        return []
    arm, seed = next(key for key, each in plan.experiment.names.items() if each == name)
    return [
        Score(arm=arm, training_seed=seed, task=task, score=score)
        for task, score in probe_scores(path, plan.experiment.config.probes.linear).items()
    ]


def probe_scores(path: Path, tasks: Sequence[str]) -> dict[str, float]:
    """Task -> its own metric, from a file of `detour probe linear --out`.

    Raises:
        DataError: The file is damaged, or lacks a task.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            values = {(row["data"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: damaged ({first_line(error)}); remove it to run the probe again") from error
    found = {}
    for task in map(load_task, tasks):
        if (task.name, task.metric) not in values:
            raise DataError(f"{path}: no {task.metric} of task {task.name}; remove the file to run the probe again")
        found[task.name] = values[task.name, task.metric]
    return found


def _held_out(plan: Plan, key: tuple[str, int]) -> list[Score]:
    """Final held-out loss of each validation folder; empty while the run is not finished."""
    run = plan.experiment.runs[key]
    finished = trained(run)
    if finished is None:
        return []
    folder = RunFolder.of(run).path
    metrics = read_run(folder).metrics
    objective = plan.experiment.config.held_out
    curves = metrics.by_folder.get(objective) or {"validation": metrics.evaluations.get(objective, {})}
    scores = []
    for name, points in curves.items():
        if not points or max(points) != finished.tokens:
            raise DataError(f"{folder}: no held-out {objective} loss on {name} at the end of training")
        scores.append(Score(arm=key[0], training_seed=key[1], task=name, score=points[finished.tokens]))
    return scores
