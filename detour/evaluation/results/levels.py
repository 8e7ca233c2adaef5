"""Compares two arms on scores that were repeated on three levels: training seed > fine-tuning seed > task.

The unit of replication is the training seed: the claim is that a recipe helps, and another run of the recipe may come out
otherwise. Fine-tuning one trained model several times says nothing about that. Arms are paired by training seed (equal
rows, order, and masks). For each training seed, the difference is averaged over its fine-tuning seeds and then over tasks; the
interval and the tests are those of Student's t on these averages, with (training seeds - 1) degrees of freedom. For balanced
scores with normal errors this is exact for any ratio of the variances on the levels below; bootstraps and mixed models with few
seeds are not (``scripts/interval_coverage.py``, docs/decisions/0016). With one training seed per arm the same is computed over
fine-tuning seeds, and labeled so.

Shapes: A arms, S training seeds, K tasks, F fine-tuning seeds, U units of replication.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.results.components import Components, components
from detour.evaluation.results.equivalence import equivalence_p, seeds_to_decide
from detour.evaluation.results.estimates import Estimate, over_seeds, over_tasks
from detour.evaluation.results.score_grid import Score, ScoreGrid, score_grid
from detour.evaluation.results.statistics import Summary, holm, summarize
from detour.evaluation.results.student import minimum_detectable_effect, t_interval, t_test_p
from detour.evaluation.results.tables import NO_FLAGS, Flagged, flags_of
from detour.evaluation.results.verdicts import (
    ALPHA,
    FINETUNING,
    POINTS,
    TRAINING,
    Basis,
    Finding,
    Scale,
    Verdict,
    sentence,
    verdict_of,
)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """An arm minus the baseline on one task, or on the mean over tasks. All numbers are in the unit of the scores.

    Attributes:
        name: The task's, or `Scale.mean`, such as ``mean over tasks``.
        by_seed: The difference for each seed of the comparison's basis.
        summary: Of these differences, with the 95% t interval; ends are nan for one seed, or if all are equal.
        low_90: Lower end of the 90% interval, which the TOST compares with the margin.
        high_90: Upper end.
        p: Two-sided p that the difference is 0; nan where there is no interval.
        p_holm: Corrected over tasks (Holm 1979); of the mean over tasks, p itself.
        p_equivalence: p of the TOST; nan where there is no interval, or without a margin.
        p_equivalence_holm: Corrected over tasks.
        minimum_detectable_effect: Smallest true difference that this number of seeds shows with a power of 0.8, given the
            spread seen; nan where the spread is not known, and for random tasks.
        seeds_to_decide: Seeds with which both a true difference as large as the margin is shown and a true difference of 0 is
            declared equivalent, each with a power of 0.8, given the spread seen. Without a margin, to show the
            difference seen. 1001 for more than 1000; None where the spread is not known, and for random tasks.
        verdict: By the corrected p values; see `Verdict` for the rules.
        sentence: The verdict in words.
        degenerate: Cells of both arms whose predictions are one class only, or empty; of the mean, those of all its tasks.
    """

    name: str
    by_seed: dict[int | None, float]
    summary: Summary
    low_90: float
    high_90: float
    p: float
    p_holm: float
    p_equivalence: float
    p_equivalence_holm: float
    minimum_detectable_effect: float
    seeds_to_decide: int | None
    verdict: Verdict
    sentence: str
    degenerate: int = 0


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """An arm minus the baseline.

    Attributes:
        arm: Its name.
        baseline: The other's.
        basis: Whether intervals and tests come from training seeds, or from fine-tuning seeds only.
        scale: Unit and direction of the scores.
        margin: Of equivalence, in the scale's unit; None if none was named.
        training_seeds: Those of both arms.
        finetuning_seeds: Number per training seed and task.
        tasks_are: Whether the mean over tasks is about these tasks (fixed) or about tasks of this kind (random).
        overall: The mean over tasks.
        tasks: One entry per task.
        components: Of the differences.
        dropped: Tasks that were left out.
    """

    arm: str
    baseline: str
    basis: Basis
    scale: Scale
    margin: float | None
    training_seeds: tuple[int | None, ...]
    finetuning_seeds: int
    tasks_are: Literal["fixed", "random"]
    overall: Contrast
    tasks: list[Contrast]
    components: Components
    dropped: tuple[str, ...]


def compare_arms(
    scores: Iterable[Score],
    arm: str,
    baseline: str,
    *,
    margin: float | None,
    scale: Scale = POINTS,
    tasks: Literal["fixed", "random"] = "fixed",
    drop_tasks: Sequence[str] = (),
    flagged: Flagged = NO_FLAGS,
) -> ArmComparison:
    """Compares two arms that have the same training seeds, fine-tuning seeds, and tasks.

    Args:
        scores: Of these arms; scores of other arms are ignored.
        margin: Half width of the region of equivalence, in the scale's unit (points). It has to be named before the
            scores are seen. None: nothing is tested for equivalence.
        tasks: ``fixed``: the mean is about these tasks. ``random``: it is about tasks of this kind, and the wider of the
            intervals over training seeds and over tasks is taken, with the smaller number of degrees of freedom. That is
            conservative: it covers 94% to nearly 100% in simulations (docs/decisions/0016).
        drop_tasks: Tasks to leave out of both arms.
        flagged: Degenerate cells, as `detour.evaluation.results.tables.degenerate_cells` counts them: a verdict of equivalence
            does not rest on them, and sentences name their number.

    Raises:
        ConfigError: The margin is not above 0, or random tasks are asked for with one task or one seed.
        DataError: See `score_grid`: cells are missing, appear twice, or are not finite.
    """
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"margin: {margin}, expected a number of {scale.unit} above 0")
    grid = score_grid(scores, [arm, baseline], drop_tasks=drop_tasks)
    d_SKF = grid.scores_ASKF[0] - grid.scores_ASKF[1]
    units, d_UK, basis = replicates(grid, d_SKF)
    overall = over_tasks(scale.mean, units, d_UK, tasks)
    each = [over_seeds(name, units, d_UK[:, k]) for k, name in enumerate(grid.tasks)]
    raw = None if margin is None else margin / scale.factor
    degenerate = {name: flags_of(flagged, (arm, baseline), name) for name in grid.tasks}
    about = _About(
        arm=arm, baseline=baseline, basis=basis, scale=scale, margin=margin, raw_margin=raw,
        degenerate=degenerate | {scale.mean: sum(degenerate.values())}, cells=2 * d_SKF[:, 0].size,
    )  # fmt: skip
    p_mean, p_margin = _tests(overall, raw)
    p, p_equivalence = ([tests[i] for tests in (_tests(e, raw) for e in each)] for i in range(2))
    corrected = zip(each, p, holm(p), p_equivalence, holm(p_equivalence), strict=True)
    return ArmComparison(
        arm=arm,
        baseline=baseline,
        basis=basis,
        scale=scale,
        margin=margin,
        training_seeds=grid.training_seeds,
        finetuning_seeds=d_SKF.shape[2],
        tasks_are=tasks,
        overall=_contrast(overall, about, p_mean, p_mean, p_margin, p_margin),
        tasks=[_contrast(e, about, *values) for e, *values in corrected],
        components=components(d_SKF, grid.tasks, same_seeds=len(set(grid.finetuning_seeds.values())) == 1),
        dropped=grid.dropped,
    )


def arm_means(
    scores: Iterable[Score],
    *,
    arms: Sequence[str] | None = None,
    drop_tasks: Sequence[str] = (),
    scale: Scale = POINTS,
) -> tuple[Basis, dict[str, dict[str, Summary]]]:
    """Means of each arm on each task and over tasks, with intervals from the same seeds as those of `compare_arms`.

    Returns:
        The basis, and for each arm a `Summary` for each task and, last, for `Scale.mean`.

    Raises:
        DataError: See `score_grid`.
    """
    grid = score_grid(scores, arms, drop_tasks=drop_tasks)
    found, basis = {}, TRAINING
    for a, arm in enumerate(grid.arms):
        _, x_UK, basis = replicates(grid, grid.scores_ASKF[a])
        found[arm] = {task: summarize(x_UK[:, k].tolist()) for k, task in enumerate(grid.tasks)}
        found[arm][scale.mean] = summarize(x_UK.mean(1).tolist())
    return basis, found


def replicates(grid: ScoreGrid, x_SKF: np.ndarray) -> tuple[tuple[int | None, ...], np.ndarray, Basis]:
    """The units that intervals come from: training seeds where there are several, else fine-tuning seeds.

    Args:
        grid: Where the seeds are named.
        x_SKF: Scores of one arm, or differences of two.

    Returns:
        Their seeds, their values [U, K] for each task, and the basis.
    """
    if len(grid.training_seeds) > 1:
        return grid.training_seeds, x_SKF.mean(2), TRAINING
    (seeds,) = grid.finetuning_seeds.values()
    return seeds, x_SKF[0].T, FINETUNING


@dataclass(frozen=True, kw_only=True)
class _About:
    arm: str
    baseline: str
    basis: Basis
    scale: Scale
    margin: float | None
    raw_margin: float | None
    degenerate: dict[str, int]
    cells: int  # of both arms, on one task


def _tests(e: Estimate, margin: float | None) -> tuple[float, float]:
    return t_test_p(e.mean, e.error, e.df), math.nan if margin is None else equivalence_p(e.mean, e.error, e.df, margin)


def _where(e: Estimate, scale: Scale) -> str:
    if e.name != scale.mean:
        return f"on {e.name}"
    return f"on the {e.name}" if e.limited_by_seeds else f"on the {e.name} of this kind"


def _contrast(
    e: Estimate, about: _About, p: float, p_holm: float, p_equivalence: float, p_equivalence_holm: float
) -> Contrast:
    n = len(e.by_seed)
    low, high = t_interval(e.mean, e.error, e.df)
    low_90, high_90 = t_interval(e.mean, e.error, e.df, 0.9)
    degenerate = about.degenerate[e.name]
    verdict = verdict_of(
        e.mean, p_holm, p_equivalence_holm, higher_is_better=about.scale.higher_is_better, degenerate=degenerate
    )
    to_decide = seeds_to_decide(e.mean, e.sd, about.raw_margin) if e.limited_by_seeds else None
    finding = Finding(
        arm=about.arm,
        baseline=about.baseline,
        where=_where(e, about.scale),
        verdict=verdict,
        mean=e.mean,
        low=low,
        high=high,
        low_90=low_90,
        high_90=high_90,
        p_equivalence=p_equivalence_holm,
        within_margin=p_equivalence_holm < ALPHA and not degenerate,
        margin=about.margin,
        seeds=n,
        basis=about.basis,
        seeds_to_decide=to_decide,
        degenerate=degenerate,
        cells=about.cells * (len(about.degenerate) - 1 if e.name == about.scale.mean else 1),
    )
    return Contrast(
        name=e.name,
        by_seed=e.by_seed,
        summary=Summary(n=n, mean=e.mean, sd=e.sd, low=low, high=high),
        low_90=low_90,
        high_90=high_90,
        p=p,
        p_holm=p_holm,
        p_equivalence=p_equivalence,
        p_equivalence_holm=p_equivalence_holm,
        minimum_detectable_effect=minimum_detectable_effect(e.sd, n) if e.limited_by_seeds else math.nan,
        seeds_to_decide=to_decide,
        verdict=verdict,
        sentence=sentence(finding, about.scale),
        degenerate=degenerate,
    )
