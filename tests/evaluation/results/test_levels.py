"""Comparisons of arms over training seeds: against scipy and statsmodels, by simulation, and by their invariances."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from detour.errors import ConfigError, DataError
from detour.evaluation.results.levels import arm_means, compare_arms, replicates
from detour.evaluation.results.score_grid import Score, score_grid
from detour.evaluation.results.verdicts import NATS, POINTS, Verdict

TASKS = ("ner", "hoc", "gad")


def draw(gain=0.01, *, training=(17, 18, 19), finetuning=(1, 2, 3), spread=0.004, seed=0) -> list[Score]:
    rng = np.random.default_rng(seed)
    run = {(arm, s): spread * rng.normal() for arm in ("detour", "twin") for s in training}
    return [
        Score(
            arm=arm,
            training_seed=s,
            task=task,
            finetuning_seed=f,
            score=0.6 + 0.1 * k + gain * (arm == "detour") + run[arm, s] + 0.5 * spread * rng.normal(),
        )
        for arm in ("detour", "twin")
        for s in training
        for k, task in enumerate(TASKS)
        for f in finetuning
    ]


def differences(scores: list[Score], task: str | None = None) -> np.ndarray:
    """One per training seed, by a plain loop: over fine-tuning seeds, then over tasks."""
    found = []
    for s in sorted({score.training_seed for score in scores}):
        by_task = []
        for name in TASKS if task is None else [task]:
            means = [
                np.mean([x.score for x in scores if (x.arm, x.training_seed, x.task) == (arm, s, name)])
                for arm in ("detour", "twin")
            ]
            by_task.append(means[0] - means[1])
        found.append(np.mean(by_task))
    return np.array(found)


def test_the_claim_is_tested_as_scipy_and_statsmodels_test_the_means_of_training_seeds():
    scores = draw()
    result = compare_arms(scores, "detour", "twin", margin=0.8)
    d = differences(scores)
    c = result.overall
    assert list(c.by_seed) == [17, 18, 19]
    assert list(c.by_seed.values()) == pytest.approx(d)
    assert (c.summary.n, c.summary.mean, c.summary.sd) == (3, pytest.approx(d.mean()), pytest.approx(d.std(ddof=1)))
    for level, ends in ((0.95, (c.summary.low, c.summary.high)), (0.9, (c.low_90, c.high_90))):
        assert ends == pytest.approx(stats.t.interval(level, 2, loc=d.mean(), scale=stats.sem(d)))
    assert c.p == c.p_holm == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    p_equivalence = ttost_paired(d, np.zeros(3), -0.008, 0.008)[0]
    assert c.p_equivalence == c.p_equivalence_holm == pytest.approx(p_equivalence)
    effect = TTestPower().solve_power(nobs=3, power=0.8, alpha=0.05, alternative="two-sided")
    assert c.minimum_detectable_effect == pytest.approx(effect * d.std(ddof=1), rel=1e-4)
    assert (result.basis, result.training_seeds, result.finetuning_seeds) == ("training seeds", (17, 18, 19), 3)


def test_single_tasks_are_corrected_by_holm_for_both_tests():
    scores = draw(gain=0.004, training=range(6), seed=4)
    result = compare_arms(scores, "detour", "twin", margin=1.0)
    assert [c.name for c in result.tasks] == list(TASKS)
    d = {task: differences(scores, task) for task in TASKS}
    p = [stats.ttest_1samp(values, 0).pvalue for values in d.values()]
    p_equivalence = [ttost_paired(values, np.zeros(6), -0.01, 0.01)[0] for values in d.values()]
    assert [c.p for c in result.tasks] == pytest.approx(p)
    assert [c.p_holm for c in result.tasks] == pytest.approx(multipletests(p, method="holm")[1])
    assert [c.p_equivalence for c in result.tasks] == pytest.approx(p_equivalence)
    corrected = multipletests(p_equivalence, method="holm")[1]
    assert [c.p_equivalence_holm for c in result.tasks] == pytest.approx(corrected)


def test_means_of_arms_have_intervals_over_training_seeds():
    scores = draw()
    basis, means = arm_means(scores)
    assert basis == "training seeds"
    for arm in ("detour", "twin"):
        by_run = [np.mean([x.score for x in scores if (x.arm, x.training_seed) == (arm, s)]) for s in (17, 18, 19)]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(by_run), scale=stats.sem(by_run))
        summary = means[arm][POINTS.mean]
        assert (summary.mean, summary.low, summary.high) == pytest.approx((np.mean(by_run), low, high))
    assert list(means["twin"]) == [*TASKS, POINTS.mean]


def test_one_training_seed_is_tested_over_fine_tuning_seeds_and_labeled():
    scores = draw(training=(17,))
    result = compare_arms(scores, "detour", "twin", margin=0.5)
    assert result.basis == "fine-tuning seeds only"
    d = [
        np.mean([x.score for x in scores if (x.arm, x.finetuning_seed) == ("detour", f)])
        - np.mean([x.score for x in scores if (x.arm, x.finetuning_seed) == ("twin", f)])
        for f in (1, 2, 3)
    ]
    assert list(result.overall.by_seed.values()) == pytest.approx(d)
    assert result.overall.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    for contrast in (result.overall, *result.tasks):
        assert contrast.sentence.endswith("says nothing about another training run.")
    assert arm_means(scores)[0] == "fine-tuning seeds only"


def test_one_score_per_arm_is_undecided():
    scores = [s for s in draw(training=(17,)) if s.finetuning_seed == 1]
    result = compare_arms(scores, "detour", "twin", margin=0.5)
    assert result.overall.verdict is Verdict.UNDECIDED
    assert math.isnan(result.overall.p)
    assert result.overall.seeds_to_decide is None
    assert "there is no interval" in result.overall.sentence


def test_losses_are_better_where_they_are_lower_and_need_no_fine_tuning():
    scores = [
        Score(arm=arm, training_seed=s, task=folder, score=2.0 + 0.01 * s - 0.05 * (arm == "detour") + 0.001 * s * k)
        for arm in ("detour", "twin")
        for s in (1, 2, 3)
        for k, folder in enumerate(("en", "fr"))
    ]
    scores[0] = replace(scores[0], score=scores[0].score + 0.001)
    result = compare_arms(scores, "detour", "twin", margin=0.01, scale=NATS)
    assert result.overall.verdict is Verdict.BETTER
    assert "-0.0498 nats" in result.overall.sentence
    assert compare_arms(scores, "twin", "detour", margin=0.01, scale=NATS).overall.verdict is Verdict.WORSE


def test_random_tasks_take_the_wider_interval_and_fewer_degrees_of_freedom():
    scores = draw(training=range(5))
    fixed = compare_arms(scores, "detour", "twin", margin=None).overall
    wide = compare_arms(scores, "detour", "twin", margin=None, tasks="random").overall
    by_task = [differences(scores, task).mean() for task in TASKS]
    error = max(stats.sem(by_task), stats.sem(differences(scores)))
    assert (wide.summary.low, wide.summary.high) == pytest.approx(stats.t.interval(0.95, 2, wide.summary.mean, error))
    assert (wide.summary.mean, wide.by_seed) == (fixed.summary.mean, fixed.by_seed)
    assert wide.summary.high - wide.summary.low > fixed.summary.high - fixed.summary.low
    assert wide.seeds_to_decide is None
    assert "tasks of this kind" in wide.sentence
    for kept in ({"ner"}, set(TASKS)):
        few = [s for s in scores if s.task in kept and (s.training_seed == 0 or kept == {"ner"})]
        few = [s for s in few if s.finetuning_seed == 1]
        with pytest.raises(ConfigError, match="expected at least 2 of each"):
            compare_arms(few, "detour", "twin", margin=None, tasks="random")


def test_without_a_margin_nothing_is_equivalent():
    scores = draw(gain=0.0, spread=1e-6)
    result = compare_arms(scores, "detour", "twin", margin=None)
    assert math.isnan(result.overall.p_equivalence)
    assert result.overall.verdict is Verdict.UNDECIDED
    assert compare_arms(scores, "detour", "twin", margin=0.5).overall.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ConfigError, match=r"margin: .*expected a number of points above 0"):
        compare_arms(draw(), "detour", "twin", margin=margin)


def test_holes_are_refused_and_dropped_tasks_are_recorded():
    scores = draw()[1:]
    with pytest.raises(DataError, match="1 of 54 scores are missing"):
        compare_arms(scores, "detour", "twin", margin=0.5)
    result = compare_arms(scores, "detour", "twin", margin=0.5, drop_tasks=["ner"])
    assert result.dropped == ("ner",)
    assert [c.name for c in result.tasks] == ["hoc", "gad"]


SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.floats(-0.02, 0.02), st.integers(2, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_swapped_arms_change_the_sign(seed, gain, training, finetuning):
    scores = draw(gain, training=range(training), finetuning=range(finetuning), seed=seed)
    one = compare_arms(scores, "detour", "twin", margin=0.5)
    other = compare_arms(scores, "twin", "detour", margin=0.5)
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    for a, b in zip((one.overall, *one.tasks), (other.overall, *other.tasks), strict=True):
        assert (a.summary.mean, a.summary.low, a.summary.high) == pytest.approx(
            (-b.summary.mean, -b.summary.high, -b.summary.low)
        )
        assert (a.p, a.p_equivalence) == pytest.approx((b.p, b.p_equivalence))
        assert opposite.get(a.verdict, a.verdict) is b.verdict


@given(SEEDS, st.floats(-0.1, 0.1))
@settings(max_examples=15, deadline=None)
def test_a_constant_added_to_an_arm_shifts_its_mean_and_leaves_the_spread(seed, shift):
    scores = draw(seed=seed)
    moved = [replace(s, score=s.score + shift * (s.arm == "detour")) for s in scores]
    a, b = (compare_arms(x, "detour", "twin", margin=0.5) for x in (scores, moved))
    assert b.overall.summary.mean == pytest.approx(a.overall.summary.mean + shift, abs=1e-12)
    assert b.overall.summary.sd == pytest.approx(a.overall.summary.sd, abs=1e-12)
    assert b.overall.seeds_to_decide == a.overall.seeds_to_decide
    both = [replace(s, score=s.score + shift) for s in scores]
    c = compare_arms(both, "detour", "twin", margin=0.5).overall
    assert (c.summary.mean, c.p) == pytest.approx((a.overall.summary.mean, a.overall.p))


@given(SEEDS, st.permutations([17, 18, 19]), st.permutations([1, 2, 3]), st.randoms())
@settings(max_examples=15, deadline=None)
def test_names_of_seeds_and_the_order_of_scores_do_not_matter(seed, training, finetuning, order):
    scores = draw(seed=seed)
    renamed = [
        replace(s, training_seed=training[s.training_seed - 17], finetuning_seed=finetuning[s.finetuning_seed - 1])
        for s in scores
    ]
    order.shuffle(renamed)
    a, b = (compare_arms(x, "detour", "twin", margin=0.5) for x in (scores, renamed))
    for one in a.tasks:
        (other,) = [c for c in b.tasks if c.name == one.name]
        assert (one.summary.mean, one.summary.sd, one.p) == pytest.approx(
            (other.summary.mean, other.summary.sd, other.p)
        )
    assert (a.overall.p, a.overall.p_equivalence) == pytest.approx((b.overall.p, b.overall.p_equivalence))


def test_equal_differences_have_no_spread():
    scores = [
        Score(arm=arm, training_seed=s, task="a", score=0.1 * s + 0.25 * (arm == "detour"))
        for arm in ("detour", "twin")
        for s in (0, 5, 10)
    ]
    c = compare_arms(scores, "detour", "twin", margin=0.5).overall
    assert (c.summary.mean, c.summary.sd, c.verdict) == (0.25, 0.0, Verdict.UNDECIDED)
    assert all(math.isnan(value) for value in (c.summary.low, c.summary.high, c.p, c.p_equivalence))
    assert c.sentence == (
        "Undecided on the mean over tasks: detour minus twin is +25.00 points in each of 3 training seeds; without spread "
        "between seeds there is no interval."
    )


@pytest.mark.parametrize("gap", [0.0, 0.002])
def test_equal_differences_within_the_margin_are_not_called_equivalent(gap):
    """Up to rounding: 0.1 + 0.2 - 0.2 is not 0.1."""
    scores = [
        Score(arm=arm, training_seed=s, task=task, score=s / 7 + gap * (arm == "detour"))
        for arm in ("detour", "twin")
        for s in (1, 2, 3)
        for task in ("a", "b")
    ]
    result = compare_arms(scores, "detour", "twin", margin=0.5)
    seen = "detour minus twin is +0.20 points" if gap else "detour and twin tie exactly"
    for contrast, where in zip((result.overall, *result.tasks), ("the mean over tasks", "a", "b"), strict=True):
        assert contrast.verdict is Verdict.UNDECIDED
        assert contrast.sentence == (
            f"Undecided on {where}: {seen} in each of 3 training seeds; without spread between seeds there is no interval."
        )


def test_losses_are_averaged_over_held_out_sources():
    scores = [
        Score(arm=arm, training_seed=s, task=task, score=2.0 + 0.01 * s * (arm == "detour"))
        for arm in ("detour", "twin")
        for s in (1, 2, 3)
        for task in ("wiki", "notes")
    ]
    _, means = arm_means(scores, scale=NATS)
    assert list(means["detour"]) == ["wiki", "notes", "mean over held-out sources"]
    assert means["detour"]["mean over held-out sources"].mean == pytest.approx(2.02)
    overall = compare_arms(scores, "detour", "twin", margin=None, scale=NATS).overall
    assert overall.name == "mean over held-out sources"
    assert "on the mean over held-out sources: detour minus twin is +0.0200 nats" in overall.sentence


DRAWS = 4000
CERTAIN = 1e-6  # the probability with which a test of a correct interval may fail


@pytest.mark.parametrize("training", [3, 5])
@pytest.mark.parametrize(("shared", "by_task"), [(0.0, 0.0), (0.3, 0.5), (1.0, 1.0), (3.0, 0.3)])
def test_the_interval_covers_the_truth_in_95_of_100_and_the_tost_errs_in_5(training, shared, by_task):
    """Normal errors of each level, in units of that of fine-tuning; 6 tasks, 3 fine-tuning seeds.

    The bounds are quantiles of the binomial of 4,000 draws: 93.3% and 96.6% for a coverage of 95%.
    """
    rng = np.random.default_rng([training, int(10 * shared), int(10 * by_task)])
    S, K, F = training, 6, 3
    effects_NK = rng.normal(size=(DRAWS, K))
    d = effects_NK[:, None, :, None] + shared * rng.normal(size=(DRAWS, S, 1, 1))
    d = d + by_task * rng.normal(size=(DRAWS, S, K, 1)) + rng.normal(size=(DRAWS, S, K, F))
    truth_N = effects_NK.mean(1)
    some = [
        Score(arm=arm, training_seed=s, task=f"t{k}", finetuning_seed=f, score=0.0)
        for arm in ("a", "b")
        for s in range(S)
        for k in range(K)
        for f in range(F)
    ]
    grid = score_grid(some)
    units = np.stack([replicates(grid, x)[1].mean(1) for x in d])  # [draws, S], as compare_arms takes them
    low, high = stats.t.interval(0.95, S - 1, loc=units.mean(1), scale=stats.sem(units, axis=1))
    covered = int(((low <= truth_N) & (truth_N <= high)).sum())
    assert stats.binom(DRAWS, 0.95).ppf(CERTAIN / 2) <= covered <= stats.binom(DRAWS, 0.95).ppf(1 - CERTAIN / 2)
    assert 0.93 <= covered / DRAWS <= 0.97
    # the same intervals from the library, on scores: the first draws
    for x, one, other in zip(d[:20], low, high, strict=False):
        scores = [replace(s, score=float(v)) for s, v in zip(some, [*x.ravel(), *np.zeros(x.size)], strict=True)]
        summary = compare_arms(scores, "a", "b", margin=None).overall.summary
        assert (summary.low, summary.high) == pytest.approx((one, other))
    margin = 3 * units.std(1, ddof=1).mean()
    edge = units - truth_N[:, None] + margin
    low_90, high_90 = stats.t.interval(0.9, S - 1, loc=edge.mean(1), scale=stats.sem(edge, axis=1))
    equivalent = int(((-margin < low_90) & (high_90 < margin)).sum())
    assert equivalent <= stats.binom(DRAWS, 0.05).ppf(1 - CERTAIN)


def test_the_script_simulates_the_intervals_of_the_library():
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "interval_coverage.py"))
    _, x = script["World"](training_seeds=3, shared=0.5, by_task=0.5).draw(3, np.random.default_rng(0))
    for name, tasks in (("over_training_seeds", "fixed"), ("random_tasks", "random")):
        for d, mean, half in zip(x, *script[name](x), strict=True):
            scores = [
                Score(arm=arm, training_seed=s, task=f"t{k}", finetuning_seed=f, score=value if arm == "a" else 0.0)
                for arm in ("a", "b")
                for (s, k, f), value in np.ndenumerate(d)
            ]
            summary = compare_arms(scores, "a", "b", margin=None, tasks=tasks).overall.summary
            assert (summary.low, summary.high) == pytest.approx((mean - half, mean + half))
