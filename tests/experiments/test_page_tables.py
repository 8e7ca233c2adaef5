"""Wording of an experiment's tables, from scores that are given here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from detour.evaluation.results.levels import arm_means, compare_arms
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.verdicts import NATS, POINTS
from detour.experiments.analyses import analyses
from detour.experiments.cells import Plan
from detour.experiments.page_tables import measured_tables
from detour.experiments.results import Measured

SEEDS = (1, 2, 3)


def measured(values, scale, key):
    """Values: arm -> source or task -> one score per training seed."""
    scores = [
        Score(arm=arm, training_seed=seed, task=task, score=score)
        for arm, tasks in values.items()
        for task, by_seed in tasks.items()
        for seed, score in zip(SEEDS, by_seed, strict=True)
    ]
    basis, means = arm_means(scores, scale=scale)
    pairs = [compare_arms(scores, arm, "twin", margin=None, scale=scale) for arm in values if arm != "twin"]
    return Measured(
        key=key, title="A title", note="", scale=scale, basis=basis, means=means, comparisons=pairs, scores=scores
    )


@pytest.mark.parametrize(
    ("scale", "row", "mean"),
    [(POINTS, "Task", "mean over tasks"), (NATS, "Held-out source", "mean over held-out sources")],
)
def test_rows_are_called_what_they_are(scale, row, mean):
    values = {
        "detour": {"a": (0.5, 0.6, 0.8), "b": (0.1, 0.2, 0.3)},
        "twin": {"a": (0.5, 0.5, 0.5), "b": (0.1, 0.1, 0.1)},
    }
    table = measured_tables(measured(values, scale, "any"))
    assert table["row"] == row
    assert [name for name, _ in table["rows"]] == ["a", "b", mean]
    assert [line[0] for line in table["comparisons"][0]["rows"]] == [mean, "a", "b"]


def freeze_table(detour):
    """The freeze table for the detour's scores; the twin has 50, 51 and 52 points, the frozen arm 51, 52 and 53."""
    values = {"twin": (0.50, 0.51, 0.52), "detour": detour, "frozen": (0.51, 0.52, 0.53)}
    tuned = measured({arm: {"a": scores} for arm, scores in values.items()}, POINTS, "finetuning")
    chosen = SimpleNamespace(
        cka=SimpleNamespace(pairs=[]), transplants=SimpleNamespace(pairs=[]), needle=SimpleNamespace(language=None),
        decay={}, freeze=SimpleNamespace(twin="twin", detour="detour", frozen=["frozen"]),
    )  # fmt: skip
    config = SimpleNamespace(analysis=chosen, arms=values)
    (found,) = analyses(cast(Plan, SimpleNamespace(experiment=SimpleNamespace(config=config, names={}))), [tuned])
    return found


def test_the_share_of_a_clear_gain_is_shown():
    """Differences of 3.9, 4 and 4.1 points; the frozen arm has 1 of the 4."""
    found = freeze_table((0.539, 0.55, 0.561))
    assert [tuple(row) for row in found.rows] == [
        ("twin", "51.00", "0.00"),
        ("detour", "55.00", "1.00"),
        ("frozen", "52.00", "0.25"),
    ]
    assert "not shown" not in found.note


@pytest.mark.parametrize(
    ("detour", "why"),
    [
        ((0.60, 0.50, 0.55), "95% interval ["),
        ((0.54, 0.55, 0.56), "in each of 3 training seeds; without spread between seeds there is no interval."),
    ],
)
def test_the_share_of_a_gain_that_may_be_noise_is_not_shown(detour, why):
    """Differences of 10, -1 and 3 points; and of 4 points in every seed, which do not show their spread."""
    found = freeze_table(detour)
    assert [row[2] for row in found.rows] == ["not shown"] * 3
    assert (
        "The fraction is not shown: the gain is not distinguishable from the noise between seeds. Undecided"
        in found.note
    )
    assert "detour minus twin is +4.00 points" in found.note
    assert why in found.note
    found.draw()
