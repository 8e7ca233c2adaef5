"""The rules of verdicts, and their sentences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from detour.evaluation.results.verdicts import NATS, POINTS, Finding, Verdict, amount, few_seeds, sentence, verdict_of

FINDING = Finding(
    arm="detour",
    baseline="twin",
    where="on the mean over tasks",
    verdict=Verdict.UNDECIDED,
    mean=0.004,
    low=-0.002,
    high=0.0100001,
    low_90=-0.0012,
    high_90=0.0049,
    p_equivalence=0.047,
    within_margin=False,
    margin=0.5,
    seeds=3,
    basis="training seeds",
    seeds_to_decide=11,
)


@pytest.mark.parametrize(
    ("mean", "p", "p_equivalence", "higher_is_better", "expected"),
    [
        (0.01, 0.01, 0.9, True, Verdict.BETTER),
        (-0.01, 0.01, 0.9, True, Verdict.WORSE),
        (0.01, 0.01, 0.9, False, Verdict.WORSE),
        (-0.01, 0.01, 0.9, False, Verdict.BETTER),
        (0.001, 0.01, 0.01, True, Verdict.BETTER),  # both tests: the difference is named first
        (-0.001, 0.01, 0.01, True, Verdict.WORSE),
        (0.001, 0.2, 0.01, True, Verdict.EQUIVALENT),
        (0.01, 0.2, 0.2, True, Verdict.UNDECIDED),
        (0.01, 0.05, 0.05, True, Verdict.UNDECIDED),  # 0.05 itself is not significant
        (0.01, math.nan, math.nan, True, Verdict.UNDECIDED),
        (0.01, 0.2, math.nan, True, Verdict.UNDECIDED),  # no margin
        (0.0, 1.0, 0.0, True, Verdict.EQUIVALENT),
    ],
)
def test_the_rules(mean, p, p_equivalence, higher_is_better, expected):
    assert verdict_of(mean, p, p_equivalence, higher_is_better=higher_is_better) is expected


EVIDENCE = "detour minus twin is +0.40 points, 95% interval [-0.20, +1.00], 3 training seeds."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"verdict": Verdict.BETTER}, f"detour is better than twin on the mean over tasks: {EVIDENCE}"),
        (
            {"verdict": Verdict.WORSE, "within_margin": True, "where": "on hoc"},
            "detour is worse than twin on hoc, but within the margin of 0.5 points: detour minus twin is +0.40 points, 95% "
            "interval [-0.20, +1.00], 90% interval [-0.12, +0.49], TOST p = 0.047, 3 training seeds.",
        ),
        (
            {"verdict": Verdict.EQUIVALENT, "within_margin": True},
            "detour and twin are equivalent within 0.5 points on the mean over tasks: detour minus twin is +0.40 points, 90% "
            "interval [-0.12, +0.49], TOST p = 0.047, 3 training seeds.",
        ),
        (
            {"degenerate": 2, "cells": 18},
            f"Undecided on the mean over tasks: {EVIDENCE} † In 2 of 18 cells the predictions are one class only, or empty: "
            "the score says nothing.",
        ),
        (
            {},
            f"Undecided on the mean over tasks: {EVIDENCE} About 11 training seeds would be needed to tell a difference of "
            "0.5 points from none with 80% power, given the spread seen.",
        ),
        (
            {"seeds_to_decide": 1001, "margin": None},
            f"Undecided on the mean over tasks: {EVIDENCE} More than 1000 training seeds would be needed to show the "
            "difference seen with 80% power, given the spread seen.",
        ),
        (
            {"seeds_to_decide": 3},
            f"Undecided on the mean over tasks: {EVIDENCE} 3 training seeds are enough to tell a difference of 0.5 points "
            "from none with 80% power, given the spread seen; the true difference may lie between.",
        ),
        (
            {"low": math.nan, "high": math.nan, "seeds": 1, "basis": "fine-tuning seeds only"},
            "Undecided on the mean over tasks: detour minus twin is +0.40 points; with 1 fine-tuning seed there is no "
            "interval. This rests on fine-tuning seeds only and says nothing about another training run.",
        ),
    ],
)
def test_the_sentences(changes, expected):
    assert sentence(replace(FINDING, **changes), POINTS) == expected


def test_equivalence_does_not_rest_on_degenerate_scores():
    assert verdict_of(0.001, 0.2, 0.01, degenerate=1) is Verdict.UNDECIDED
    assert verdict_of(0.05, 0.01, 0.9, degenerate=1) is Verdict.BETTER


def test_fewer_than_three_training_seeds_are_warned_of():
    assert few_seeds(3) == []
    assert "1 degrees of freedom" not in few_seeds(2)[0]
    assert "1 degree of freedom" in few_seeds(2)[0]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_from_fine_tuning_seeds_says_what_it_does_not_say(verdict):
    text = sentence(replace(FINDING, verdict=verdict, basis="fine-tuning seeds only"), POINTS)
    assert "3 fine-tuning seeds" in text
    assert text.endswith("This rests on fine-tuning seeds only and says nothing about another training run.")
    assert "another training run" not in sentence(replace(FINDING, verdict=verdict), POINTS)


@pytest.mark.parametrize(
    ("value", "scale", "sign", "expected"),
    [
        (0.01239, POINTS, True, "+1.24"),
        (-0.0123, NATS, True, "-0.0123"),
        (0.5, POINTS, False, "50.00"),
        (-0.00001, POINTS, True, "+0.00"),
        (0.0, NATS, True, "+0.0000"),
        (math.nan, POINTS, True, "–"),
    ],
)
def test_amounts_are_in_the_unit_of_the_scale(value, scale, sign, expected):
    assert amount(value, scale, sign=sign) == expected
