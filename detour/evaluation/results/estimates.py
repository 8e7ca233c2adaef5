"""Means of differences over seeds and tasks with their standard errors, of which intervals and tests are made.

Shapes: U units of replication, K tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.results.verdicts import SAME


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over units of replication with its standard error, which is nan where the spread is not known."""

    name: str
    by_seed: dict[int | None, float]
    mean: float
    sd: float
    error: float
    df: int
    limited_by_seeds: bool = True  # whether more seeds would make the interval as narrow as wanted


def over_seeds(name: str, units: tuple[int | None, ...], d_U: np.ndarray) -> Estimate:
    """The mean of differences over seeds."""
    n = len(d_U)
    # equal differences do not show how far another seed would be off: their standard error is not known, and not 0
    sd = math.nan if n == 1 else 0.0 if np.ptp(d_U) <= SAME else float(d_U.std(ddof=1))
    by_seed = dict(zip(units, d_U.tolist(), strict=True))
    return Estimate(
        name=name, by_seed=by_seed, mean=float(d_U.mean()), sd=sd, error=sd / math.sqrt(n) if sd else math.nan, df=n - 1
    )


def over_tasks(
    name: str, units: tuple[int | None, ...], d_UK: np.ndarray, tasks: Literal["fixed", "random"]
) -> Estimate:
    """The mean over these tasks (fixed), or over tasks of this kind (random; ConfigError with one task or seed)."""
    seeds = over_seeds(name, units, d_UK.mean(1))
    if tasks == "fixed":
        return seeds
    U, K = d_UK.shape
    if min(U, K) < 2:
        raise ConfigError(f"tasks: random, with {K} tasks and {U} seeds; expected at least 2 of each")
    d_K = d_UK.mean(0)
    known = [] if math.isnan(seeds.error) else [seeds.error]
    known += [float(d_K.std(ddof=1)) / math.sqrt(K)] if np.ptp(d_K) > SAME else []
    return replace(seeds, error=max(known, default=math.nan), df=min(U, K) - 1, limited_by_seeds=False)
