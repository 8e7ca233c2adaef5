"""The shape of a cell's record: what tables and comparisons read of it. Further keys are let be."""

from __future__ import annotations

from typing import Any, Literal

# pydantic reads these annotations at run time, on Python 3.10 too
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, ValidationError

from detour.evaluation.metrics import MEASURES
from detour.names import fault_of_label, fault_of_name


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class _Model(_Part):
    name: str
    sha256: str


class _Limit(_Part):
    train: int
    dev: int
    test: int


class _Task(_Part):
    name: str
    language: str
    kind: str
    metric: str
    max_length: int
    note: str | None
    limit: _Limit


class _Data(_Part):
    sha256: str
    counts: dict[str, NonNegativeInt]
    labels: list[str]


class _Outcome(_Part):
    test: dict[str, FiniteFloat]
    validation: dict[str, FiniteFloat]
    epoch: int
    max_length: int
    truncated: dict[str, NonNegativeInt]
    unreadable: dict[str, NonNegativeInt]
    precision: str
    seconds: FiniteFloat


class _Environment(_Part):
    detour: str
    commit: str | None


class _Record(_Part):
    format: Literal[1]
    model: _Model
    task: _Task
    data: _Data
    seed: NonNegativeInt
    outcome: _Outcome
    environment: _Environment


def fault_of_record(value: Any) -> str | None:
    """What keeps a JSON value from being a cell's record, naming the key, what was found and expected; None if nothing."""
    try:
        record = _Record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        found = "" if first["type"] == "missing" else f"{str(first['input'])[:60]!r}: "
        return f"{key}: {found}{first['msg']}"
    metric, splits = record.task.metric, ("train", "dev", "test")
    if fault := fault_of_name(record.model.name):
        return f"model.name: {record.model.name[:60]!r} {fault}"
    if fault := fault_of_name(record.task.name):
        return f"task.name: {record.task.name[:60]!r} {fault}"
    if fault := fault_of_label(record.task.language):
        return f"task.language: {record.task.language[:60]!r} {fault}"
    if metric not in MEASURES.get(record.task.kind, ()):
        return f"task.metric: {metric[:60]!r} is no metric of the kind {record.task.kind[:60]!r}"
    for key, scores in (("test", record.outcome.test), ("validation", record.outcome.validation)):
        if metric not in scores:
            return f"outcome.{key}: no {metric!r} in it"
        if not -1 <= scores[metric] <= 1:
            return f"outcome.{key}.{metric}: {scores[metric]}, expected a score from -1 to 1"
    if absent := [split for split in splits if split not in record.data.counts]:
        return f"data.counts: no {absent[0]!r} in it"
    if strange := (record.outcome.truncated.keys() | record.outcome.unreadable.keys()) - record.data.counts.keys():
        return f"outcome: counts of the split {min(strange)[:60]!r}, which data.counts has not"
    return None
