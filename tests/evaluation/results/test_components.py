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
    found = components(x, TASKS)
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
    found = components(x, TASKS)
    theirs = np.sqrt([fit.cov_re.iloc[0, 0], fit.vcomp[0], fit.scale])
    assert (found.training_seed, found.training_seed_by_task, found.finetuning_seed) == pytest.approx(theirs, rel=2e-3)


def test_the_estimators_are_unbiased():
    squares = [
        [c.training_seed**2, c.training_seed_by_task**2, c.finetuning_seed**2]
        for c in (components(draw(shared=2, by_task=2, noise=1, S=6, seed=seed), TASKS) for seed in range(600))
    ]
    mean, error = np.mean(squares, axis=0), np.std(squares, axis=0) / math.sqrt(600)
    assert abs(mean - [4, 4, 1]).max() < 5 * error.max()
    assert abs(mean[2] - 1) < 5 * error[2]


def test_what_cannot_be_told_apart_is_not_told_apart():
    x = draw()
    one_run = components(x[:1], TASKS)
    assert math.isnan(one_run.training_seed)
    assert math.isnan(one_run.training_seed_by_task)
    assert one_run.finetuning_seed == pytest.approx(np.sqrt(x[:1].var(2, ddof=1).mean()))
    assert all(map(math.isnan, one_run.shares))
    one_finetuning = components(x[:, :, :1], TASKS)
    squares = anova_lm(ols("y ~ C(s) + C(k)", frame(x[:, :, :1])).fit()).mean_sq
    assert one_finetuning.training_seed_by_task == pytest.approx(math.sqrt(squares["Residual"]))
    assert one_finetuning.training_seed == pytest.approx(math.sqrt((squares["C(s)"] - squares["Residual"]) / 4))
    assert math.isnan(one_finetuning.finetuning_seed)
    assert one_finetuning.by_task["a"][0] == pytest.approx(x[:, 0, 0].std(ddof=1))
    one_task = components(x[:, :1], ("a",))
    assert one_task.training_seed == pytest.approx(one_task.by_task["a"][0])
    assert math.isnan(one_task.training_seed_by_task)
    assert components(np.ones((3, 2, 2)), ("a", "b")).training_seed == 0
