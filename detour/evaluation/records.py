"""Validation of a cell's record: the keys that tables and comparisons read. Other keys are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_type_hints

from detour.errors import ConfigError
from detour.evaluation.metrics import MEASURES
from detour.names import fault_of_label, fault_of_name
from detour.options import check, parse

LONGEST_FAULT = 200  # characters; a damaged record may hold anything


@dataclass(frozen=True, kw_only=True)
class _Model:
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Limit:
    train: int
    dev: int
    test: int


@dataclass(frozen=True, kw_only=True)
class _Task:
    name: str
    language: str
    kind: str
    metric: str
    max_length: int
    note: str | None
    limit: _Limit


@dataclass(frozen=True, kw_only=True)
class _Data:
    sha256: str
    counts: dict[str, int]
    labels: list[str]


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    test: dict[str, float]
    validation: dict[str, float]
    epoch: int
    max_length: int
    truncated: dict[str, int]
    unreadable: dict[str, int]
    precision: str
    seconds: float
    degenerate: str | None = None  # records of earlier versions do not say


@dataclass(frozen=True, kw_only=True)
class _Environment:
    detour: str
    commit: str | None


@dataclass(frozen=True, kw_only=True)
class _Record:
    format: Literal[1]
    model: _Model
    task: _Task
    data: _Data
    seed: int
    outcome: _Outcome
    environment: _Environment


def fault_of_record(value: Any) -> str | None:
    """Describes the first problem of a JSON value as a cell's record, naming its key; None if the record is valid."""
    known = _known_keys(_Record, value)
    if problems := check(_Record, known):
        return problems[0][:LONGEST_FAULT]
    try:
        record = parse(_Record, known)
    except (ConfigError, OverflowError) as error:  # an integer score beyond the range of a float
        return str(error)[:LONGEST_FAULT]
    return _fault_of_number(record) or _fault_of_content(record)


def _known_keys(cls: Any, value: Any) -> Any:
    """The value without the keys that the dataclass does not declare, at every level."""
    if not isinstance(value, Mapping):
        return value
    hints = get_type_hints(cls)
    return {
        key: _known_keys(hints[key], item) if is_dataclass(hints[key]) else item
        for key, item in value.items()
        if key in hints
    }


def _fault_of_number(value: Any, key: str = "") -> str | None:
    """The first negative count or non-finite number, at any depth."""
    if is_dataclass(value):
        items = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, dict):
        items = value
    elif isinstance(value, int) and value < 0:
        return f"{key}: {value}, expected at least 0"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"{key}: {value}, expected a finite number"
    else:
        return None
    faults = (_fault_of_number(item, f"{key}.{name}" if key else str(name)) for name, item in items.items())
    return next(filter(None, faults), None)


def _fault_of_content(record: _Record) -> str | None:
    """The first name, score or count that contradicts the rest of the record."""
    metric = record.task.metric
    if fault := fault_of_name(record.model.name):
        return f"model.name: {record.model.name[:60]!r} {fault}"
    if fault := fault_of_name(record.task.name):
        return f"task.name: {record.task.name[:60]!r} {fault}"
    if fault := fault_of_label(record.task.language):
        return f"task.language: {record.task.language[:60]!r} {fault}"
    if metric not in MEASURES.get(record.task.kind, ()):
        return f"task.metric: {metric[:60]!r} is not a metric of the kind {record.task.kind[:60]!r}"
    for key, scores in (("test", record.outcome.test), ("validation", record.outcome.validation)):
        if metric not in scores:
            return f"outcome.{key}: missing the metric {metric!r}"
        if not -1 <= scores[metric] <= 1:
            return f"outcome.{key}.{metric}: {scores[metric]}, expected a score from -1 to 1"
    if absent := [split for split in ("train", "dev", "test") if split not in record.data.counts]:
        return f"data.counts: missing the split {absent[0]!r}"
    if unknown := (record.outcome.truncated.keys() | record.outcome.unreadable.keys()) - record.data.counts.keys():
        return f"outcome: counts the split {min(unknown)[:60]!r}, which is not in data.counts"
    return None
