"""TOST, its power, and the seeds it takes, against statsmodels, simulation, and the normal limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from detour.evaluation.results.equivalence import (
    equivalence_p,
    equivalence_power,
    seeds_for_equivalence,
    seeds_to_decide,
)
from detour.evaluation.results.student import t_interval, t_test_p

VALUES = st.lists(st.floats(-3, 3), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-3)


@given(VALUES, st.floats(0.01, 4))
@settings(max_examples=40, deadline=None)
def test_tests_and_intervals_are_those_of_statsmodels(values, margin):
    d = np.array(values)
    mean, error, df = d.mean(), d.std(ddof=1) / math.sqrt(len(d)), len(d) - 1
    theirs = ttost_paired(d, np.zeros(len(d)), -margin, margin)[0]
    assert equivalence_p(mean, error, df, margin) == pytest.approx(theirs, abs=1e-12)
    assert t_test_p(mean, error, df) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=1e-12)
    for level in (0.9, 0.95):
        assert t_interval(mean, error, df, level) == pytest.approx(DescrStatsW(d).tconfint_mean(1 - level))


@given(VALUES, st.floats(0.01, 4))
@settings(max_examples=40, deadline=None)
def test_the_tost_is_significant_where_the_90_percent_interval_is_inside_the_margin(values, margin):
    d = np.array(values)
    mean, error, df = d.mean(), d.std(ddof=1) / math.sqrt(len(d)), len(d) - 1
    low, high = t_interval(mean, error, df, 0.9)
    if min(abs(low + margin), abs(high - margin)) > 1e-9:
        assert (equivalence_p(mean, error, df, margin) < 0.05) == (-margin < low and high < margin)


def test_without_spread_the_answer_is_certain_and_with_one_seed_there_is_none():
    assert equivalence_p(0.2, 0.0, 2, 0.3) == 0
    assert equivalence_p(-0.4, 0.0, 2, 0.3) == 1
    assert equivalence_p(0.3, 0.0, 2, 0.3) == 1  # on the margin is not inside it
    assert (t_test_p(0.0, 0.0, 2), t_test_p(0.1, 0.0, 2)) == (1, 0)
    assert math.isnan(equivalence_p(0.2, math.nan, 0, 0.3))
    assert math.isnan(t_test_p(0.2, math.nan, 0))
    assert all(map(math.isnan, t_interval(0.2, math.nan, 0)))


@pytest.mark.parametrize(
    ("difference", "n", "margin"), [(0, 3, 3), (0.5, 3, 4), (0, 5, 1.5), (-0.4, 8, 1), (0, 4, 0.5)]
)
def test_power_is_that_of_a_simulation(difference, n, margin):
    draws = np.random.default_rng(0).normal(difference, 1, (40_000, n))
    half = stats.t.ppf(0.95, n - 1) * draws.std(1, ddof=1) / math.sqrt(n)
    found = ((draws.mean(1) - half > -margin) & (draws.mean(1) + half < margin)).sum()
    low, high = stats.binom(40_000, equivalence_power(difference, 1, n, margin)).ppf([5e-7, 1 - 5e-7])
    assert low <= found <= high


def test_power_has_its_limits():
    z = stats.norm.ppf(0.95)
    for shift in (2.0, 3.0):  # with many seeds the variance is known, and power is normal (Schuirmann 1987)
        limit = 2 * stats.norm.cdf(shift - z) - 1
        assert equivalence_power(0, 1, 20_000, shift / math.sqrt(20_000)) == pytest.approx(limit, abs=2e-4)
    assert equivalence_power(0, 1, 3, 1e3) == pytest.approx(1, abs=1e-4)
    assert equivalence_power(0, 1, 3, 1e-3) == pytest.approx(0, abs=1e-4)
    assert equivalence_power(2.0, 1, 200, 2.0) == pytest.approx(0.05, abs=1e-6)  # the size, at the edge of the margin


@pytest.mark.parametrize("margin", [0.3, 0.7, 1.0, 2.5])
def test_the_seeds_for_equivalence_are_the_first_with_enough_power(margin):
    n = seeds_for_equivalence(1.0, margin)
    powers = [equivalence_power(0, 1, k, margin) for k in range(2, n + 1)]
    assert powers[-1] >= 0.8 > max(powers[:-1], default=0)
    assert seeds_for_equivalence(0.02, 0.02 * margin) == n
    assert seeds_for_equivalence(1.0, margin, most=n - 1) is None


def test_the_seeds_to_decide_show_a_difference_and_the_lack_of_one():
    for sd, margin in ((0.01, 0.005), (0.01, 0.02), (1.0, 1.3)):
        theirs = math.ceil(TTestPower().solve_power(margin / sd, power=0.8, alpha=0.05, alternative="two-sided"))
        assert seeds_to_decide(0.0, sd, margin) == max(theirs, seeds_for_equivalence(sd, margin))
    assert seeds_to_decide(0.5, 1.0, None) == 34  # Cohen's d_z of 0.5, as in test_statistics
    assert seeds_to_decide(0.0, 1.0, 1e-3) == 1001
    assert seeds_to_decide(0.0, 1.0, None) == 1001
    assert seeds_to_decide(0.1, math.nan, 0.1) is None
    assert seeds_to_decide(0.1, 0.0, 0.1) is None
