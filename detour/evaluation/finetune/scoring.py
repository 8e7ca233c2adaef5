"""From a model's outputs to predictions, and from predictions to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detour.evaluation import metrics
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import to_iob2
from detour.evaluation.data.features import Encoded
from detour.evaluation.data.task import Task


def predictions_of(task: Task, data: Dataset, encoded: Encoded, outputs: Any) -> list[Any]:
    """What the model says of each example: its label, labels, score, or tags.

    Args:
        outputs: Logits [N, C], or tag numbers [windows, T] for NER.
    """
    if task.kind == "similarity":
        return outputs.reshape(-1).astype(float).tolist()
    if task.kind == "classification":
        return [data.labels[i] for i in outputs.argmax(-1)]
    if task.kind == "multilabel":
        least = math.log(task.training.threshold / (1 - task.training.threshold))
        return [[data.labels[i] for i in np.flatnonzero(row)] for row in outputs > least]
    tags = [
        ["O" if window < 0 else data.labels[outputs[window, position]] for window, position in positions_W2]
        for positions_W2 in encoded.positions_W2
    ]
    # a chain is strict but for its beginning: where the window before did not open an entity, it begins there
    return tags if task.training.head == "linear" else [to_iob2(said, "iob1") for said in tags]


def score(task: Task, data: Dataset, split: str, predictions: Sequence[Any]) -> dict[str, float]:
    """Every score of the task's kind."""
    targets: list[Any] = [example.target for example in data.splits[split]]
    if task.kind == "ner":
        return metrics.span_scores(targets, predictions)
    if task.kind == "classification":
        return metrics.classification_scores(
            targets, predictions, labels=data.labels, negative_label=task.negative_label
        )
    if task.kind == "multilabel":
        sets = [
            np.array([[label in given for label in data.labels] for given in side]) for side in (targets, predictions)
        ]
        return metrics.multilabel_scores(*sets)
    return metrics.similarity_scores(np.array(targets), np.array(predictions))
