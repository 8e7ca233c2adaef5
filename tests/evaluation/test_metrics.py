"""Scores against computations that share no code with the libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detour.evaluation.metrics import (
    MEASURES,
    classification_scores,
    multilabel_scores,
    similarity_scores,
    span_scores,
    title,
)

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
SENTENCES = st.lists(st.lists(st.tuples(*[st.sampled_from(TAGS)] * 2), min_size=1, max_size=8), min_size=1, max_size=6)


def spans_of(tags):
    """(type, begin, end) of strict IOB2: an I- continues an entity of its own type, and opens none."""
    found, begin, kind = set(), None, None
    for i, tag in enumerate([*tags, "O"]):
        if begin is not None and tag != f"I-{kind}":
            found.add((kind, begin, i))
            begin = None
        if tag.startswith("B-"):
            begin, kind = i, tag[2:]
    return found


def f1(both, one, other):
    return 2 * both / (one + other) if both else 0.0


@given(SENTENCES)
@settings(max_examples=150, deadline=None)
def test_span_scores_are_those_of_counting_exact_spans(sentences):
    true = [[t for t, _ in s] for s in sentences]
    guess = [[g for _, g in s] for s in sentences]
    gold = {(i, *span) for i, tags in enumerate(true) for span in spans_of(tags)}
    said = {(i, *span) for i, tags in enumerate(guess) for span in spans_of(tags)}
    kinds = sorted({span[1] for span in gold | said})

    def of(kind):
        one, other = ({span for span in spans if span[1] == kind} for spans in (gold, said))
        return f1(len(one & other), len(one), len(other)), len(one)

    scores = span_scores(true, guess)
    assert scores.keys() == set(MEASURES["ner"])
    assert scores["span_micro_f1"] == pytest.approx(f1(len(gold & said), len(gold), len(said)))
    assert scores["span_micro_precision"] == pytest.approx(len(gold & said) / max(len(said), 1))
    assert scores["span_micro_recall"] == pytest.approx(len(gold & said) / max(len(gold), 1))
    each = [of(kind) for kind in kinds]
    assert scores["span_macro_f1"] == pytest.approx(np.mean([score for score, _ in each]) if each else 0.0)
    weights = sum(n for _, n in each)
    assert scores["span_weighted_f1"] == pytest.approx(sum(s * n for s, n in each) / weights if weights else 0.0)


def test_a_span_counts_only_whole_and_with_its_type():
    true = [["B-X", "I-X", "O", "B-Y"]]
    assert span_scores(true, true)["span_micro_f1"] == 1
    assert span_scores(true, [["B-X", "O", "O", "B-X"]])["span_micro_f1"] == 0
    assert span_scores(true, [["I-X", "I-X", "O", "I-Y"]])["span_micro_f1"] == 0  # strict: nothing opens these


@given(st.lists(st.tuples(*[st.sampled_from(["none", "a", "b"])] * 2), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_f1_without_the_negative_class(pairs):
    true, guess = [t for t, _ in pairs], [g for _, g in pairs]
    scores = classification_scores(true, guess, labels=["none", "a", "b"], negative_label="none")
    counts = {label: (pairs.count((label, label)), true.count(label), guess.count(label)) for label in ("a", "b")}
    occurring = {label: c for label, c in counts.items() if c[1] + c[2]}
    both, gold, said = (sum(c[k] for c in counts.values()) for k in range(3))
    assert scores["accuracy"] == pytest.approx(np.mean([t == g for t, g in pairs]))
    assert scores["micro_f1"] == pytest.approx(f1(both, gold, said))
    assert scores["macro_f1"] == pytest.approx(np.mean([f1(*c) for c in occurring.values()]) if occurring else 0.0)
    assert scores["weighted_f1"] == pytest.approx(sum(f1(*c) * c[1] for c in counts.values()) / gold if gold else 0.0)


def test_without_a_negative_class_the_micro_average_is_accuracy():
    scores = classification_scores(["a", "b", "b", "c"], ["a", "b", "a", "a"], labels=["a", "b", "c", "d"])
    assert scores["micro_f1"] == scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)  # d occurs nowhere


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_scores_of_label_sets(rows):
    true = np.array([[t for t, _ in row] for row in rows])
    guess = np.array([[g for _, g in row] for row in rows])
    scores = multilabel_scores(true, guess)
    sets = [({i for i in range(3) if t[i]}, {i for i in range(3) if g[i]}) for t, g in zip(true, guess, strict=True)]
    per_label = [f1((true[:, c] & guess[:, c]).sum(), true[:, c].sum(), guess[:, c].sum()) for c in range(3)]
    assert scores.keys() == set(MEASURES["multilabel"])
    assert scores["micro_f1"] == pytest.approx(f1((true & guess).sum(), true.sum(), guess.sum()))
    assert scores["macro_f1"] == pytest.approx(np.mean(per_label))
    assert scores["exact_match"] == pytest.approx(np.mean([t == g for t, g in sets]))
    assert scores["samples_f1"] == pytest.approx(
        np.mean([f1(len(t & g), len(t), len(g)) if t | g else 1 for t, g in sets])
    )
    assert scores["samples_jaccard"] == pytest.approx(
        np.mean([len(t & g) / len(t | g) if t | g else 1 for t, g in sets])
    )


def test_correlations():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 8.0])
    scores = similarity_scores(x, y)
    assert scores["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert scores["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # ranks 2 1 3 4
    assert similarity_scores(x, np.ones(4)) == {"pearson": 0.0, "spearman": 0.0}


def test_every_score_is_spelt_with_its_averaging():
    assert title("span_micro_f1") == "micro F1, exact spans"
    assert title("weighted_f1") == "weighted F1"
    assert title("exact_match") == "exact match"


@pytest.mark.parametrize("swapped", [False, True])
def test_correlations_where_one_side_spans_exactly_one_are_those_of_scipy(swapped):
    sides = np.array([0.0, 1.0, 1.0, 0.0, 0.5]), np.array([0.3, 2.0, 1.1, 0.2, -4.0])
    targets_N, predictions_N = sides[::-1] if swapped else sides
    scores = similarity_scores(targets_N, predictions_N)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(*sides)[0])
    assert scores["spearman"] == pytest.approx(stats.spearmanr(*sides)[0])
    constant_N = np.ones(5)
    assert similarity_scores(*((predictions_N, constant_N) if swapped else (constant_N, predictions_N))) == {
        "pearson": 0.0, "spearman": 0.0
    }  # fmt: skip
