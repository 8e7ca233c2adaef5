"""Scores of predictions, by scikit-learn, scipy and seqeval. The averaging is part of each score's name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

ZERO: dict[str, Any] = {"zero_division": 0}  # the score of a label that is neither there nor predicted
AVERAGES = ("micro", "macro", "weighted")
MEASURES = {  # kind of task -> its scores; any of them may be a task's metric
    "classification": ("accuracy", "micro_f1", "macro_f1", "weighted_f1"),
    "multilabel": ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "exact_match", "samples_jaccard"),
    "similarity": ("pearson", "spearman"),
    "ner": ("span_micro_f1", "span_macro_f1", "span_weighted_f1", "span_micro_precision", "span_micro_recall"),
}


def classification_scores(
    targets: Sequence[str], predictions: Sequence[str], *, labels: Sequence[str], negative_label: str | None = None
) -> dict[str, float]:
    """Accuracy, and F1 over all labels but the negative one, in [0, 1]. A class with nothing to count scores 0.

    The macro F1 is over the labels that occur among targets or predictions.
    """
    from sklearn.metrics import accuracy_score, f1_score

    occur = {*targets, *predictions}
    counted = [label for label in labels if label in occur and label != negative_label]
    accuracy = float(accuracy_score(targets, predictions))
    if not counted:  # nothing but the negative class, on both sides
        return {"accuracy": accuracy, "micro_f1": 0.0, "macro_f1": 0.0, "weighted_f1": 0.0}
    return {
        "accuracy": accuracy,
        **{
            f"{average}_f1": float(f1_score(targets, predictions, labels=counted, average=average, **ZERO))
            for average in AVERAGES
        },
    }


def multilabel_scores(targets_NC: np.ndarray, predictions_NC: np.ndarray) -> dict[str, float]:
    """F1 by averaging, exact match, and the mean Jaccard index of an example, in [0, 1]; bool [N, C] each.

    ``samples_jaccard`` is what FrenchMedMCQA calls the Hamming score. An example whose two sets are both empty scores 1
    in the averages over examples, as it does in exact match.
    """
    from sklearn.metrics import f1_score

    both_N = (targets_NC & predictions_NC).sum(1)
    sizes_N, either_N = targets_NC.sum(1) + predictions_NC.sum(1), (targets_NC | predictions_NC).sum(1)
    return {
        **{
            f"{average}_f1": float(f1_score(targets_NC, predictions_NC, average=average, **ZERO))
            for average in AVERAGES
        },
        "samples_f1": float(np.where(sizes_N, 2 * both_N / np.maximum(sizes_N, 1), 1).mean()),
        "exact_match": float((targets_NC == predictions_NC).all(1).mean()),
        "samples_jaccard": float(np.where(either_N, both_N / np.maximum(either_N, 1), 1).mean()),
    }


def similarity_scores(targets_N: np.ndarray, predictions_N: np.ndarray) -> dict[str, float]:
    """Correlations in [-1, 1]; 0 where either side is constant, since no order is then shown."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(targets_N) == 0 or np.ptp(predictions_N) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    results: dict[str, Any] = {
        "pearson": pearsonr(targets_N, predictions_N),
        "spearman": spearmanr(targets_N, predictions_N),
    }
    return {name: float(result.statistic) for name, result in results.items()}


def span_scores(targets: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact-span scores of IOB2 tags, in [0, 1], by seqeval in strict mode: an I- that no B- opens is no entity.

    The macro F1 is over the types that occur among targets or predictions.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    true, guess = [list(tags) for tags in targets], [list(tags) for tags in predictions]
    if not any(tag.startswith("B-") for tags in (*true, *guess) for tag in tags):
        return dict.fromkeys(MEASURES["ner"], 0.0)  # seqeval would divide by no type at all
    strict: dict[str, Any] = {"mode": "strict", "scheme": IOB2, **ZERO}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*seems not to be NE tag.*", category=UserWarning)
        values: dict[str, Any] = {
            **{f"span_{average}_f1": f1_score(true, guess, average=average, **strict) for average in AVERAGES},
            "span_micro_precision": precision_score(true, guess, average="micro", **strict),
            "span_micro_recall": recall_score(true, guess, average="micro", **strict),
        }
    return {name: float(value) for name, value in values.items()}


def title(metric: str) -> str:
    """How tables spell a score: "span_micro_f1" -> "micro F1, exact spans"."""
    words = metric.removeprefix("span_").replace("_f1", " F1").replace("_", " ")
    return f"{words}, exact spans" if metric.startswith("span_") else words
