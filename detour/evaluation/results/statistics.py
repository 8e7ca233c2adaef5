"""What the scores of several seeds say: intervals, paired comparisons, corrections, and how many seeds it would take.

Scores are paired by seed: models with the same seed get the same order of examples and the same draw of the head.
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
        n: Seeds.
        mean: Of the scores.
        sd: Sample standard deviation (n - 1); nan for one seed.
        low: Lower end of the 95% t interval of the mean; nan for one seed.
        high: Its upper end.
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
        task: Its name.
        summary: Of the differences.
        p: Two-sided paired t test; nan for one seed; 1 if every difference is 0.
        p_holm: Corrected over the tasks of the comparison.
        minimum_detectable_effect: Smallest true mean difference that this number of seeds detects with a power of
            0.8, given this task's standard deviation.
        seeds_needed: Seeds to show the mean difference seen with that power; None where a thousand are not enough, or
            the spread is not known.
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
        model: Its name.
        baseline: The other's.
        tasks: One entry a task.
        mean: Mean over tasks of the mean differences.
        low: Lower end of the 95% interval of it by paired bootstrap over tasks and seeds.
        high: Its upper end.
        p: Two-sided bootstrap p value that the mean is 0.
        wins: Tasks with a mean difference above half of the last digit in the tables.
        losses: Below.
        significant_wins: Those of the wins with a corrected p below 0.05.
        significant_losses: Likewise.
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
    """A model minus the baseline on the tasks, and within them the seeds, that both have.

    Args:
        seed: Of the bootstrap.

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
        scores: By model.
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
    equal = np.ptp(differences) == 0  # rounding of the mean may leave a standard deviation
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
    replacement: what is asked is whether other tasks of this kind and other seeds would say the same. With few tasks
    the interval is too narrow, as bootstrap intervals of few values are.

    Args:
        differences: For each task, one paired difference a seed.
    """
    rng = np.random.default_rng(seed)
    means_DT = np.stack([d[rng.integers(len(d), size=(draws, len(d)))].mean(1) for d in differences], axis=1)
    # two picks of a task in one draw would share its seeds; a fresh draw of seeds for each pick comes from another row
    rows_DT = rng.integers(draws, size=(draws, len(differences)))
    picks_DT = rng.integers(len(differences), size=(draws, len(differences)))
    drawn_D = means_DT[rows_DT, picks_DT].mean(1)
    low, high = np.quantile(drawn_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min((drawn_D <= 0).mean(), (drawn_D >= 0).mean())
    p = min(1.0, 2 * (tail * draws + 1) / (draws + 1))
    return float(np.mean([d.mean() for d in differences])), float(low), float(high), float(p)
