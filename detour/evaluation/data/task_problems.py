"""What is wrong with the description of a task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from detour.errors import ConfigError
from detour.evaluation.data import readers
from detour.evaluation.metrics import MEASURES
from detour.names import fault_of_label, fault_of_name
from detour.redact import redacted
from detour.registry import suggestion

if TYPE_CHECKING:
    from detour.evaluation.data.task import Task

TAG_HEADS = ("linear", "bilstm_crf", "bilstm_crf_biaffine")
HEADS = {"ner": TAG_HEADS, "nested_ner": (*TAG_HEADS, "span")}  # of other kinds only the linear one
SPLIT_RULES = ("permutation", "largest_remainder", "floor", "datasets", "datasets_test_first", "sklearn")
NEGATIVES = ("all", "first")


def problems_of(task: Task, known: Sequence[str] = ()) -> Iterator[str]:
    """Every value that is out of range or contradicts another, each with its key.

    Args:
        task: The task; a required value may be None, which is not looked at.
        known: Problems of keys that are replaced by their defaults in ``task``; what contradicts one of them is left out.
    """
    faulty = [problem.split(":", 1)[0].partition("[")[0] for problem in known]
    if task.kind not in MEASURES:
        if task.kind is not None:
            yield f"kind: '{task.kind}'{suggestion(task.kind, MEASURES)}; expected one of {', '.join(MEASURES)}"
        task = replace(task, kind="")  # what depends on the kind is not looked at
    found = [*_of_names(task), *_of_metrics(task), *_of_values(task), *_of_counts(task), *_of_training(task)]
    if not any(key.startswith("source") for key in faulty):
        found += _of_source(task)
    nested = {key.rpartition(".")[2] for key in faulty if "." in key}
    for problem in found:
        if not nested.intersection(re.findall(r"\w+", problem.split(":", 1)[1])):
            yield problem


def _of_names(task: Task) -> Iterator[str]:
    if task.name is not None:
        if fault := fault_of_name(task.name):
            yield f"name: {task.name[:80]!r} {fault}"
        if redacted(task.name) != task.name:
            yield "name: holds a secret or a value of the environment, which every result would show; write it out"
    if task.language is not None and (fault := fault_of_label(task.language)):
        yield f"language: {task.language[:80]!r} {fault}"


def _of_source(task: Task) -> Iterator[str]:
    try:
        yield from readers.problems_of_options(task.source.kind, task.source.options, "source.options")
    except ConfigError as error:
        yield f"source.kind: {error}"


def _of_values(task: Task) -> Iterator[str]:
    if len(set(task.labels)) != len(task.labels):
        yield "labels: one stands twice"
    if task.negative_label is not None and (
        task.kind not in ("classification", "") or (task.labels and task.negative_label not in task.labels)
    ):
        yield f"negative_label: '{task.negative_label}', expected one of the labels of a classification task"
    if task.top_labels and (task.kind not in ("multilabel", "") or task.labels):
        yield "top_labels: chooses among the labels of a multilabel task; this one is of another kind or has `labels`"
    fractions = task.split.fractions
    if fractions and (len(fractions) not in (2, 3) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9):
        yield f"split.fractions: {fractions}, expected two or three fractions above 0 that sum to 1"
    if task.split.rule not in SPLIT_RULES:
        yield f"split.rule: '{task.split.rule}', expected one of {', '.join(SPLIT_RULES)}"


def _of_metrics(task: Task) -> Iterator[str]:
    known = MEASURES.get(task.kind, {})
    for key in ("metric", "selection_metric"):
        if (metric := getattr(task, key)) is not None and known and metric not in known:
            yield f"{key}: '{metric}'{suggestion(metric, known)}; a {task.kind} task has {', '.join(known)}"


def _of_counts(task: Task) -> Iterator[str]:
    lows = {"max_length": 8, "top_labels": 0, "limit.train": 0, "limit.dev": 0, "limit.test": 0}
    lows |= {"training.batch_size": 1, "training.epochs": 1, "training.steps": 0, "training.micro_batch_size": 0}
    for key, low in {**lows, "training.eval_steps": 0}.items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(task, section) if section else task, name)
        if value < low:
            yield f"{key}: {value}, expected at least {low}"


def _of_training(task: Task) -> Iterator[str]:
    training = task.training
    if training.micro_batch_size and training.batch_size % training.micro_batch_size:
        yield f"training.micro_batch_size: {training.micro_batch_size} does not divide batch_size {training.batch_size}"
    if training.eval_steps > training.steps:
        yield f"training.eval_steps: {training.eval_steps}, expected at most training.steps, {training.steps}"
    for key in ("learning_rate", "head_learning_rate"):
        if (rate := getattr(training, key)) is not None and not 0 < rate < 1:
            yield f"training.{key}: {rate}, expected a rate above 0 and below 1"
    for key in ("weight_decay", "warmup_fraction"):
        if not 0 <= getattr(training, key) < 1:
            yield f"training.{key}: {getattr(training, key)}, expected at least 0 and below 1"
    if not training.max_grad_norm > 0:
        yield f"training.max_grad_norm: {training.max_grad_norm}, expected a norm above 0"
    if not 0 < training.threshold < 1:
        yield f"training.threshold: {training.threshold}, expected a probability above 0 and below 1"
    heads = HEADS["nested_ner"] if not task.kind else HEADS.get(task.kind, ("linear",))
    if training.head not in heads:
        kinds = "linear" if len(heads) == 1 else f"for {task.kind} one of {', '.join(heads)}"
        yield f"training.head: '{training.head}', expected {kinds}"
    if training.negatives not in NEGATIVES or (training.negatives != "all" and training.head != "span"):
        yield f"training.negatives: '{training.negatives}', expected all, or for the head span one of {', '.join(NEGATIVES)}"
    for key in ("class_weights", "best_label"):
        if getattr(training, key) and task.kind not in ("multilabel", ""):
            yield f"training.{key}: for multilabel tasks, this one is {task.kind}"
