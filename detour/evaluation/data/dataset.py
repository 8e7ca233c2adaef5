"""Loads the examples of a task before any training: splits, limits, label checks, and a hash of the result."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from detour.errors import ConfigError, DataError
from detour.evaluation.data import readers
from detour.evaluation.data.examples import Example, Splits
from detour.evaluation.data.splitting import cut
from detour.evaluation.data.task import Task
from detour.registry import suggestion

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The examples of a task.

    Attributes:
        splits: Examples of train, dev, and test.
        labels: All labels in the order of the model's outputs; empty for similarity. For NER: O, then B-X and I-X of each
            type; for nested NER the types.
        sha256: Hash of examples, splits, and labels. Independent of the file format.
    """

    splits: Splits
    labels: list[str]
    sha256: str

    @property
    def counts(self) -> dict[str, int]:
        """Split -> number of examples."""
        return {split: len(examples) for split, examples in self.splits.items()}


def load_dataset(task: Task, root: Path) -> Dataset:
    """Reads and checks the examples of a task.

    Args:
        task: The task.
        root: Folder that relative paths of the task are resolved against.

    Raises:
        DataError: Data is missing or damaged, a split is missing or empty, an id occurs twice, or a label is not declared
            (if none are declared: does not occur in train).
        ConfigError: `split` would cut a split that the source already has.
    """
    source = readers.build(task.source.kind, task.source.options)
    try:
        splits = cut(_with_top_labels(source.read(root, task.kind), task.top_labels, task.name), task.split)
        declared = task.labels or source.declared_labels(root)
    except DataError as error:
        raise DataError(f"task '{task.name}': {error}{_where_to_get(task, root)}") from error
    except ConfigError as error:
        raise ConfigError(f"task '{task.name}': {error}") from error
    for split in ("train", "dev", "test"):
        if not splits.get(split):
            found = ", ".join(f"{name} ({len(examples)})" for name, examples in splits.items())
            raise DataError(
                f"task '{task.name}': {split} is empty; found {found}. `split.fractions` can cut it from train"
            )
    ids = [example.id for examples in splits.values() for example in examples]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise DataError(f"task '{task.name}': two examples are called '{twice}'")
    for example in (example for examples in splits.values() for example in examples):
        _refuse_lone_surrogates(example, task)
    labels = _labels(task, splits, declared)
    if task.negative_label is not None and task.negative_label not in labels:
        raise DataError(
            f"task '{task.name}': negative_label is '{task.negative_label}'{suggestion(task.negative_label, labels)}, "
            f"expected one of its labels: {', '.join(labels)}"
        )
    splits = {split: _limited(examples, getattr(task.limit, split)) for split, examples in splits.items()}
    return Dataset(splits=splits, labels=labels, sha256=_hash(splits, labels))


def _refuse_lone_surrogates(example: Example, task: Task) -> None:
    """Raises DataError for a lone surrogate, which JSON can express but which cannot be tokenized or written to a file."""
    try:
        "".join((example.id, example.group, *example.parts, *_labels_of(example, task.kind))).encode()
    except UnicodeEncodeError as error:
        character = f"U+{ord(error.object[error.start]):04X}"
        raise DataError(f"task '{task.name}': example {example.id!r} holds a lone surrogate, {character}") from None


def _where_to_get(task: Task, root: Path) -> str:
    """How the task's data is obtained, for an error message: the first sentence of its note; empty if the folder has files."""
    folder = task.source.options.get("path")
    if folder and any(readers.folder_of(root, folder).glob("*")):
        return ""
    if task.credentials:
        return f". It needs credentials: {task.credentials}"
    return f". Of this task: {re.split(r'(?<=[.]) ', task.note)[0]}" if task.note else ""


def _with_top_labels(splits: Splits, count: int, name: str) -> Splits:
    """Only the labels of the most examples, and only examples with one of them; see `Task.top_labels`."""
    if not count:
        return splits
    frequency = Counter(label for examples in splits.values() for example in examples for label in set(example.target))  # type: ignore[arg-type]
    top = set(sorted(frequency, key=lambda label: (-frequency[label], label))[:count])
    kept: Splits = {split: [] for split in splits}
    for split, example in ((split, example) for split, examples in splits.items() for example in examples):
        if target := tuple(sorted(top.intersection(example.target))):  # type: ignore[arg-type]
            kept[split].append(replace(example, target=target))
    left_out = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    if left_out:
        log.info("task '%s': %d examples left out, without one of the top %d labels", name, left_out, count)
    if len(top) < count:
        log.warning("task '%s': the data has %d labels, top_labels asks for %d", name, len(top), count)
    return kept


def _labels(task: Task, splits: Splits, declared: list[str]) -> list[str]:
    """Labels in the order of the model's outputs. Raises DataError for an undeclared label."""
    if task.kind == "similarity":
        return []
    used = {
        split: {label for example in examples for label in _labels_of(example, task.kind)}
        for split, examples in splits.items()
    }
    known = sorted(set().union(*used.values())) if task.top_labels else declared or sorted(used["train"])
    for split, found in used.items():
        if strange := sorted(found - set(known)):
            origin = "declared" if declared else "in train"
            raise DataError(
                f"task '{task.name}': {split} holds the label '{strange[0]}'{suggestion(strange[0], known)}, "
                f"{origin}: {', '.join(known)}"
            )
    if len(known) < (1 if task.kind in ("ner", "nested_ner") else 2):
        raise DataError(f"task '{task.name}': labels are {', '.join(known) or 'none'}, expected more")
    return ["O", *(f"{prefix}-{label}" for label in known for prefix in "BI")] if task.kind == "ner" else known


def _labels_of(example: Example, kind: str) -> Iterable[str]:
    """The label or labels of an example; for NER, its entity types."""
    if kind == "nested_ner":
        return {span.type for span in example.target}  # type: ignore[union-attr]
    if not isinstance(example.target, tuple):
        return [str(example.target)]
    targets = [str(each) for each in example.target]
    return {tag[2:] for tag in targets if tag != "O"} if kind == "ner" else targets


def _limited(examples: list[Example], limit: int) -> list[Example]:
    """At most ``limit`` examples, in their order. The selection depends on ids only, not on the order."""
    if not limit or len(examples) <= limit:
        return examples
    drawn = sorted(examples, key=lambda example: hashlib.sha256(example.id.encode()).digest())[:limit]
    kept = {example.id for example in drawn}
    return [example for example in examples if example.id in kept]


def _hash(splits: Splits, labels: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(labels).encode())
    for split in sorted(splits):
        for example in splits[split]:
            line = [split, example.id, example.parts, example.target]
            digest.update(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
