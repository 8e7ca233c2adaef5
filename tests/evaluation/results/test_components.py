"""Variance components against statsmodels' ANOVA and MixedLM, by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.anova import anova_lm

from detour.evaluation.results.components import components

TASKS = ("a", "b", "c", "d")


def draw(S=4, K=4, F=3, shared=2.0, by_task=1.5, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, K, 1)) + shared * rng.normal(size=(S, 1, 1)) + by_task * rng.normal(size=(S, K, 1))
    return x + noise * rng.normal(size=(S, K, F))


def frame(x_SKF):
    s, k, _ = (i.ravel() for i in np.indices(x_SKF.shape))
    return pd.DataFrame({"y": x_SKF.ravel(), "s": s, "k": k})


def test_the_components_are_those_of_statsmodels_mean_squares():
    x = draw()
    S, K, F = x.shape
    squares = anova_lm(ols("y ~ C(s) * C(k)", frame(x)).fit()).mean_sq
    e = squares["Residual"]
    h = (squares["C(s):C(k)"] - e) / F
    g = (squares["C(s)"] - squares["C(s):C(k)"]) / (F * K)
    found = components(x, TASKS, same_seeds=True)
    assert (found.training_seed, found.training_seed_by_task, found.finetuning_seed) == pytest.approx(
        np.sqrt([g, h, e])
    )
    parts = np.array([g / S, h / (S * K), e / (S * K * F)])
    assert found.shares == pytest.approx(parts / parts.sum())
    for k, task in enumerate(TASKS):
        one = anova_lm(ols("y ~ C(s)", frame(x[:, [k]])).fit()).mean_sq
        between = max(0, (one["C(s)"] - one["Residual"]) / F)
        assert found.by_task[task] == pytest.approx(np.sqrt([between, one["Residual"]]))


def test_the_components_are_those_of_a_mixed_model_by_reml():
    """In balanced data they are equal where no estimate is negative (Searle, Casella and McCulloch 1992, section 4.8)."""
    x = draw(seed=3)
    model = MixedLM.from_formula("y ~ C(k)", frame(x), groups="s", re_formula="1", vc_formula={"h": "0 + C(k)"})
    fit = model.fit(reml=True, method=["powell", "lbfgs"])
    found = components(x, TASKS, same_seeds=True)
    theirs = np.sqrt([fit.cov_re.iloc[0, 0], fit.vcomp[0], fit.scale])
    assert (found.training_seed, found.training_seed_by_task, found.finetuning_seed) == pytest.approx(theirs, rel=2e-3)


def test_the_estimators_are_unbiased():
    squares = [
        [c.training_seed**2, c.training_seed_by_task**2, c.finetuning_seed**2]
        for c in (
            components(draw(shared=2, by_task=2, noise=1, S=6, seed=seed), TASKS, same_seeds=True)
            for seed in range(600)
        )
    ]
    mean, error = np.mean(squares, axis=0), np.std(squares, axis=0) / math.sqrt(600)
    assert abs(mean - [4, 4, 1]).max() < 5 * error.max()
    assert abs(mean[2] - 1) < 5 * error[2]


def test_what_cannot_be_told_apart_is_not_told_apart():
    x = draw()
    one_run = components(x[:1], TASKS, same_seeds=True)
    assert math.isnan(one_run.training_seed)
    assert math.isnan(one_run.training_seed_by_task)
    assert one_run.finetuning_seed == pytest.approx(np.sqrt(x[:1].var(2, ddof=1).mean()))
    assert all(map(math.isnan, one_run.shares))
    one_finetuning = components(x[:, :, :1], TASKS, same_seeds=True)
    squares = anova_lm(ols("y ~ C(s) + C(k)", frame(x[:, :, :1])).fit()).mean_sq
    assert one_finetuning.training_seed_by_task == pytest.approx(math.sqrt(squares["Residual"]))
    assert one_finetuning.training_seed == pytest.approx(math.sqrt((squares["C(s)"] - squares["Residual"]) / 4))
    assert math.isnan(one_finetuning.finetuning_seed)
    assert one_finetuning.by_task["a"][0] == pytest.approx(x[:, 0, 0].std(ddof=1))
    one_task = components(x[:, :1], ("a",), same_seeds=True)
    assert one_task.training_seed == pytest.approx(one_task.by_task["a"][0])
    assert math.isnan(one_task.training_seed_by_task)
    assert components(np.ones((3, 2, 2)), ("a", "b"), same_seeds=True).training_seed == 0


def test_a_fine_tuning_seed_that_acts_in_all_training_seeds_alike_is_found():
    rng = np.random.default_rng(1)
    x = draw(S=5, F=4) + 3 * rng.normal(size=(1, 4, 4))
    found = components(x, TASKS, same_seeds=True)
    s, k, f = (i.ravel() for i in np.indices(x.shape))
    table = pd.DataFrame({"y": x.ravel(), "s": s, "k": k, "f": f})
    by_task = [anova_lm(ols("y ~ C(s) + C(f)", table[table.k == task]).fit()).mean_sq for task in range(4)]
    between, residual = (np.mean([squares[name] for squares in by_task]) for name in ("C(f)", "Residual"))
    assert found.finetuning_seed_shared == pytest.approx(math.sqrt((between - residual) / 5))
    assert found.finetuning_seed > found.finetuning_seed_shared > 1
    assert math.isnan(components(x, TASKS, same_seeds=False).finetuning_seed_shared)
    for part in (x[:1], x[:, :, :1]):
        assert math.isnan(components(part, TASKS, same_seeds=True).finetuning_seed_shared)
