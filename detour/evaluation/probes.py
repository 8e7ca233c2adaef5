"""Probes of a frozen encoder on a task's data: a linear classifier, similarity by cosine, retrieval by cosine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detour.errors import ConfigError
from detour.evaluation import metrics
from detour.evaluation.dataset import Dataset
from detour.evaluation.examples import Example
from detour.evaluation.finetune import score
from detour.evaluation.frozen import Frozen
from detour.evaluation.task import Task

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # C of the logistic regression


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe found.

    Attributes:
        scores: By name; in [0, 1], correlations in [-1, 1].
        examples: That the scores are of.
        truncated: Texts that were cut.
        settings: What was chosen on the way.
    """

    scores: dict[str, float]
    examples: int
    truncated: int
    settings: dict[str, Any]


def linear_probe(encoder: Frozen, task: Task, data: Dataset) -> Probed:
    """Logistic regression on mean-pooled states, its strength chosen on dev; for similarity the cosine itself.

    Features are scaled to unit variance on train. Several labels are as many regressions.

    Raises:
        ConfigError: The task is NER.
    """
    if task.kind == "similarity":
        return _cosine_probe(encoder, task, data)
    if task.kind == "ner":
        raise ConfigError(f"task '{task.name}': the linear probe is for whole texts, not for NER")
    from sklearn.preprocessing import StandardScaler

    x: dict[str, np.ndarray] = {}
    truncated = 0
    for split, examples in data.splits.items():
        x[split], cut = encoder.embed(*_columns(examples), max_length=task.max_length)
        truncated += cut
    scaler: Any = StandardScaler().fit(x["train"])
    x = {split: scaler.transform(features) for split, features in x.items()}
    targets: list[Any] = [example.target for example in data.splits["train"]]
    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        predict = _regression(x["train"], targets, data.labels, strength, several=task.kind == "multilabel")
        value = score(task, data, "dev", predict(x["dev"]))[task.metric]
        if best is None or value > best[0]:
            best = value, strength, predict
    assert best is not None
    value, strength, predict = best
    return Probed(
        scores=score(task, data, "test", predict(x["test"])),
        examples=len(data.splits["test"]),
        truncated=truncated,
        settings={"C": strength, "validation": value},
    )


def _regression(x_NH: np.ndarray, targets: list[Any], labels: list[str], strength: float, *, several: bool) -> Any:
    """A function from features to a label or a list of labels each."""
    from sklearn.linear_model import LogisticRegression

    def fitted(y: Any) -> Any:
        return LogisticRegression(C=strength, max_iter=2000).fit(x_NH, y)

    if not several:
        if len(set(targets)) == 1:
            return lambda x: [targets[0]] * len(x)
        model = fitted(targets)
        return lambda x: model.predict(x).tolist()
    has = {label: np.array([label in given for given in targets]) for label in labels}
    # a label that all or no training examples have needs no regression, and could have none
    models = {label: fitted(y) if 0 < y.sum() < len(y) else bool(y.any()) for label, y in has.items()}

    def predict(x: np.ndarray) -> list[list[str]]:
        said = {label: np.full(len(x), m) if isinstance(m, bool) else m.predict(x) for label, m in models.items()}
        return [[label for label in labels if said[label][i]] for i in range(len(x))]

    return predict


def _cosine_probe(encoder: Frozen, task: Task, data: Dataset) -> Probed:
    examples = data.splits["test"]
    cosines, truncated = _cosines(encoder, examples, task.max_length)
    targets = np.array([float(example.target) for example in examples])  # type: ignore[arg-type]
    scores = metrics.similarity_scores(targets, np.diag(cosines))
    return Probed(scores=scores, examples=len(examples), truncated=truncated, settings={"trained": False})


def retrieval_probe(encoder: Frozen, task: Task, data: Dataset) -> Probed:
    """For each first text of the test pairs, its own second text among all of them, by cosine of mean-pooled states.

    The same second text may stand in several pairs; any of its copies counts as found.

    Raises:
        ConfigError: The task's examples are no pairs.
    """
    examples = data.splits["test"]
    if len(examples[0].parts) != 2 or task.kind == "ner":
        raise ConfigError(f"task '{task.name}': retrieval needs pairs of texts")
    cosines_NN, truncated = _cosines(encoder, examples, task.max_length)
    number = {text: i for i, text in enumerate(dict.fromkeys(example.parts[1] for example in examples))}
    which_N = np.array([number[example.parts[1]] for example in examples])
    own_N = np.diag(cosines_NN)
    others_NN = np.where(which_N[None, :] == which_N[:, None], -np.inf, cosines_NN)
    rank_N = 1 + (others_NN >= own_N[:, None]).sum(1)
    return Probed(
        scores={
            "recall_at_1": float((rank_N <= 1).mean()),
            "recall_at_10": float((rank_N <= 10).mean()),
            "mrr": float((1 / rank_N).mean()),
        },
        examples=len(examples),
        truncated=truncated,
        settings={"candidates": len(number)},
    )


def _cosines(encoder: Frozen, examples: list[Example], max_length: int) -> tuple[np.ndarray, int]:
    """float [N, N]: of each first text with each second one, and how many texts were cut."""
    sides, truncated = [], 0
    for side in (0, 1):
        vectors, cut = encoder.embed([example.parts[side] for example in examples], max_length=max_length)
        sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        truncated += cut
    return sides[0] @ sides[1].T, truncated


def _columns(examples: list[Example]) -> tuple[list[str], list[str] | None]:
    firsts = [example.parts[0] for example in examples]
    return firsts, [example.parts[1] for example in examples] if len(examples[0].parts) == 2 else None
