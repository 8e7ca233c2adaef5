"""Probes of a frozen encoder on labeled tasks: linear classifier, cosine similarity, and retrieval."""

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
WORDS = 20_000  # training words for NER; six regressions on 768 features then take minutes


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        scores: Metric -> score, in [0, 1]; correlations in [-1, 1].
        examples: Number of test examples.
        truncated: Number of truncated texts.
        settings: Selected hyperparameters.
    """

    scores: dict[str, float]
    examples: int
    truncated: int
    settings: dict[str, Any]


def linear_probe(encoder: Frozen, task: Task, data: Dataset) -> ProbeResult:
    """Logistic regression on frozen states, with its regularization strength selected on dev; for similarity, the cosine.

    States are mean-pooled, or for NER those of first subwords, and standardized on train. A multilabel task has one
    regression per label. NER is trained on a random sample of examples with about `WORDS` words.

    Args:
        encoder: The frozen encoder.
        task: The task.
        data: Its examples.

    Raises:
        ConfigError: The task's entities may lie in each other, which labels of words cannot say.
    """
    if task.kind == "nested_ner":
        raise ConfigError(f"task '{task.name}': the linear probe labels words; it has no form for the kind nested_ner")
    if task.kind == "similarity":
        return _cosine_probe(encoder, task, data)
    from sklearn.preprocessing import StandardScaler

    splits = data.splits
    if task.kind == "ner":
        splits = {**splits, "train": _sample_words(splits["train"])}
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

    def predictions(predict: Any, split: str) -> list[Any]:
        predicted = predict(x[split])
        if task.kind != "ner":
            return predicted
        ends = np.cumsum([len(example.parts) for example in splits[split]])
        return [tags.tolist() for tags in np.split(np.array(predicted), ends[:-1])]

    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        predict = _regression(x["train"], targets, data.labels, strength, several=task.kind == "multilabel")
        value = score(task, data, "dev", predictions(predict, "dev"))[task.metric]
        if best is None or value > best[0]:
            best = value, strength, predict
    assert best is not None
    value, strength, predict = best
    settings = {"C": strength, "validation": value}
    return ProbeResult(
        scores=score(task, data, "test", predictions(predict, "test")),
        examples=len(data.splits["test"]),
        truncated=truncated,
        settings=settings | ({"train_words": len(targets)} if task.kind == "ner" else {}),
    )


def _features(encoder: Frozen, task: Task, data: Dataset, examples: list[Example]) -> tuple[np.ndarray, int]:
    """float [N, H]: features of each text, or for NER of each word; and the number of truncated texts."""
    if task.kind != "ner":
        return encoder.embed(*_columns(examples), max_length=task.max_length)
    ids = {label: i for i, label in enumerate(data.labels)}
    longest = min(task.max_length, encoder.longest)
    return encoder.states_of_words(encode_words(encoder.tokenizer, examples, ids, max_length=longest)), 0


def _sample_words(examples: list[Example]) -> list[Example]:
    """A random sample of examples with at least `WORDS` words in total, or all; the same for every model."""
    drawn, words = [], 0
    for i in np.random.default_rng(0).permutation(len(examples)):
        if words >= WORDS:
            break
        drawn.append(examples[i])
        words += len(examples[i].parts)
    return drawn


def _regression(x_NH: np.ndarray, targets: list[Any], labels: list[str], strength: float, *, several: bool) -> Any:
    """Fits logistic regressions. Returns a function from features [N, H] to N labels, or N lists of labels."""
    from sklearn.linear_model import LogisticRegression

    def fitted(y: Any) -> Any:
        return LogisticRegression(C=strength, max_iter=2000).fit(x_NH, y)

    if not several:
        if len(set(targets)) == 1:
            return lambda x: [targets[0]] * len(x)
        model = fitted(targets)
        return lambda x: model.predict(x).tolist()
    has = {label: np.array([label in assigned for assigned in targets]) for label in labels}
    # a regression needs positive and negative examples; otherwise the prediction is constant
    models = {label: fitted(y) if 0 < y.sum() < len(y) else bool(y.any()) for label, y in has.items()}

    def predict(x: np.ndarray) -> list[list[str]]:
        found = {label: np.full(len(x), m) if isinstance(m, bool) else m.predict(x) for label, m in models.items()}
        return [[label for label in labels if found[label][i]] for i in range(len(x))]

    return predict


def _cosine_probe(encoder: Frozen, task: Task, data: Dataset) -> ProbeResult:
    examples = data.splits["test"]
    cosines, truncated = _cosines(encoder, examples, task.max_length)
    targets = np.array([float(example.target) for example in examples])  # type: ignore[arg-type]
    scores = metrics.similarity_scores(targets, np.diag(cosines))
    return ProbeResult(scores=scores, examples=len(examples), truncated=truncated, settings={"trained": False})


def retrieval_probe(encoder: Frozen, task: Task, data: Dataset) -> ProbeResult:
    """Retrieves the second text of each test pair from its first, by cosine of mean-pooled states.

    The candidates are all second texts. If a text occurs in several pairs, any copy counts as correct.

    Args:
        encoder: The frozen encoder.
        task: The task.
        data: Its examples; the test split is used.

    Raises:
        ConfigError: The examples are not pairs of texts.
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
    return ProbeResult(
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
    """float [N, N]: cosine of each first text with each second text, and the number of truncated texts."""
    normalized_NH, truncated = [], 0
    for part in (0, 1):
        vectors_NH, cut = encoder.embed([example.parts[part] for example in examples], max_length=max_length)
        normalized_NH.append(vectors_NH / np.linalg.norm(vectors_NH, axis=1, keepdims=True))
        truncated += cut
    return normalized_NH[0] @ normalized_NH[1].T, truncated


def _columns(examples: list[Example]) -> tuple[list[str], list[str] | None]:
    firsts = [example.parts[0] for example in examples]
    return firsts, [example.parts[1] for example in examples] if len(examples[0].parts) == 2 else None
