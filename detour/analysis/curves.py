"""Curves over scores that are on disk: needle accuracy by length and place, score by decay length, and the freeze table.

Reads what ``detour probe needle --out`` and ``detour eval run`` wrote; computes no score itself.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detour.analysis.transplant import recovery
from detour.errors import ConfigError, DataError, first_line
from detour.evaluation.probes.needle import POSITIONS
from detour.evaluation.results.statistics import Summary, summarize
from detour.evaluation.suite import deciding, read_records, row_of

NEEDLE_COLUMNS = ("model", "model_sha256", "probe", "data", "metric", "value", "examples", "settings")
ACCURACY = "accuracy_"
CHANCE = {"needle": 1 / 8, "presence": 1 / 2}  # probe -> accuracy of guessing


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An accuracy with its binomial interval.

    Attributes:
        model: Name of the model.
        by: "length" or "place".
        at: Length in tokens, or the place.
        hits: Correct answers.
        examples: Answers.
        low: Lower end of the 95% Wilson interval.
        high: Upper end. The interval describes the choice of test texts; it does not cover the probe's seed.
    """

    model: str
    by: str
    at: int | str
    hits: int
    examples: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """hits / examples."""
        return self.hits / self.examples


def wilson(hits: int, examples: int) -> tuple[float, float]:
    """95% Wilson score interval of a proportion (Wilson 1927). Raises ConfigError unless 0 <= hits <= examples, examples > 0."""
    if not 0 <= hits <= examples or not examples:
        raise ConfigError(f"accuracy: {hits} of {examples}, expected 0 to all of at least one")
    from scipy.stats import binomtest

    interval = binomtest(hits, examples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def needle_accuracies(paths: Sequence[Path]) -> tuple[list[Accuracy], dict[str, Any]]:
    """Accuracies by length (over all places) and by place (over all lengths), and what identifies them.

    Args:
        paths: Files that ``detour probe needle --out`` or ``detour probe presence --out`` wrote.

    Returns:
        The accuracies, and ``{"models": name -> sha256, "probe", "language", "distractors"}``.

    Raises:
        DataError: A file cannot be read, holds no needle scores, or holds a score that is no share of its examples.
        ConfigError: Two probes, languages, or numbers of distractors, a score listed twice, two models of one name, or models
            that were not all probed at the same lengths.
    """
    cells: dict[tuple[str, int, str], tuple[int, int]] = {}
    hashes: dict[str, str] = {}
    kinds: set[tuple[str, str, int]] = set()
    for path in paths:
        for where, row in _needle_rows(path):
            model, tokens, place, hits, examples, distractors = _needle_cell(where, row)
            if hashes.setdefault(model, row["model_sha256"]) != row["model_sha256"]:
                raise ConfigError(f"{where}: another model is called '{model}' too")
            if (model, tokens, place) in cells:
                raise ConfigError(f"{where}: '{model}' has a second score at {tokens} tokens, {place}")
            cells[model, tokens, place] = hits, examples
            kinds.add((row["probe"], row["data"], distractors))
    if len(kinds) > 1:
        raise ConfigError(
            f"needle: scores of {len(kinds)} probes, languages, and numbers of distractors, {sorted(kinds)}; expected one"
        )
    lengths = sorted({tokens for _, tokens, _ in cells})
    if missing := [(m, t, p) for m in hashes for t in lengths for p in POSITIONS if (m, t, p) not in cells]:
        raise ConfigError(f"needle: no score of '{missing[0][0]}' at {missing[0][1]} tokens, {missing[0][2]}")
    found = []
    for model in hashes:
        for by, values in (("length", lengths), ("place", POSITIONS)):
            for at in values:
                parts = [c for (m, t, p), c in cells.items() if m == model and at == (t if by == "length" else p)]
                hits, examples = (sum(column) for column in zip(*parts, strict=True))
                low, high = wilson(hits, examples)
                found.append(Accuracy(model=model, by=by, at=at, hits=hits, examples=examples, low=low, high=high))
    ((probe, language, distractors),) = kinds
    return found, {"models": hashes, "probe": probe, "language": language, "distractors": distractors}


def _needle_rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != NEEDLE_COLUMNS:
                raise DataError(
                    f"{path}: expected the columns {', '.join(NEEDLE_COLUMNS)}, as `detour probe needle --out` writes"
                )
            rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from error
    if wrong := [where for where, row in rows if row["probe"] not in CHANCE]:
        raise DataError(f"{wrong[0]}: not a score of the needle probe")
    overall = ("presence", "accuracy")  # over all lengths and places
    rows = [(where, row) for where, row in rows if (row["probe"], row["metric"]) != overall]
    if not rows:
        raise DataError(f"{path}: no scores")
    return rows


def _needle_cell(where: str, row: dict[str, str]) -> tuple[str, int, str, int, int, int]:
    """Model, tokens, place, hits, examples, distractors."""
    try:
        settings, examples, value = json.loads(row["settings"]), int(row["examples"]), float(row["value"])
        tokens, distractors = int(settings["tokens"]), int(settings["distractors"]) if row["probe"] == "needle" else 0
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where}: damaged ({first_line(error)})") from error
    place = row["metric"].removeprefix(ACCURACY)
    if place not in POSITIONS or not row["metric"].startswith(ACCURACY):
        raise DataError(f"{where}: metric '{row['metric'][:40]}', expected accuracy_ and one of {', '.join(POSITIONS)}")
    hits = value * examples
    if not (examples > 0 and 0 <= value <= 1) or abs(hits - round(hits)) > 1e-6 * examples:
        raise DataError(f"{where}: accuracy {value} is no share of {examples} examples")
    return row["model"], tokens, place, round(hits), examples, distractors


def mean_scores(out: Path, models: Sequence[str]) -> tuple[dict[str, Summary], dict[str, Any]]:
    """Each model's mean score over all tasks, summarized over fine-tuning seeds (mean, sd, 95% t interval), from 0 to 1.

    Args:
        out: A folder that ``detour eval run`` wrote.
        models: Names of the models.

    Returns:
        Name -> summary, and ``{"models": name -> sha256, "tasks", "seeds"}``. The intervals cover fine-tuning seeds only;
        a claim about pretraining needs several training seeds.

    Raises:
        DataError: The folder has no records, or a damaged one.
        ConfigError: A model has no records, is given twice, or lacks a task or seed that another has; or a task differs
            between models.
    """
    if doubled := [name for name, count in Counter(models).items() if count > 1]:
        raise ConfigError(f"models: '{doubled[0]}' is given twice")
    scores: dict[str, dict[tuple[str, int], float]] = {name: {} for name in models}
    hashes: dict[str, str] = {}
    tasks: dict[str, Any] = {}
    for record in read_records(out):
        row = row_of(record)
        if (name := row["model"]) not in scores:
            continue
        scores[name][row["task"], row["seed"]] = row["test"]
        same = {key: deciding(record)[key] for key in ("task", "data")}
        if tasks.setdefault(row["task"], same) != same:
            raise ConfigError(f"{out}: the task '{row['task']}' is not the same for all models and seeds")
        if hashes.setdefault(name, row["model_sha256"]) != row["model_sha256"]:
            raise ConfigError(f"{out}: the records of '{name}' are of different models")
    if absent := [name for name, found in scores.items() if not found]:
        raise ConfigError(f"{out}: no records of '{absent[0]}'")
    cells = set().union(*scores.values())
    for name, found in scores.items():
        if missing := sorted(cells - found.keys()):
            raise ConfigError(
                f"{out}: '{name}' lacks {missing[0][0]} with seed {missing[0][1]}, which another model has"
            )
    seeds = sorted({seed for _, seed in cells})
    if gaps := [(task, seed) for task in tasks for seed in seeds if (task, seed) not in cells]:
        raise ConfigError(f"{out}: {gaps[0][0]} has no records with seed {gaps[0][1]}, which other tasks have")
    summaries = {
        name: summarize([float(np.mean([found[task, seed] for task in tasks])) for seed in seeds])
        for name, found in scores.items()
    }
    return summaries, {"models": {name: hashes[name] for name in models}, "tasks": sorted(tasks), "seeds": seeds}


@dataclass(frozen=True, kw_only=True)
class DecayPoint:
    """The score of a model at a decay length.

    Attributes:
        arm: Name of the curve.
        model: Name of the model.
        fraction: Tokens of the decay / tokens of the phase before it.
        score: In points (0 to 100), over fine-tuning seeds.
    """

    arm: str
    model: str
    fraction: float
    score: Summary


def parse_decay(given: Sequence[str]) -> list[tuple[str, str, float]]:
    """Arm, model, and decay fraction from ``ARM/MODEL=FRACTION``; without an arm it is "decay".

    Raises:
        ConfigError: Another form, a fraction that is not above 0, or two models of one arm at the same fraction.
    """
    found: list[tuple[str, str, float]] = []
    for text in given:
        name, _, number = text.rpartition("=")
        arm, _, model = name.rpartition("/")
        try:
            fraction = float(number)
        except ValueError:
            fraction = math.nan
        if not model or not 0 < fraction < math.inf:
            raise ConfigError(
                f"decay '{text[:80]}': expected ARM/MODEL=FRACTION with a fraction above 0, such as clm/d10=0.1"
            )
        if any((arm or "decay", fraction) == (other, at) for other, _, at in found):
            raise ConfigError(f"decay '{text[:80]}': a second model of this arm at the fraction {fraction:g}")
        found.append((arm or "decay", model, fraction))
    return sorted(found, key=lambda point: (point[0], point[2]))


def decay_points(points: Sequence[tuple[str, str, float]], scores: Mapping[str, Summary]) -> list[DecayPoint]:
    """The scores of the models at their decay lengths."""
    return [DecayPoint(arm=arm, model=model, fraction=at, score=in_points(scores[model])) for arm, model, at in points]


@dataclass(frozen=True, kw_only=True)
class FreezeRow:
    """A row of the freeze table.

    Attributes:
        model: Name of the model.
        score: In points (0 to 100), over fine-tuning seeds.
        kept: Fraction of the detour's gain over its twin that the model has (`recovery`); NaN if there is no gain, or it is
            not clear.
    """

    model: str
    score: Summary
    kept: float


def freeze_rows(
    twin: str, detour: str, frozen: Sequence[str], scores: Mapping[str, Summary], *, is_gain_clear: bool = True
) -> list[FreezeRow]:
    """Twin, detour, and the models with frozen layers, each with the fraction of the gain that it keeps.

    Args:
        twin: Name of the twin.
        detour: Name of the detour.
        frozen: Names of the models with frozen layers.
        scores: Name to score in [0, 1].
        is_gain_clear: Whether the gain is more than noise; a fraction of noise is no number to show.
    """
    low, high = scores[twin].mean, scores[detour].mean
    return [
        FreezeRow(
            model=name,
            score=in_points(scores[name]),
            kept=math.nan if low == high or not is_gain_clear else recovery(low, high, scores[name].mean),
        )
        for name in (twin, detour, *frozen)
    ]


def gain_p(twin: Summary, detour: Summary) -> float:
    """Two-sided p of Welch's t test on the two means; 1 if either rests on a single value, whose spread is unknown."""
    from scipy import stats

    if min(twin.n, detour.n) < 2 or twin.sd == detour.sd == 0:
        return 1.0
    test = stats.ttest_ind_from_stats(detour.mean, detour.sd, detour.n, twin.mean, twin.sd, twin.n, equal_var=False)
    return float(test.pvalue)


def in_points(summary: Summary) -> Summary:
    """A summary of scores from 0 to 1, in points."""
    return Summary(
        mean=100 * summary.mean, sd=100 * summary.sd, low=100 * summary.low, high=100 * summary.high, n=summary.n
    )
