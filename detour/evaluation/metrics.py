"""Task metrics, computed by scikit-learn, SciPy, and seqeval; those of nested entities are counted here.

The averaging is part of each metric's name.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from detour.evaluation.data.examples import Span

ZERO: dict[str, Any] = {"zero_division": 0}  # score of a label that is neither annotated nor predicted
AVERAGES = ("micro", "macro", "weighted")
MEASURES = {  # kind of task -> its metrics; a task names the one that is reported
    "classification": ("accuracy", "micro_f1", "macro_f1", "weighted_f1"),
    "multilabel": ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "exact_match", "samples_jaccard"),
    "similarity": ("pearson", "spearman"),
    "ner": (
        "span_micro_f1", "span_macro_f1", "span_weighted_f1", "span_micro_precision", "span_micro_recall",
        "span_lenient_micro_f1",
    ),
    "nested_ner": (
        "exact_micro_f1", "exact_macro_f1", "exact_micro_precision", "exact_micro_recall",
        "partial_micro_f1", "partial_macro_f1", "partial_micro_precision", "partial_micro_recall",
    ),
}  # fmt: skip


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

    Macro F1 averages over the types that occur in targets or predictions. The lenient F1 is that of seqeval without its
    strict mode: an I- tag that continues nothing begins an entity.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    true, guess = [list(tags) for tags in targets], [list(tags) for tags in predictions]
    used = {tag for tags in (*true, *guess) for tag in tags}
    strict: dict[str, Any] = {"mode": "strict", "scheme": IOB2, **ZERO}
    values: dict[str, Any] = dict.fromkeys(MEASURES["ner"], 0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*seems not to be NE tag.*", category=UserWarning)
        if any(tag.startswith("B-") for tag in used):  # without any, seqeval divides by zero types
            values |= {f"span_{average}_f1": f1_score(true, guess, average=average, **strict) for average in AVERAGES}
            values["span_micro_precision"] = precision_score(true, guess, average="micro", **strict)
            values["span_micro_recall"] = recall_score(true, guess, average="micro", **strict)
        if used - {"O"}:
            values["span_lenient_micro_f1"] = f1_score(true, guess, average="micro", **ZERO)
    return {name: float(value) for name, value in values.items()}


def nested_scores(targets: Sequence[Iterable[Span]], predictions: Sequence[Iterable[Span]]) -> dict[str, float]:
    """Scores of entities as characters of the text and type, in [0, 1]; nested ones included, each counted once.

    Exact: an entity is found if one is predicted with the same first and last character and type. Partial: one of the same
    type that shares a character with it; precision counts the predictions that share one with an annotated entity, recall
    the annotated entities that share one with a prediction. Macro F1 averages over the types that occur in either.

    Args:
        targets: Annotated entities of each text.
        predictions: Predicted entities of each text.
    """
    counts = {kind: Counter[str]() for kind in ("exact", "partial")}
    for true, guess in ((set(a), set(b)) for a, b in zip(targets, predictions, strict=True)):
        for kind, matches in (("exact", Span.__eq__), ("partial", _overlap)):
            for name, ours, theirs in (("true", true, guess), ("guess", guess, true)):
                for span in ours:
                    counts[kind][f"{name} {span.type}"] += 1
                    counts[kind][f"{name} met {span.type}"] += any(matches(span, other) for other in theirs)
    types = sorted({span.type for spans in (*targets, *predictions) for span in spans})
    scores = {}
    for kind, count in counts.items():
        each = [_precision_recall_f1(count, [type]) for type in types]
        precision, recall, f1 = _precision_recall_f1(count, types)
        scores |= {
            f"{kind}_micro_f1": f1,
            f"{kind}_macro_f1": float(np.mean([f1 for _, _, f1 in each])) if each else 0.0,
            f"{kind}_micro_precision": precision,
            f"{kind}_micro_recall": recall,
        }
    return scores


def _overlap(span: Span, other: Span) -> bool:
    return span.type == other.type and span.start < other.end and other.start < span.end


def _precision_recall_f1(count: Counter[str], types: Sequence[str]) -> tuple[float, float, float]:
    """From the numbers of predicted and annotated entities of these types, and of those that meet one of the others."""

    def ratio(name: str) -> float:
        total = sum(count[f"{name} {type}"] for type in types)
        return sum(count[f"{name} met {type}"] for type in types) / total if total else 0.0

    precision, recall = ratio("guess"), ratio("true")
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def title(metric: str) -> str:
    """The name of a metric in tables: "span_micro_f1" -> "micro F1, exact spans"."""
    kind, _, rest = metric.partition("_")
    where = {"span": "exact spans", "exact": "exact characters", "partial": "overlapping characters"}.get(kind)
    if where is None or metric == "exact_match":
        return metric.replace("_f1", " F1").replace("_", " ")
    return f"{rest.replace('_f1', ' F1').replace('_', ' ')}, {where}"
