"""A run's metrics.jsonl as columns of numbers, whatever state the file was left in.

Shape suffix: N training lines, in the order they were trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

EVAL, TRAIN = "loss/eval/", "loss/train/"


@dataclass(frozen=True)
class Metrics:
    """What was recorded.

    Attributes:
        columns: Name to values [N], float64, NaN where a training line lacks the name. Besides the recorded names:
            ``before``, the tokens seen before the batch, which is where its loss and rate belong on the clock.
        evaluations: Objective to {tokens seen: held-out loss}, in the order of the clock.
        notes: What had to be passed over, a sentence each.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    evaluations: dict[str, dict[int, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> np.ndarray:
        """The values of a name; NaN throughout if it was never recorded."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def __len__(self) -> int:
        return len(self.columns.get("token", ()))

    @property
    def tokens_seen(self) -> int:
        """Tokens behind the last training line."""
        return int(self.columns["token"][-1]) if len(self) else 0


def read_metrics(path: Path) -> Metrics:
    """Reads a metrics.jsonl. A line that a killed process left half-written is passed over.

    A batch that comes twice (a run continued without its later lines being dropped) counts the second time only, and
    whatever was recorded after its first time is dropped.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    training: list[dict[str, Any]] = []
    evaluations: dict[str, dict[int, tuple[float, float]]] = {}
    unread, repeated = [], 0
    for number, text in enumerate(lines, start=1):
        line = _parse(text)
        if line is None:
            if text.strip():
                unread.append(number)
            continue
        held_out = {name.removeprefix(EVAL): value for name, value in line.items() if name.startswith(EVAL)}
        for name, value in held_out.items():
            evaluations.setdefault(name, {})[int(line["token"])] = (line["batch"], value)
        if any(name.startswith(TRAIN) or name == "phase/index" for name in line):
            if training and training[-1]["batch"] >= line["batch"]:
                repeated += _drop_from(line["batch"], training, evaluations)
            training.append(line)
    return Metrics(
        columns=_columns(training),
        evaluations={name: {t: p[t][1] for t in sorted(p)} for name, p in evaluations.items() if p},
        notes=_notes(unread, len(lines), repeated),
    )


def _drop_from(
    batch: float, training: list[dict[str, Any]], evaluations: dict[str, dict[int, tuple[float, float]]]
) -> int:
    """Removes what was recorded of a batch and of all after it; the number of training lines removed."""
    before = len(training)
    while training and training[-1]["batch"] >= batch:
        training.pop()
    for points in evaluations.values():
        for token in [token for token, (at, _) in points.items() if at >= batch]:
            del points[token]
    return before - len(training)


def _parse(text: str) -> dict[str, float] | None:
    """The numbers of a line; None if it is not a line of metrics."""
    try:
        values = json.loads(text)
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        for name in ("batch", "token"):
            int(numbers[name])  # present and finite
    except (ValueError, AttributeError, KeyError, OverflowError, RecursionError):
        return None
    return numbers


def _columns(training: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    if not training:
        return {}
    names = {name: None for line in training for name in line}
    columns = {name: np.array([line.get(name, np.nan) for line in training], dtype=np.float64) for name in names}
    first = 0.0 if columns["batch"][0] == 1 else columns["token"][0]
    columns["before"] = np.concatenate([[first], columns["token"][:-1]])
    return columns


def _notes(unread: list[int], count: int, repeated: int) -> list[str]:
    notes = []
    if unread and unread[-1] == count:
        notes.append("The last line of metrics.jsonl is half-written and was passed over.")
        unread = unread[:-1]
    if unread:
        where = ", ".join(map(str, unread[:5])) + (", ..." if len(unread) > 5 else "")
        notes.append(
            f"Lines of metrics.jsonl that could not be read and were passed over: {len(unread)} (line {where})."
        )
    if repeated:
        notes.append(f"Batches recorded twice in metrics.jsonl: {repeated}; the later record counts.")
    return notes


def smooth(values_N: np.ndarray, span: int) -> np.ndarray:
    """Exponential moving average over about ``span`` values, without the pull towards 0 at its start.

    Values that are not finite are skipped, and stay NaN in the result.
    """
    keep = 1 - 2 / (span + 1)
    out_N = np.full(len(values_N), np.nan)
    total = weight = 0.0
    for index in np.flatnonzero(np.isfinite(values_N)):
        total = keep * total + (1 - keep) * values_N[index]
        weight = keep * weight + (1 - keep)
        out_N[index] = total / weight
    return out_N


def thin(values_N: np.ndarray, limit: int) -> np.ndarray:
    """Indices of at most ``limit`` values that draw the same line: the lowest and the highest of each stretch."""
    count = len(values_N)
    if count <= limit:
        return np.arange(count)
    chosen = {0, count - 1}
    edges = np.linspace(0, count, max(2, (limit - 2) // 2) + 1).astype(int)
    for low, high in pairwise(edges):
        finite = low + np.flatnonzero(np.isfinite(values_N[low:high]))
        if len(finite):
            chosen |= {int(finite[values_N[finite].argmin()]), int(finite[values_N[finite].argmax()])}
        else:
            chosen.add(int(low))  # keeps the gap
    return np.array(sorted(chosen))
