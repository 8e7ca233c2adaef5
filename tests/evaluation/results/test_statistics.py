"""Intervals, tests and power against independent computations and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from detour.evaluation.results.statistics import (
    bootstrap,
    compare,
    holm,
    minimum_detectable_effect,
    paired_p,
    power,
    seeds_needed,
    summarize,
)


def test_the_interval_is_that_of_the_t_distribution():
    values = [0.71, 0.74, 0.69, 0.75, 0.72]
    summary = summarize(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (summary.low, summary.high) == pytest.approx((low, high))
    assert (summary.mean, summary.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_one_seed_has_no_spread():
    summary = summarize([0.5])
    assert summary.mean == 0.5
    assert all(map(math.isnan, (summary.sd, summary.low, summary.high)))
    with pytest.raises(ValueError, match="no scores"):
        summarize([])


def test_the_paired_test_is_the_t_test_of_the_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.02, 6), rng.normal(0.69, 0.02, 6)
    assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_p(np.zeros(4)) == 1
    assert paired_p(np.full(4, 0.25)) == 0
    assert math.isnan(paired_p(np.array([0.1])))


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    with_unknown = holm([0.02, math.nan, 0.03])
    assert with_unknown[0] == pytest.approx(0.04)
    assert math.isnan(with_unknown[1])
    assert with_unknown[2] == pytest.approx(0.04)  # never below one that comes before it


def test_the_bootstrap_draws_tasks_and_within_them_seeds():
    """The same by a plain loop; both are random, hence the tolerance."""
    rng = np.random.default_rng(1)
    differences = [rng.normal(mean, 0.01, 5) for mean in (0.00, 0.01, 0.03, 0.02)]
    mean, low, high, p = bootstrap(differences, seed=0)
    loop = []
    for _ in range(6000):
        tasks = rng.integers(4, size=4)
        loop.append(np.mean([rng.choice(differences[task], 5).mean() for task in tasks]))
    assert mean == pytest.approx(np.mean([d.mean() for d in differences]))
    assert (low, high) == pytest.approx(np.quantile(loop, [0.025, 0.975]), abs=8e-4)
    assert p == pytest.approx(2 * np.mean(np.array(loop) <= 0), abs=0.01)


def test_the_bootstrap_keeps_to_its_seed_its_sign_and_its_scale():
    differences = [np.array([0.01, 0.03, 0.02]), np.array([-0.01, 0.0, 0.02])]
    first = bootstrap(differences, seed=3)
    assert first == bootstrap(differences, seed=3)
    mean, low, high, p = bootstrap([-2 * d for d in differences], seed=3)
    assert (-mean / 2, -high / 2, -low / 2) == pytest.approx(first[:3])
    assert p == pytest.approx(first[3])
    assert bootstrap([np.full(3, 0.1)] * 4, seed=0)[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert bootstrap([np.zeros(3)] * 4, seed=0)[3] == 1


def test_power_is_that_of_published_tables_and_of_a_simulation():
    assert seeds_needed(0.5, 1.0) == 34  # Cohen's d_z of 0.5, two-sided 0.05, power 0.8
    assert seeds_needed(0.8, 1.0) == 15
    assert seeds_needed(-0.8, 1.0) == 15
    assert power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=1e-3)
    draws = np.random.default_rng(0).normal(1.2, 1.0, (4000, 5))
    found = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert power(1.2, 1.0, 5) == pytest.approx(found, abs=0.03)


def test_what_cannot_be_shown_is_said():
    assert seeds_needed(0.0, 0.01) is None
    assert seeds_needed(1e-6, 0.01) is None
    assert seeds_needed(0.01, math.nan) is None
    assert math.isnan(minimum_detectable_effect(math.nan, 1))
    assert power(minimum_detectable_effect(0.02, 7), 0.02, 7) == pytest.approx(0.8)


def test_a_comparison_takes_what_both_models_have():
    detour = {"a": {1: 0.9, 2: 0.8, 3: 0.7}, "b": {1: 0.5, 2: 0.5}, "c": {1: 0.3}, "only": {1: 1.0}}
    twin = {"a": {1: 0.8, 2: 0.71, 4: 0.0}, "b": {1: 0.5, 2: 0.5}, "c": {1: 0.4}}
    result = compare("detour", detour, "twin", twin)
    assert [(d.task, d.summary.n) for d in result.tasks] == [("a", 2), ("b", 2), ("c", 1)]
    assert [d.summary.mean for d in result.tasks] == pytest.approx([0.095, 0.0, -0.1])
    assert (result.wins, result.ties, result.losses) == (1, 1, 1)
    assert result.mean == pytest.approx(-0.005 / 3)
    assert result.low <= result.mean <= result.high


def test_a_clear_difference_is_significant_after_correction_and_noise_is_not():
    rng = np.random.default_rng(2)
    scores = {
        model: {
            task: dict(enumerate(rng.normal(0.7 + gain * (task == "clear"), 0.01, 9))) for task in ("clear", "x", "y")
        }
        for model, gain in (("detour", 0.1), ("twin", 0.0))
    }
    result = compare("detour", scores["detour"], "twin", scores["twin"])
    assert (result.significant_wins, result.significant_losses) == (1, 0)
    assert next(d for d in result.tasks if d.task == "clear").seeds_needed <= 4
    with pytest.raises(ValueError, match="no task and seed in common"):
        compare("detour", {"a": {1: 0.5}}, "twin", {"a": {2: 0.5}})
