"""How often intervals for the difference of two arms hold the true difference, and how often the TOST errs, by simulation.

    python scripts/interval_coverage.py [--draws 20000] [--seed 0] > coverage.md

Differences have the levels training seed > fine-tuning seed > task, with normal errors unless a row says otherwise. The
figures of docs/decisions/0016 are from the defaults. About five minutes on one core; the mixed model is fitted to 300 draws of each row.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

TASKS, FINETUNING = 6, 3


@dataclass(frozen=True, kw_only=True)
class World:
    """Standard deviations in units of that between fine-tuning seeds; effects of tasks are fixed or random."""

    training_seeds: int
    shared: float = 0.0  # of a training seed, on all tasks
    by_task: float = 0.0  # of a training seed, on one task
    tasks: float = 1.0  # between tasks
    crossed: float = 0.0  # of a fine-tuning seed, in all training seeds alike
    tails: float | None = None  # degrees of freedom of t errors; None is normal
    uneven: bool = False  # whether the noise of fine-tuning differs between tasks by a factor of 8

    def draw(self, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """True effects of the tasks [N, K], and differences [N, S, K, F]."""

        def noise(*shape: int) -> np.ndarray:
            if self.tails is None:
                return rng.normal(size=shape)
            return rng.standard_t(self.tails, size=shape) / np.sqrt(self.tails / (self.tails - 2))

        S, K, F = self.training_seeds, TASKS, FINETUNING
        effects_NK = self.tasks * rng.normal(size=(draws, K))
        scale_K = np.geomspace(0.35, 2.8, K) if self.uneven else np.ones(K)
        x = effects_NK[:, None, :, None] + self.shared * noise(draws, S, 1, 1) + self.by_task * noise(draws, S, K, 1)
        x = x + self.crossed * noise(draws, 1, K, F)
        return effects_NK, x + scale_K[:, None] * noise(draws, S, K, F)


def over_training_seeds(x: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The library's choice, vectorized: mean and half width of the t interval over training seeds."""
    d_NS = x.mean((2, 3))
    n = d_NS.shape[1]
    return d_NS.mean(1), t.ppf((1 + level) / 2, n - 1) * d_NS.std(1, ddof=1) / np.sqrt(n)


def over_all_seeds(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of training and fine-tuning seed as if it were a run of its own."""
    d_NU = x.mean(2).reshape(len(x), -1)
    n = d_NU.shape[1]
    return d_NU.mean(1), t.ppf(0.975, n - 1) * d_NU.std(1, ddof=1) / np.sqrt(n)


def bootstrap(x: np.ndarray, truth_N: np.ndarray, rng: np.random.Generator, draws: int = 400) -> float:
    """Coverage of the percentile bootstrap over training seeds, and fine-tuning seeds within them."""
    N, S, K, F = x.shape
    means = np.empty((draws, N))
    rows, tasks = np.arange(N)[:, None, None, None], np.arange(K)[:, None]
    for b in range(draws):
        s = rng.integers(S, size=(N, S, 1, 1))
        f = rng.integers(F, size=(N, S, K, F))
        means[b] = x[rows, s, tasks, f].mean((1, 2, 3))
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return float(((low <= truth_N) & (truth_N <= high)).mean())


def mixed_model(x: np.ndarray, truth_N: np.ndarray) -> tuple[float, float]:
    """Coverage of MixedLM (REML; training seed, and training seed by task) with a normal and with a t quantile."""
    S, K, F = x.shape[1:]
    seed, task, _ = (i.ravel() for i in np.indices((S, K, F)))
    tasks = np.eye(K)[task]
    fixed = np.column_stack([np.ones(len(task)), tasks[:, 1:] - tasks[:, :1]])  # the intercept is the mean over tasks
    columns = [[[f"{s}:{k}" for k in range(K)] for s in range(S)]]
    by_task = VCSpec(["by_task"], columns, [[tasks[seed == s] for s in range(S)]])
    hits, quantiles = np.zeros(2), np.array([norm.ppf(0.975), t.ppf(0.975, S - 1)])
    for values, truth in zip(x, truth_N, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few seeds often put a variance at its boundary, 0
            model = MixedLM(values.ravel(), fixed, groups=seed, exog_re=np.ones((len(seed), 1)), exog_vc=by_task)
            fit = model.fit(reml=True, method=["lbfgs", "powell"])
        hits += abs(fit.params[0] - truth) <= quantiles * fit.bse[0]
    return float(hits[0] / len(x)), float(hits[1] / len(x))


def random_tasks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The library's choice for random tasks: the larger standard error, the smaller number of degrees of freedom."""
    S, K = x.shape[1:3]
    seeds, tasks = x.mean((2, 3)), x.mean((1, 3))
    error = np.maximum(seeds.std(1, ddof=1) / np.sqrt(S), tasks.std(1, ddof=1) / np.sqrt(K))
    return x.mean((1, 2, 3)), t.ppf(0.975, min(S, K) - 1) * error


def satterthwaite(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random tasks by the sum of both mean squares, with Satterthwaite's degrees of freedom."""
    S, K = x.shape[1:3]
    parts = x.mean((2, 3)).var(1, ddof=1) / S, x.mean((1, 3)).var(1, ddof=1) / K
    df = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (S - 1) + parts[1] ** 2 / (K - 1))
    return x.mean((1, 2, 3)), t.ppf(0.975, df) * np.sqrt(parts[0] + parts[1])


def tost_rate(x: np.ndarray, truth_N: np.ndarray, margin: float) -> float:
    """How often the TOST at 0.05 declares equivalence where the true difference is exactly the margin."""
    mean, half = over_training_seeds(x, 0.90)
    mean = mean - truth_N + margin
    return float(((mean - half > -margin) & (mean + half < margin)).mean())


WORLDS = [
    World(training_seeds=S, **levels)
    for S in (3, 5)
    for levels in (
        {"shared": 0.0, "by_task": 0.0},
        {"shared": 0.3, "by_task": 0.5},
        {"shared": 1.0, "by_task": 0.0},
        {"shared": 1.0, "by_task": 1.0},
        {"shared": 3.0, "by_task": 0.5},
        {"shared": 0.0, "by_task": 2.0, "tasks": 2.0},
        {"shared": 0.3, "by_task": 0.3, "uneven": True},
        {"shared": 1.0, "by_task": 0.5, "tails": 4.0},
        {"shared": 0.3, "by_task": 0.3, "crossed": 1.0},
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--fits", type=int, default=300, help="draws that the mixed model is fitted to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    header = [
        "S",
        "shared",
        "by task",
        "tasks",
        "other",
        "t, training seeds",
        "t, all seeds",
        "bootstrap",
        "MixedLM, normal",
    ]
    header += ["MixedLM, t", "random tasks: wider", "random tasks: Satterthwaite", "TOST at the margin"]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    rng = np.random.default_rng(arguments.seed)
    for world in WORLDS:
        effects_NK, x = world.draw(arguments.draws, rng)
        truth_N = effects_NK.mean(1)
        few = min(2000, arguments.draws)
        rates = []
        for interval, truth in (
            (over_training_seeds, truth_N),
            (over_all_seeds, truth_N),
            (None, None),
            (random_tasks, 0.0),
            (satterthwaite, 0.0),
        ):
            if interval is None:
                rates.append(bootstrap(x[:few], truth_N[:few], rng))
                rates += mixed_model(x[: arguments.fits], truth_N[: arguments.fits])
            else:
                mean, half = interval(x)
                rates.append(float((abs(mean - truth) <= half).mean()))
        spread = float(x.mean((2, 3)).std(1, ddof=1).mean())
        rates.append(tost_rate(x, truth_N, margin=4 * spread))
        other = f"t({world.tails:g}) errors" if world.tails else "uneven tasks" if world.uneven else ""
        other = f"crossed fine-tuning seeds, {world.crossed:g}" if world.crossed else other
        cells = [str(world.training_seeds), f"{world.shared:g}", f"{world.by_task:g}", f"{world.tasks:g}", other or "-"]
        print(f"| {' | '.join([*cells, *(f'{100 * rate:.1f}' for rate in rates)])} |", flush=True)


if __name__ == "__main__":
    main()
