"""The forest plot of two arms: the difference of each training seed, and the interval over seeds, on each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detour.evaluation.metrics import title
from detour.evaluation.results.figures import draw_interval, reach
from detour.evaluation.results.levels import ArmComparison
from detour.evaluation.results.verdicts import Verdict
from detour.plotting import INK, MUTED, OBJECTIVE_COLORS, PAPER, save_figure, truncate


def arms_plot(
    comparison: ArmComparison, folder: Path, name: str, metrics: Mapping[str, str] | None = None
) -> list[Path]:
    """Writes ``NAME.png`` and ``NAME.svg``; see `draw_arms`."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    save_figure(lambda: draw_arms(comparison, metrics), *paths)
    return paths


def draw_arms(comparison: ArmComparison, metrics: Mapping[str, str] | None = None) -> Figure:
    """For each task, and for the mean over tasks in the lowest row: the mean, its 95% interval, and one tick per seed.

    A filled point is better or worse by the verdict. The band is the margin of equivalence. Tasks are sorted by their
    difference. An interval that ends beyond the axis has an arrow there and the value of its end.

    Args:
        metrics: By task; given, they are named beside the tasks.
    """
    factor, digits = comparison.scale.factor, comparison.scale.digits
    rows = [comparison.overall, *sorted(comparison.tasks, key=lambda t: t.summary.mean)]
    y_R = np.array([0.0, *(1 + k for k in range(len(comparison.tasks)))])
    means_R = factor * np.array([row.summary.mean for row in rows])
    ends_R2 = factor * np.array([[row.summary.low, row.summary.high] for row in rows])
    seeds_R = [factor * np.array(list(row.by_seed.values())) for row in rows]
    limit = reach(means_R, ends_R2, np.concatenate([*seeds_R, [comparison.margin or 0.0]]), least=2 * 10.0**-digits)
    figure = Figure(figsize=(8, 1.6 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if comparison.margin is not None:
        axes.axvspan(-comparison.margin, comparison.margin, color=MUTED, alpha=0.15, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    axes.set_xlim(-limit, limit)
    for y, row, mean, ends, seeds in zip(y_R, rows, means_R, ends_R2, seeds_R, strict=True):
        color = INK if y == 0 else OBJECTIVE_COLORS[0 if mean >= 0 else 1]
        if np.isfinite(ends).all():
            draw_interval(axes, y, ends, limit, color, digits=digits)
        axes.plot(seeds, np.full(len(seeds), y - 0.18), "|", ms=7, color=MUTED, mew=1.4, zorder=2)
        sure = row.verdict in (Verdict.BETTER, Verdict.WORSE)
        marker = "D" if y == 0 else "o"
        axes.plot([mean], [y], marker, ms=6, color=color, mfc=color if sure else PAPER, mew=1.4, zorder=3)
    axes.axhline(0.5, color=MUTED, lw=0.8)
    known = metrics or {}
    names = {row.name: f" ({title(known[row.name])})" if row.name in known else "" for row in rows}
    axes.set_yticks(y_R, [truncate(name) + metric for name, metric in names.items()])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    n = comparison.overall.summary.n
    band = "" if comparison.margin is None else "; band: margin of equivalence"
    marks = f"{comparison.scale.unit}; ticks: {n} {comparison.basis}; lines: 95% intervals over them"
    axes.set_xlabel(f"{marks}\nfilled: better or worse{band}")
    axes.set_title(f"{truncate(comparison.arm)} minus {truncate(comparison.baseline)}")
    return figure
