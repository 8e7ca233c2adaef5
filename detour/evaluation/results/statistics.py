"""Statistics over seeds: intervals, paired comparisons, corrections for multiple tests, bootstrap.

Scores are paired by seed: models fine-tuned with the same seed have the same order of examples and initial head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detour.evaluation.results.student import LEVEL, minimum_detectable_effect, seeds_needed, t_interval, t_test_p

DRAWS = 10_000
TIE = 0.0005  # half of the last digit in the tables
Scores = Mapping[str, Mapping[int, float]]  # task -> seed -> score


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Scores of one model on one task.

    Attributes:
        n: Number of seeds.
        mean: Mean score.
        sd: Sample standard deviation (n - 1); nan for one seed.
        low: Lower end of the 95% t interval of the mean; nan for one seed.
        high: Upper end of the interval.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A model minus the baseline on one task, over the seeds that both have.

    Attributes:
        task: Name of the task.
        summary: Summary of the differences.
        p: p value of the two-sided paired t test; nan for one seed; 1 if every difference is 0.
        p_holm: p after Holm's correction over the tasks of the comparison.
        minimum_detectable_effect: Smallest true mean difference that this number of seeds detects with a power of
            0.8, given this task's standard deviation.
        seeds_needed: Number of seeds that detects the observed mean difference with that power; None if 1000 are not
            enough, or the standard deviation is unknown.
    """

    task: str
    summary: Summary
    p: float
    p_holm: float
    minimum_detectable_effect: float
    seeds_needed: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A model against the baseline over all tasks that both have.

    Attributes:
        model: Name of the model.
        baseline: Name of the baseline.
        tasks: One entry per task.
        mean: Mean over tasks of the mean differences.
        low: Lower end of the 95% interval of ``mean`` by paired bootstrap over tasks and seeds.
        high: Upper end of that interval.
        p: Two-sided bootstrap p value that the mean is 0.
        wins: Number of tasks with a mean difference above `TIE`.
        losses: Number of tasks with a mean difference below -`TIE`.
        significant_wins: Number of wins with a corrected p below 0.05.
        significant_losses: Number of losses with a corrected p below 0.05.
    """

    model: str
    baseline: str
    tasks: list[Difference]
    mean: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    significant_wins: int
    significant_losses: int

    @property
    def ties(self) -> int:
        return len(self.tasks) - self.wins - self.losses


def summarize(values: Sequence[float]) -> Summary:
    """Mean, spread and 95% t interval. Raises ValueError for no values."""
    if not values:
        raise ValueError("no scores")
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Summary(n=1, mean=mean, sd=math.nan, low=math.nan, high=math.nan)
    sd = float(np.std(values, ddof=1))
    low, high = t_interval(mean, sd / math.sqrt(n), n - 1)
    return Summary(n=n, mean=mean, sd=sd, low=low, high=high)


def compare(model: str, scores: Scores, baseline: str, baseline_scores: Scores, *, seed: int = 0) -> Comparison:
    """A model minus the baseline, on the tasks and seeds that both have.

    Args:
        model: Name of the model.
        scores: Its scores.
        baseline: Name of the baseline.
        baseline_scores: Its scores.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: They have no task and seed in common.
    """
    differences = {}
    for task in scores:
        seeds = sorted(scores[task].keys() & baseline_scores.get(task, {}).keys())
        if seeds:
            differences[task] = np.array([scores[task][s] - baseline_scores[task][s] for s in seeds])
    if not differences:
        raise ValueError(f"{model} and {baseline} have no task and seed in common")
    p_values = [paired_p(values) for values in differences.values()]
    tasks = [
        Difference(
            task=task,
            summary=(summary := summarize(values.tolist())),
            p=p,
            p_holm=corrected,
            minimum_detectable_effect=minimum_detectable_effect(summary.sd, summary.n),
            seeds_needed=seeds_needed(summary.mean, summary.sd),
        )
        for (task, values), p, corrected in zip(differences.items(), p_values, holm(p_values), strict=True)
    ]
    mean, low, high, p = bootstrap(list(differences.values()), seed=seed)
    signs = [(d.summary.mean > TIE) - (d.summary.mean < -TIE) for d in tasks]
    sure = [d.p_holm < 1 - LEVEL for d in tasks]
    return Comparison(
        model=model,
        baseline=baseline,
        tasks=tasks,
        mean=mean,
        low=low,
        high=high,
        p=p,
        wins=signs.count(1),
        losses=signs.count(-1),
        significant_wins=sum(s == 1 and ok for s, ok in zip(signs, sure, strict=True)),
        significant_losses=sum(s == -1 and ok for s, ok in zip(signs, sure, strict=True)),
    )


def clear_best(scores: Mapping[str, Scores]) -> dict[str, str]:
    """The tasks on which one model is clearly better than every other, and that model.

    Its mean difference to each other model is above `TIE`, and by the paired t tests over the seeds that both have, the
    largest p value, after Holm's correction over tasks, is below 0.05. With two models that all have the same tasks these
    are the significant wins and losses of `compare`.

    Args:
        scores: Scores by model.
    """
    found: dict[str, tuple[str, bool, float]] = {}  # the model of the highest mean, whether it is above all, its p
    for task in dict.fromkeys(task for tasks in scores.values() for task in tasks):
        have = {model: tasks[task] for model, tasks in scores.items() if tasks.get(task)}
        first = max(have, key=lambda model: float(np.mean(list(have[model].values()))))
        shared = {m: sorted(have[first].keys() & seeds.keys()) for m, seeds in have.items() if m != first}
        pairs = [np.array([have[first][s] - have[m][s] for s in seeds]) for m, seeds in shared.items()]
        p_values = [paired_p(pair) for pair in pairs]
        known = bool(pairs) and not any(map(math.isnan, p_values))
        found[task] = (
            first,
            known and all(pair.mean() > TIE for pair in pairs),
            max(p_values) if known else math.nan,
        )
    corrected = holm([p for *_, p in found.values()])
    return {
        task: model
        for (task, (model, above, _)), p in zip(found.items(), corrected, strict=True)
        if above and p < 1 - LEVEL
    }


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of the paired t test; nan for one difference, 1 where all are 0, 0 where all are one other value."""
    n = len(differences)
    if n < 2:
        return math.nan
    equal = np.ptp(differences) == 0  # their computed standard deviation may differ from 0 by rounding
    error = 0.0 if equal else float(np.std(differences, ddof=1)) / math.sqrt(n)
    return t_test_p(float(np.mean(differences)), error, n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979); nan stays nan and counts as no test."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected


def bootstrap(differences: Sequence[np.ndarray], *, seed: int, draws: int = DRAWS) -> tuple[float, float, float, float]:
    """Mean over tasks of the mean difference, its 95% percentile interval, and the two-sided p that it is 0.

    Each draw takes as many tasks as there are, with replacement, and of each task as many seeds as it has, with
    replacement, so that the interval generalizes over tasks of this kind and over seeds. With few tasks it is too narrow,
    as are all bootstrap intervals of few values.

    Args:
        differences: For each task, one paired difference per seed.
        seed: Seed of the draws.
        draws: Number of draws.
    """
    rng = np.random.default_rng(seed)
    means_DT = np.stack([d[rng.integers(len(d), size=(draws, len(d)))].mean(1) for d in differences], axis=1)
    # if a task is picked twice in one draw, its seeds are drawn independently: each pick takes another row
    rows_DT = rng.integers(draws, size=(draws, len(differences)))
    picks_DT = rng.integers(len(differences), size=(draws, len(differences)))
    drawn_D = means_DT[rows_DT, picks_DT].mean(1)
    low, high = np.quantile(drawn_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min((drawn_D <= 0).mean(), (drawn_D >= 0).mean())
    p = min(1.0, 2 * (tail * draws + 1) / (draws + 1))
    return float(np.mean([d.mean() for d in differences])), float(low), float(high), float(p)
