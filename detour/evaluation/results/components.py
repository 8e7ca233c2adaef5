"""Variance components of scores with the levels training seed > fine-tuning seed, on several tasks.

Model of a score on task k, with training seed s and fine-tuning seed f: x_skf = m_k + g_s + h_sk + e_skf. The estimators
are those of the balanced analysis of variance (Searle, Casella and McCulloch 1992, chapter 4): mean squares are set equal
to their expectations. Shapes: S training seeds, K tasks, F fine-tuning seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Components:
    """Standard deviations of each level, in the unit of the scores; nan where they cannot be estimated.

    With one fine-tuning seed, e is part of h; with one task, h is part of g; with one training seed, only e is known.

    Attributes:
        training_seed: Of g: the part of a training seed's effect that all tasks share.
        training_seed_by_task: Of h: the part that differs between tasks.
        finetuning_seed: Of e: between fine-tuning seeds of one training seed and task.
        by_task: For each task alone, its standard deviations between training seeds (g + h) and fine-tuning seeds (e).
        shares: Fractions of the variance of the mean over all scores that come from g, h, and e, in this order. They say
            which level needs more repetitions. nan for one training seed.

    A component whose estimate is negative, which happens where it is small, is given as 0.
    """

    training_seed: float
    training_seed_by_task: float
    finetuning_seed: float
    by_task: dict[str, tuple[float, float]]
    shares: tuple[float, float, float]


def components(x_SKF: np.ndarray, tasks: tuple[str, ...]) -> Components:
    """Estimates the components of complete scores, or of differences between two arms."""
    S, K, F = x_SKF.shape
    x_SK = x_SKF.mean(2)
    e = _mean_square(x_SKF - x_SK[..., None], S * K * (F - 1))
    residual_SK = x_SK - x_SK.mean(1, keepdims=True) - x_SK.mean(0) + x_SK.mean()
    cell = F * _mean_square(residual_SK, (S - 1) * (K - 1))  # expectation e + F h
    seed = F * K * _mean_square(x_SK.mean(1) - x_SK.mean(), S - 1)  # expectation e + F h + F K g
    g = _excess(seed, cell if K > 1 else _known(e), F * K)
    h = _excess(cell, _known(e), F)
    parts = (g / S, h / (S * K), e / (S * K * F))
    total = float(np.nansum(parts)) if S > 1 else 0.0
    by_task = {}
    for k, task in enumerate(tasks):
        within = _mean_square(x_SKF[:, k] - x_SK[:, k, None], S * (F - 1))
        between = F * _mean_square(x_SK[:, k] - x_SK[:, k].mean(), S - 1)
        by_task[task] = (math.sqrt(_excess(between, _known(within), F)), math.sqrt(within))
    return Components(
        training_seed=math.sqrt(g),
        training_seed_by_task=math.sqrt(h),
        finetuning_seed=math.sqrt(e),
        by_task=by_task,
        shares=(parts[0] / total, parts[1] / total, parts[2] / total) if total > 0 else (math.nan, math.nan, math.nan),
    )


def _mean_square(residuals: np.ndarray, df: int) -> float:
    return float((residuals**2).sum() / df) if df else math.nan


def _known(variance: float) -> float:
    return 0.0 if math.isnan(variance) else variance


def _excess(larger: float, smaller: float, count: int) -> float:
    """(larger - smaller) / count, not below 0; Python's max alone would turn nan into 0."""
    return math.nan if math.isnan(larger + smaller) else max(0.0, (larger - smaller) / count)
