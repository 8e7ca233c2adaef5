"""Probes of a frozen encoder on a task's data: a linear classifier, similarity by cosine, retrieval by cosine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detour.errors import ConfigError
from detour.evaluation import metrics
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example
from detour.evaluation.data.features import encode_words
from detour.evaluation.data.task import Task
from detour.evaluation.finetune.scoring import score
from detour.evaluation.probes.frozen import Frozen

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # C of the logistic regression
WORDS = 20_000  # of NER's train, with which six regressions on 768 features take minutes


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
    """Logistic regression on frozen states, its strength chosen on dev; for similarity the cosine itself.

    States are mean-pooled, for NER those at the first sub-words, and scaled to unit variance on train. Several labels are
    as many regressions. NER learns from some `WORDS` words: whole examples, drawn.
    """
    if task.kind == "similarity":
        return _cosine_probe(encoder, task, data)
    from sklearn.preprocessing import StandardScaler

    splits = data.splits
    if task.kind == "ner":
        splits = {**splits, "train": _some_words(splits["train"])}
    x: dict[str, np.ndarray] = {}
    truncated = 0
    for split, examples in splits.items():
        x[split], cut = _features(encoder, task, data, examples)
        truncated += cut
    scaler: Any = StandardScaler().fit(x["train"])
    x = {split: scaler.transform(features) for split, features in x.items()}
    targets: list[Any] = [example.target for example in splits["train"]]
    if task.kind == "ner":
        targets = [tag for tags in targets for tag in tags]

    def said(predict: Any, split: str) -> list[Any]:
        said = predict(x[split])
        if task.kind != "ner":
            return said
        ends = np.cumsum([len(example.parts) for example in splits[split]])
        return [tags.tolist() for tags in np.split(np.array(said), ends[:-1])]

    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        predict = _regression(x["train"], targets, data.labels, strength, several=task.kind == "multilabel")
        value = score(task, data, "dev", said(predict, "dev"))[task.metric]
        if best is None or value > best[0]:
            best = value, strength, predict
    assert best is not None
    value, strength, predict = best
    settings = {"C": strength, "validation": value}
    return Probed(
        scores=score(task, data, "test", said(predict, "test")),
        examples=len(data.splits["test"]),
        truncated=truncated,
        settings=settings | ({"train_words": len(targets)} if task.kind == "ner" else {}),
    )


def _features(encoder: Frozen, task: Task, data: Dataset, examples: list[Example]) -> tuple[np.ndarray, int]:
    """float [N, H]: of each text, or for NER of each word; and how many texts were cut."""
    if task.kind != "ner":
        return encoder.embed(*_columns(examples), max_length=task.max_length)
    ids = {label: i for i, label in enumerate(data.labels)}
    longest = min(task.max_length, encoder.longest)
    return encoder.states_of_words(encode_words(encoder.tokenizer, examples, ids, max_length=longest)), 0


def _some_words(examples: list[Example]) -> list[Example]:
    """Examples of at least `WORDS` words together, or all, in an order that is drawn, the same for every model."""
    drawn, words = [], 0
    for i in np.random.default_rng(0).permutation(len(examples)):
        if words >= WORDS:
            break
        drawn.append(examples[i])
        words += len(examples[i].parts)
    return drawn


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
