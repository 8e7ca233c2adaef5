"""Task metrics, computed by scikit-learn, SciPy, and seqeval. The averaging is part of each metric's name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

ZERO: dict[str, Any] = {"zero_division": 0}  # score of a label that is neither annotated nor predicted
AVERAGES = ("micro", "macro", "weighted")
MEASURES = {  # kind of task -> its metrics; a task names the one that is reported
    "classification": ("accuracy", "micro_f1", "macro_f1", "weighted_f1"),
    "multilabel": ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "exact_match", "samples_jaccard"),
    "similarity": ("pearson", "spearman"),
    "ner": ("span_micro_f1", "span_macro_f1", "span_weighted_f1", "span_micro_precision", "span_micro_recall"),
}


def classification_scores(
    targets: Sequence[str], predictions: Sequence[str], *, labels: Sequence[str], negative_label: str | None = None
) -> dict[str, float]:
    """Accuracy, and F1 over all labels except the negative one, in [0, 1].

    Macro F1 averages over the labels that occur in targets or predictions. F1 is 0 if no label but the negative one occurs.

    Args:
        targets: Annotated label of each example.
        predictions: Predicted label of each example.
        labels: All labels of the task.
        negative_label: Label excluded from F1, such as "no relation".
    """
    from sklearn.metrics import accuracy_score, f1_score

    occur = {*targets, *predictions}
    counted = [label for label in labels if label in occur and label != negative_label]
    accuracy = float(accuracy_score(targets, predictions))
    if not counted:  # targets and predictions contain the negative label only
        return {"accuracy": accuracy, "micro_f1": 0.0, "macro_f1": 0.0, "weighted_f1": 0.0}
    return {
        "accuracy": accuracy,
        **{
            f"{average}_f1": float(f1_score(targets, predictions, labels=counted, average=average, **ZERO))
            for average in AVERAGES
        },
    }


def multilabel_scores(targets_NC: np.ndarray, predictions_NC: np.ndarray) -> dict[str, float]:
    """F1 with each averaging, exact match, and mean Jaccard index per example, in [0, 1].

    ``samples_jaccard`` is the Hamming score of FrenchMedMCQA. In averages over examples, as in exact match, an example
    without labels in both targets and predictions scores 1.

    Args:
        targets_NC: bool [N, C], annotated labels.
        predictions_NC: bool [N, C], predicted labels.
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
    """Pearson and Spearman correlation, in [-1, 1]; 0 if targets or predictions are constant."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(targets_N) == 0 or np.ptp(predictions_N) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    results: dict[str, Any] = {
        "pearson": pearsonr(targets_N, predictions_N),
        "spearman": spearmanr(targets_N, predictions_N),
    }
    return {name: float(result.statistic) for name, result in results.items()}


def span_scores(targets: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact-span scores of IOB2 tags, in [0, 1], by seqeval in strict mode: an entity must begin with a B- tag.

    Macro F1 averages over the types that occur in targets or predictions.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    true, guess = [list(tags) for tags in targets], [list(tags) for tags in predictions]
    if not any(tag.startswith("B-") for tags in (*true, *guess) for tag in tags):
        return dict.fromkeys(MEASURES["ner"], 0.0)  # seqeval would divide by zero types
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
    """The name of a metric in tables: "span_micro_f1" -> "micro F1, exact spans"."""
    words = metric.removeprefix("span_").replace("_f1", " F1").replace("_", " ")
    return f"{words}, exact spans" if metric.startswith("span_") else words
