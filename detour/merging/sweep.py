"""The curve of an interpolation between two models: held-out losses and probes at points from the first to the second."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from detour.errors import ConfigError
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.task import Task
from detour.evaluation.models import Model
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.held_out_sets import HeldOutSet
from detour.evaluation.probes.masked_lm import RowLosses
from detour.evaluation.probes.task_probes import linear_probe
from detour.evaluation.results.token_means import loss_change
from detour.merging.folders import load_parents, write_merged
from detour.merging.recipe import Method, Recipe
from detour.plotting import MARKERS, OBJECTIVE_COLORS

log = logging.getLogger(__name__)
LOSS = "masked_loss"


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One value at one point of the interpolation.

    Attributes:
        t: Weight of the second model: 0 is the first one, 1 the second.
        data: Name of the held-out set or of the task.
        metric: "masked_loss" in nats per token, or the metric of the task.
        value: The loss, or the score of a linear probe.
        change: Value minus that at t = 0.
        low: Lower end of the 95% interval of the change, over documents and paired by token; NaN for probes.
        high: Its upper end.
    """

    t: float
    data: str
    metric: str
    value: float
    change: float
    low: float
    high: float


def sweep(
    start: Model,
    end: Model,
    points: Sequence[float],
    sets: Sequence[HeldOutSet],
    *,
    tasks: Mapping[str, tuple[Task, Dataset]] | None = None,
    method: Method = "linear",
    window: int = 512,
    tokens: int = 200_000,
) -> list[SweepRow]:
    """Merges two models at every point, and measures each merge.

    Args:
        start: The model at t = 0.
        end: The model at t = 1.
        points: Values of t in ascending order, the first 0.
        sets: Held-out texts.
        tasks: Tasks for linear probes on frozen states, by name.
        method: "linear" or "slerp".
        window: Tokens per text window.
        tokens: Documents of a set are read until this many tokens are reached.

    Raises:
        ConfigError: Points out of order, another method, or neither sets nor tasks.
        ModelError: The models differ in more than their weights.

    Cost: per point one folder on disk, which is removed again, and the forward passes.
    """
    if method not in ("linear", "slerp"):
        raise ConfigError(f"method: '{method}', expected linear or slerp")
    if not points or points[0] != 0 or list(points) != sorted(set(points)) or points[-1] > 1:
        raise ConfigError(f"points: {list(points)}, expected ascending numbers from 0 to at most 1, beginning with 0")
    if not sets and not tasks:
        raise ConfigError("sweep: no held-out texts and no tasks, expected at least one of them")
    parents, rows = load_parents([start, end]), []
    first_losses: dict[str, RowLosses] = {}
    first_scores: dict[str, float] = {}
    for t in points:
        log.info("t = %g", t)
        with tempfile.TemporaryDirectory(prefix="detour-sweep-") as scratch:
            folder = Path(scratch) / "merged"
            write_merged(folder, parents, Recipe(method=method, weights=(1 - t, t)))
            losses, scores = _measure(folder, sets, tasks or {}, window=window, tokens=tokens)
        for name, found in losses.items():
            change = loss_change(first_losses.setdefault(name, found), found)
            ends = {"change": change.mean, "low": change.low, "high": change.high}
            rows.append(SweepRow(t=t, data=name, metric=LOSS, value=found.loss, **ends))
        for name, (metric, score) in scores.items():
            ends = {"change": score - first_scores.setdefault(name, score), "low": math.nan, "high": math.nan}
            rows.append(SweepRow(t=t, data=name, metric=metric, value=score, **ends))
    return rows


def _measure(
    folder: Path, sets: Sequence[HeldOutSet], tasks: Mapping[str, tuple[Task, Dataset]], *, window: int, tokens: int
) -> tuple[dict[str, RowLosses], dict[str, tuple[str, float]]]:
    """The losses of each set, and metric and score of each task."""
    losses, scores = {}, {}
    if sets:
        encoder = Frozen(folder, masked_lm=True)
        losses = {each.name: each.losses(encoder, window=window, tokens=tokens) for each in sets}
    if tasks:
        encoder = Frozen(folder)
        for name, (task, dataset) in tasks.items():
            scores[name] = (task.metric, linear_probe(encoder, task, dataset).scores[task.metric])
    return losses, scores


def draw_sweep(rows: Sequence[SweepRow], names: tuple[str, str]) -> Figure:
    """Change of each held-out loss since t = 0, with bands of 95%; below, where there are tasks, the probes' scores."""
    losses = [row for row in rows if row.metric == LOSS]
    probes = [row for row in rows if row.metric != LOSS]
    panels: list[tuple[list[SweepRow], str]] = [
        (part, label)
        for part, label in (
            (losses, "change of the held-out loss\n(nats per masked token)"),
            (probes, "linear probe, test score"),
        )
        if part
    ]
    figure = Figure(figsize=(8, 3.4 * len(panels) + 0.4), layout="constrained")
    for index, (part, label) in enumerate(panels):
        axes: Any = figure.add_subplot(len(panels), 1, index + 1)
        for number, data in enumerate(dict.fromkeys(row.data for row in part)):
            own = [row for row in part if row.data == data]
            color, marker = (cycle[number % len(cycle)] for cycle in (OBJECTIVE_COLORS, MARKERS))
            x = [row.t for row in own]
            changes = part is losses
            name = data if changes else f"{data} ({own[0].metric})"
            axes.plot(
                x, [row.change if changes else row.value for row in own], color=color, marker=marker, ms=4, label=name
            )
            if changes:
                axes.fill_between(x, [row.low for row in own], [row.high for row in own], color=color, alpha=0.18, lw=0)
        axes.set_ylabel(label)
        axes.legend()
    figure.axes[0].set_title(f"From {names[0]} to {names[1]}")
    figure.axes[-1].set_xlabel(f"weight of {names[1]}")
    return figure
