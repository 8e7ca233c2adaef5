"""Reads a run's metrics.jsonl, complete or damaged, into columns.

Shape suffix: N training lines, in the order of training.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

EVAL, TRAIN = "loss/eval/", "loss/train/"
EVAL_FOLDER, EVAL_SD = "loss/eval_folder/", "loss/eval_sd/"  # as `detour.training.callbacks.eval_loss` writes them
CHANGE = "measurement"
Points = dict[int, float]  # tokens seen -> value, in increasing order of tokens


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run.

    Attributes:
        columns: Name -> values [N], float64, NaN where a training line lacks the name. The extra column ``before`` holds
            the tokens seen before each batch, the x value of its loss and learning rate.
        evaluations: Objective -> held-out losses.
        by_folder: Objective -> validation folder -> held-out losses; empty if there is one folder.
        spread: Objective -> standard deviations of its held-out losses over mask draws; empty for one draw.
        changes: Tokens seen -> the evaluation settings that changed there, one line per setting.
        notes: Sentences on lines that were skipped.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    evaluations: dict[str, Points] = field(default_factory=dict)
    by_folder: dict[str, dict[str, Points]] = field(default_factory=dict)
    spread: dict[str, Points] = field(default_factory=dict)
    changes: dict[int, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> np.ndarray:
        """Values [N] of a metric; all NaN if it was never recorded."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def trained(self, which_N: np.ndarray) -> list[str]:
        """Names of the objectives whose training loss was recorded in some of the steps."""
        losses = {
            key.removeprefix("loss/train/"): values
            for key, values in self.columns.items()
            if key.startswith("loss/train/")
        }
        return sorted(
            name for name, values_N in losses.items() if name != "total" and np.isfinite(values_N[which_N]).any()
        )

    def __len__(self) -> int:
        return len(self.columns.get("token", ()))

    @property
    def tokens_seen(self) -> int:
        """Tokens seen after the last training line."""
        return int(self.columns["token"][-1]) if len(self) else 0


def read_metrics(path: Path) -> Metrics:
    """Reads a metrics.jsonl.

    Unreadable lines are skipped and noted; a killed process leaves its last line truncated. If a batch is recorded twice
    (the run resumed from an earlier checkpoint), everything recorded since its first occurrence is dropped.

    Raises:
        OSError: The file cannot be read.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    training: list[dict[str, Any]] = []
    series: dict[str, dict[int, tuple[float, Any]]] = {}  # evaluations: name -> tokens -> (batch, value)
    unread, repeated = [], 0
    for number, text in enumerate(lines, start=1):
        line = _parse(text)
        if line is None:
            if text.strip():
                unread.append(number)
            continue
        for name, value in line.items():
            if name.startswith((EVAL, EVAL_FOLDER, EVAL_SD)) or name == CHANGE:
                series.setdefault(name, {})[int(line["token"])] = (line["batch"], value)
        if any(name.startswith(TRAIN) or name == "phase/index" for name in line):
            if training and training[-1]["batch"] >= line["batch"]:
                repeated += _drop_from(line["batch"], training, series)
            training.append(line)
    points = {name: {t: p[t][1] for t in sorted(p)} for name, p in series.items() if p}
    evaluations = {name.removeprefix(EVAL): p for name, p in points.items() if name.startswith(EVAL)}
    return Metrics(
        columns=_columns(training),
        evaluations=evaluations,
        by_folder={name: _inside(f"{EVAL_FOLDER}{name}/", points) for name in evaluations},
        spread={name: points[EVAL_SD + name] for name in evaluations if EVAL_SD + name in points},
        changes=points.get(CHANGE, {}),
        notes=_notes(unread, len(lines), repeated),
    )


def _inside(prefix: str, points: dict[str, Points]) -> dict[str, Points]:
    return {name.removeprefix(prefix): each for name, each in points.items() if name.startswith(prefix)}


def _drop_from(batch: float, training: list[dict[str, Any]], series: dict[str, dict[int, tuple[float, Any]]]) -> int:
    """Removes a batch and everything recorded after it; returns the number of training lines removed."""
    before = len(training)
    while training and training[-1]["batch"] >= batch:
        training.pop()
    for points in series.values():
        for token in [token for token, (at, _) in points.items() if at >= batch]:
            del points[token]
    return before - len(training)


def _parse(text: str) -> dict[str, Any] | None:
    """The numbers of a line and any changes of the evaluation settings; None if the line is not metrics."""
    try:
        values = json.loads(text)
        found: dict[str, Any] = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        for name in ("batch", "token"):
            int(found[name])  # present and finite
        if isinstance(values.get(CHANGE), list):
            found[CHANGE] = [str(line) for line in values[CHANGE]]
    except (ValueError, AttributeError, KeyError, OverflowError, RecursionError):
        return None
    return found


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
        notes.append("The last line of metrics.jsonl is truncated and was skipped.")
        unread = unread[:-1]
    if unread:
        where = ", ".join(map(str, unread[:5])) + (", ..." if len(unread) > 5 else "")
        notes.append(f"Unreadable lines of metrics.jsonl that were skipped: {len(unread)} (line {where}).")
    if repeated:
        notes.append(f"Batches recorded twice in metrics.jsonl: {repeated}; the later values are used.")
    return notes


def smooth(values_N: np.ndarray, span: int) -> np.ndarray:
    """Bias-corrected exponential moving average over about ``span`` values, [N].

    Non-finite values are skipped and are NaN in the result.
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
    """Indices of at most ``limit`` values that draw the same line: the minimum and maximum of each interval."""
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
