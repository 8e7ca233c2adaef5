"""From a model's outputs to predictions, and from predictions to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detour.evaluation import metrics
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Span, to_iob2
from detour.evaluation.data.features import Encoded
from detour.evaluation.data.nested import without_overlaps
from detour.evaluation.data.task import Task


def predictions_of(task: Task, data: Dataset, encoded: Encoded, outputs: Any) -> list[Any]:
    """Predicted label, labels, score, tags, or entities of each example.

    Args:
        task: The task.
        data: Its labels are used.
        encoded: The inputs of the split.
        outputs: Logits [N, C], for NER tag indices [windows, T], or for nested NER the span head's [windows, S, 4].
    """
    if task.kind == "nested_ner":
        return _entities(data, encoded, outputs)
    if task.kind == "similarity":
        return outputs.reshape(-1).astype(float).tolist()
    if task.kind == "classification":
        return [data.labels[i] for i in outputs.argmax(-1)]
    if task.kind == "multilabel":
        least = math.log(task.training.threshold / (1 - task.training.threshold))
        assigned = outputs > least
        if task.training.best_label:
            bare = ~assigned.any(1)
            assigned[bare, outputs[bare].argmax(1)] = True
        return [[data.labels[i] for i in np.flatnonzero(row)] for row in assigned]
    tags = [
        ["O" if window < 0 else data.labels[outputs[window, position]] for window, position in positions_W2]
        for positions_W2 in encoded.positions_W2
    ]
    # a CRF's sequence may begin with I-X, in case the previous window ends in an entity; otherwise that is a B-X
    return tags if task.training.head == "linear" else [to_iob2(sequence, "iob1") for sequence in tags]


def _entities(data: Dataset, encoded: Encoded, outputs: np.ndarray) -> list[list[Span]]:
    """The entities of each text: found in any of its windows, without overlaps of one type (`without_overlaps`)."""
    found: dict[int, dict[Span, float]] = {}
    for (number, characters_T2), rows_S4 in zip(encoded.places, outputs, strict=True):
        spans = found.setdefault(number, {})
        for first, last, kind, probability in rows_S4[rows_S4[:, 0] >= 0]:
            (start, stop), (begin, end) = characters_T2[int(first)], characters_T2[int(last)]
            if start < stop and begin < end:  # not those of special tokens
                span = Span(int(start), int(end), data.labels[int(kind)])
                spans[span] = max(float(probability), spans.get(span, 0.0))
    return [without_overlaps(list(spans.items())) for _, spans in sorted(found.items())]


def degenerate(task: Task, data: Dataset, split: str, predictions: Sequence[Any]) -> str | None:
    """Why predictions say nothing although the targets do: "empty", "one class", or "one value"; None if they say something.

    Empty: no entity, or no label of any example. One class: the same label, or labels, for every example.
    """
    targets: list[Any] = [example.target for example in data.splits[split]]
    if task.kind == "nested_ner":
        return "empty" if any(targets) and not any(predictions) else None
    if task.kind == "ner":
        found, wanted = ({tag for tags in each for tag in tags} - {"O"} for each in (predictions, targets))
        return "empty" if wanted and not found else None
    kinds, wanted = (
        {tuple(sorted(p)) if isinstance(p, (list, tuple)) else p for p in each} for each in (predictions, targets)
    )
    if len(kinds) > 1 or len(wanted) == 1:
        return None
    if task.kind == "similarity":
        return "one value"
    return "empty" if kinds == {()} else "one class"


def score(task: Task, data: Dataset, split: str, predictions: Sequence[Any]) -> dict[str, float]:
    """All metrics of the task's kind."""
    targets: list[Any] = [example.target for example in data.splits[split]]
    if task.kind == "nested_ner":
        return metrics.nested_scores(targets, predictions)
    if task.kind == "ner":
        return metrics.span_scores(targets, predictions)
    if task.kind == "classification":
        return metrics.classification_scores(
            targets, predictions, labels=data.labels, negative_label=task.negative_label
        )
    if task.kind == "multilabel":
        targets_NC, predictions_NC = (
            np.array([[label in assigned for label in data.labels] for assigned in examples])
            for examples in (targets, predictions)
        )
        return metrics.multilabel_scores(targets_NC, predictions_NC)
    return metrics.similarity_scores(np.array(targets), np.array(predictions))
