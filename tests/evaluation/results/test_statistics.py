"""Intervals, tests and power against independent computations and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from detour.evaluation.results.statistics import (
    TIE,
    bootstrap,
    clear_best,
    compare,
    holm,
    paired_p,
    summarize,
)
from detour.evaluation.results.student import minimum_detectable_effect, power, seeds_needed


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


SCORES = st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6)


@given(SCORES)
@settings(max_examples=30, deadline=None)
def test_intervals_and_p_values_are_those_of_statsmodels(values):
    theirs = DescrStatsW(np.array(values))
    summary = summarize(values)
    assert (summary.n, summary.mean) == (len(values), pytest.approx(theirs.mean))
    assert summary.sd == pytest.approx(np.sqrt(theirs.var_ddof(1)))
    assert (summary.low, summary.high) == pytest.approx(theirs.tconfint_mean(0.05))
    assert paired_p(np.array(values)) == pytest.approx(theirs.ttest_mean(0)[1])


def test_holm_is_that_of_statsmodels():
    """Twelve draws, ties among them; statsmodels takes some milliseconds for each."""
    rng = np.random.default_rng(0)
    for count in range(1, 13):
        p_values = np.round(rng.beta(0.3, 1.5, count), 2).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


@pytest.mark.parametrize("effect", [0.1, 0.35, 0.8, 1.5, 4.0])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_power_is_that_of_statsmodels(effect, n):
    theirs = TTestPower().power(effect, n, 0.05, alternative="two-sided")
    if math.isfinite(theirs):
        assert power(effect * 0.02, 0.02, n) == pytest.approx(theirs, abs=1e-6)
        assert power(-effect * 0.02, 0.02, n) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 1000])
def test_power_is_that_of_the_noncentral_f_distribution(n):
    """From a difference of nothing to one that is always shown, where statsmodels gives nan."""
    critical = stats.t.ppf(0.975, n - 1) ** 2
    for noncentrality in (1e-6, 0.3, 2.0, 12.0, 40.0, 99.0, 150.0):
        theirs = stats.ncf.sf(critical, 1, n - 1, noncentrality**2)
        assert power(noncentrality / math.sqrt(n), 1.0, n) == pytest.approx(theirs, abs=1e-11)
    assert power(0.0, 1.0, n) == pytest.approx(0.05)
    assert power(1.0, 1e-300, n) == pytest.approx(1.0)


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.35, 0.5, 0.8, 1.0, 1.5])
def test_the_seeds_needed_are_those_of_statsmodels(effect):
    theirs = TTestPower().solve_power(effect, power=0.8, alpha=0.05, alternative="two-sided")
    assert seeds_needed(effect, 1.0) == math.ceil(theirs)
    assert seeds_needed(effect, 1.0, most=math.ceil(theirs)) == math.ceil(theirs)
    assert seeds_needed(effect, 1.0, most=math.ceil(theirs) - 1) is None


@pytest.mark.parametrize("n", [4, 5, 10, 40, 400])
def test_the_detectable_difference_is_that_of_statsmodels(n):
    theirs = TTestPower().solve_power(nobs=n, power=0.8, alpha=0.05, alternative="two-sided")
    assert minimum_detectable_effect(0.02, n) == pytest.approx(0.02 * theirs, rel=1e-4)


def test_a_difference_is_detectable_from_two_seeds_with_a_spread_on():
    for n in (0, 1):
        assert math.isnan(minimum_detectable_effect(0.02, n))
    assert math.isnan(minimum_detectable_effect(0.0, 5))
    least = minimum_detectable_effect(0.02, 2) / 0.02 * math.sqrt(2)  # noncentrality
    assert stats.ncf.sf(stats.t.ppf(0.975, 1) ** 2, 1, 1, least**2) == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(60.0, 1.0) == 2  # 34 of 0.5, above; the power of two pairs at 60 / sqrt(2) is above 0.99


@pytest.mark.parametrize(("tasks", "better"), [(9, 6), (9, 3), (10, 7), (5, 3), (20, 14)])
def test_the_bootstrap_over_tasks_is_the_binomial_that_it_must_be(tasks, better):
    """Tasks of one seed, each one point better or worse: how many better ones are drawn is binomial. Both tails count."""
    differences = [np.array([0.01])] * better + [np.array([-0.01])] * (tasks - better)
    mean, low, high, p = bootstrap(differences, seed=1)
    drawn = stats.binom(tasks, better / tasks)  # the mean is (2 drawn / tasks - 1) points
    assert mean == pytest.approx(0.01 * (2 * better / tasks - 1))
    assert (low, high) == pytest.approx([0.01 * (2 * drawn.ppf(q) / tasks - 1) for q in (0.025, 0.975)])
    not_above, not_below = drawn.cdf(tasks // 2), drawn.sf((tasks - 1) // 2)
    assert p == pytest.approx(2 * min(not_above, not_below), abs=0.03)  # five deviations of 10,000 draws


def test_the_bootstrap_over_seeds_is_the_binomial_that_it_must_be():
    differences = [np.array([0.01] * 5 + [-0.01] * 2)]
    _, low, high, p = bootstrap(differences, seed=1)
    drawn = stats.binom(7, 5 / 7)
    assert (low, high) == pytest.approx([0.01 * (2 * drawn.ppf(q) / 7 - 1) for q in (0.025, 0.975)])
    assert p == pytest.approx(2 * drawn.cdf(3), abs=0.02)


def test_no_bootstrap_p_is_zero():
    """(b + 1) / (n + 1) of n draws (Davison and Hinkley 1997, section 4.2), twice: both tails count."""
    assert bootstrap([np.full(3, 0.1)] * 4, seed=0)[3] == pytest.approx(2 / 10_001)
    assert bootstrap([np.full(3, 0.1)] * 4, seed=0, draws=99)[3] == pytest.approx(2 / 100)


def scores_of(**tasks) -> dict[str, dict[int, float]]:
    return {task: dict(enumerate(values)) for task, values in tasks.items()}


def test_a_difference_that_the_tables_do_not_show_is_a_tie():
    """Half of a tenth of a point."""
    twin = scores_of(a=[0.7, 0.7], b=[0.7, 0.7], c=[0.7, 0.7], d=[0.7, 0.7])
    detour = scores_of(a=[0.70049] * 2, b=[0.70051] * 2, c=[0.69951] * 2, d=[0.69949] * 2)
    result = compare("detour", detour, "twin", twin)
    assert (result.wins, result.ties, result.losses) == (1, 2, 1)
    assert (result.significant_wins, result.significant_losses) == (1, 1)


def test_losses_are_those_below_the_baseline():
    result = compare("detour", scores_of(a=[0.6, 0.6], b=[0.5, 0.6]), "twin", scores_of(a=[0.7, 0.7], b=[0.7, 0.7]))
    assert (result.wins, result.losses) == (0, 2)


def test_a_comparison_is_what_scipy_and_statsmodels_say_of_each_task():
    rng = np.random.default_rng(5)
    gains = {"up": 0.03, "down": -0.03, "some": 0.008, "none": 0.0}
    twin = scores_of(**{task: rng.normal(0.7, 0.02, 6) for task in gains})
    detour = {t: {s: v + rng.normal(gains[t], 0.008) for s, v in twin[t].items()} for t in gains}
    result = compare("detour", detour, "twin", twin)
    pairs = {t: ([detour[t][s] for s in twin[t]], list(twin[t].values())) for t in gains}
    p_values = [stats.ttest_rel(*pair).pvalue for pair in pairs.values()]
    corrected = multipletests(p_values, method="holm")[1]
    assert [d.p for d in result.tasks] == pytest.approx(p_values)
    assert [d.p_holm for d in result.tasks] == pytest.approx(corrected)
    means = [np.mean(a) - np.mean(b) for a, b in pairs.values()]
    assert result.significant_wins == sum(p < 0.05 and m > 0 for p, m in zip(corrected, means, strict=True)) == 1
    assert result.significant_losses == sum(p < 0.05 and m < 0 for p, m in zip(corrected, means, strict=True)) == 1
    for found, (a, b) in zip(result.tasks, pairs.values(), strict=True):
        sd = np.std(np.subtract(a, b), ddof=1)
        solved = TTestPower().solve_power(nobs=6, power=0.8, alpha=0.05) * sd
        assert found.minimum_detectable_effect == pytest.approx(solved, rel=1e-4)


def test_of_two_models_the_clear_best_are_the_significant_wins_and_losses():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        twin = scores_of(**{f"t{i}": rng.normal(0.7, 0.02, 5) for i in range(5)})
        gains = {task: rng.normal(0, 0.03) for task in twin}
        detour = {t: {s: v + rng.normal(gains[t], 0.01) for s, v in twin[t].items()} for t in twin}
        result = compare("detour", detour, "twin", twin)
        sure = {d.task: "detour" if d.summary.mean > 0 else "twin" for d in result.tasks if d.p_holm < 0.05}
        assert clear_best({"detour": detour, "twin": twin}) == sure
        assert len(sure) == result.significant_wins + result.significant_losses


def test_the_highest_mean_is_no_clear_best_where_another_is_not_told_from_it():
    clear, near, poor = [0.8, 0.81, 0.79, 0.8], [0.799, 0.812, 0.789, 0.802], [0.7, 0.72, 0.69, 0.71]
    assert clear_best({"a": scores_of(t=clear), "b": scores_of(t=poor)}) == {"t": "a"}
    assert clear_best({"b": scores_of(t=poor), "a": scores_of(t=clear)}) == {"t": "a"}
    assert clear_best({"a": scores_of(t=clear), "near": scores_of(t=near), "b": scores_of(t=poor)}) == {}
    assert clear_best({"a": scores_of(t=clear)}) == {}
    assert clear_best({"a": scores_of(t=[0.9]), "b": scores_of(t=[0.1])}) == {}, "one seed says nothing"
    assert clear_best({"a": {"t": {1: 0.9, 2: 0.9}}, "b": {"t": {3: 0.1, 4: 0.1}}}) == {}, "no seed in common"
    assert clear_best({"a": scores_of(t=[0.70049] * 3), "b": scores_of(t=[0.7] * 3)}) == {}, "a tie in the tables"
    tied = {"a": scores_of(t=[0.70049] * 3), "b": scores_of(t=[0.7] * 3), "c": scores_of(t=[0.1] * 3)}
    assert clear_best(tied) == {}, "clearly above c, and a tie with b"
    once = {"a": scores_of(t=[0.9] * 3), "b": scores_of(t=[0.1] * 3), "c": scores_of(t=[0.1])}
    assert clear_best(once) == {}, "nothing is known against c"


def test_a_difference_of_exactly_the_threshold_of_a_tie_is_one():
    ours, theirs = {"t": {1: TIE, 2: TIE}}, {"t": {1: 0.0, 2: 0.0}}
    for model, baseline in ((ours, theirs), (theirs, ours)):
        comparison = compare("a", model, "b", baseline)
        assert (comparison.wins, comparison.losses) == (0, 0)
    assert clear_best({"a": ours, "b": theirs}) == {}
