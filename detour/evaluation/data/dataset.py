"""A task's examples, checked: splits cut, limits kept, labels known, and a hash of it all. Done before any training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detour.errors import ConfigError, DataError
from detour.evaluation.data import readers
from detour.evaluation.data.examples import Example, Splits
from detour.evaluation.data.task import SplitConfig, Task
from detour.registry import suggestion


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a task is trained and tested on.

    Attributes:
        splits: The examples of train, dev and test.
        labels: Every label, in the order of the model's outputs; empty for similarity. For NER, O and then B-X, I-X.
        sha256: Of all examples with their splits and of the labels; not of the files' form.
    """

    splits: Splits
    labels: list[str]
    sha256: str

    @property
    def counts(self) -> dict[str, int]:
        return {split: len(examples) for split, examples in self.splits.items()}


def load_dataset(task: Task, root: Path) -> Dataset:
    """Reads and checks a task's examples.

    Raises:
        DataError: The data is missing or damaged, a split is absent or empty, an id stands twice, or an example holds a
            label that is not among those declared (where none are: that train does not hold).
        ConfigError: The split rule does not fit the splits that are there.
    """
    source = readers.build(task.source.kind, task.source.options)
    try:
        splits = _cut(source.read(root, task.kind), task.split)
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
        _refuse_half_pairs(example, task)
    labels = _labels(task, splits, declared)
    splits = {split: _limited(examples, getattr(task.limit, split)) for split, examples in splits.items()}
    return Dataset(splits=splits, labels=labels, sha256=_hash(splits, labels))


def _refuse_half_pairs(example: Example, task: Task) -> None:
    """JSON may spell half a surrogate pair, which no tokenizer and no file takes. Raises DataError."""
    target = example.target if isinstance(example.target, tuple) else (example.target,)
    try:
        "".join(map(str, (example.id, example.group, *example.parts, *target))).encode()
    except UnicodeEncodeError as error:
        sign = f"U+{ord(error.object[error.start]):04X}"
        raise DataError(f"task '{task.name}': example {example.id!r} holds a lone surrogate, {sign}") from None


def _where_to_get(task: Task, root: Path) -> str:
    """What the description says of data that is not there."""
    folder = task.source.options.get("path")
    if folder and any(readers.folder_of(root, folder).glob("*")):
        return ""
    if task.credentials:
        return f". It needs credentials: {task.credentials}"
    return f". Of this task: {task.note}" if task.note else ""


def _cut(splits: Splits, rule: SplitConfig) -> Splits:
    """Train cut by the shares, groups kept whole; in the order of a draw by the seed."""
    if not rule.fractions:
        return splits
    names = ["train", "dev"] if len(rule.fractions) == 2 else ["train", "dev", "test"]
    if present := [name for name in names[1:] if name in splits]:
        raise ConfigError(
            f"split.fractions would cut {' and '.join(names[1:])} from train, but the source has {present[0]}"
        )
    examples = splits.get("train", [])
    groups = list(dict.fromkeys(example.group or example.id for example in examples))
    order = np.random.default_rng(rule.seed).permutation(len(groups))
    bounds = np.rint(np.cumsum(rule.fractions) * len(groups)).astype(int)
    part_of = {groups[g]: names[int(np.searchsorted(bounds, place, side="right"))] for place, g in enumerate(order)}
    cut: Splits = {name: [] for name in names}
    for example in examples:
        cut[part_of[example.group or example.id]].append(example)
    return {**splits, **cut}


def _labels(task: Task, splits: Splits, declared: list[str]) -> list[str]:
    """The labels of the outputs, in a fixed order. Raises DataError for a label outside the declared ones."""
    if task.kind == "similarity":
        return []
    used = {
        split: {label for example in examples for label in _labels_of(example, task.kind)}
        for split, examples in splits.items()
    }
    known = declared or sorted(used["train"])
    for split, found in used.items():
        if strange := sorted(found - set(known)):
            said = "declared" if declared else "in train"
            raise DataError(
                f"task '{task.name}': {split} holds the label '{strange[0]}'{suggestion(strange[0], known)}, "
                f"{said}: {', '.join(known)}"
            )
    if len(known) < (1 if task.kind == "ner" else 2):
        raise DataError(f"task '{task.name}': labels are {', '.join(known) or 'none'}, expected more")
    return ["O", *(f"{prefix}-{label}" for label in known for prefix in "BI")] if task.kind == "ner" else known


def _labels_of(example: Example, kind: str) -> Iterable[str]:
    """The label, the labels, or for NER the entity types of an example."""
    if not isinstance(example.target, tuple):
        return [str(example.target)]
    return {tag[2:] for tag in example.target if tag != "O"} if kind == "ner" else example.target


def _limited(examples: list[Example], limit: int) -> list[Example]:
    """At most so many, the same ones for whatever order they stand in; in that order."""
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
