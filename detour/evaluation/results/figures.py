"""The forest plot: a model minus the baseline on each task, with 95% intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detour.evaluation.metrics import title
from detour.evaluation.results.statistics import Comparison
from detour.plotting import INK, MUTED, OBJECTIVE_COLORS, PAPER, save_figure, truncate


def forest_plot(comparison: Comparison, metrics: dict[str, str], folder: Path) -> list[Path]:
    """Writes ``forest_MODEL.png`` and ``.svg``; see `draw_forest`."""
    paths = [folder / f"forest_{comparison.model}.{kind}" for kind in ("png", "svg")]
    save_figure(lambda: draw_forest(comparison, metrics), *paths)
    return paths


def draw_forest(comparison: Comparison, metrics: dict[str, str]) -> Figure:
    """A point and a t interval for each task, in points, and below them the mean over tasks.

    Filled points differ significantly from zero after Holm's correction; tasks are sorted by difference. An interval that
    exceeds the axis ends in an arrow, labeled with the end of the interval.
    """
    tasks = sorted(comparison.tasks, key=lambda d: d.summary.mean)
    y_K = np.arange(len(tasks)) + 1.0
    means_K = 100 * np.array([d.summary.mean for d in tasks])
    ends_K2 = 100 * np.array([[d.summary.low, d.summary.high] for d in tasks])
    low, mean, high = 100 * comparison.low, 100 * comparison.mean, 100 * comparison.high
    limit = reach(means_K, ends_K2, np.array([low, high]))
    figure = Figure(figsize=(8, 1.6 + 0.32 * len(tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, lw=1, zorder=1)
    axes.set_xlim(-limit, limit)
    for y, difference, at, ends in zip(y_K, tasks, means_K, ends_K2, strict=True):
        color = OBJECTIVE_COLORS[0 if at >= 0 else 1]
        if np.isfinite(ends).all():
            draw_interval(axes, y, ends, limit, color)
        sure = difference.p_holm < 0.05
        axes.plot([at], [y], "o", ms=6, color=color, mfc=color if sure else PAPER, mew=1.4, zorder=3)
    axes.fill([low, mean, high, mean], [0, 0.22, 0, -0.22], color=INK, lw=0, zorder=3)
    axes.axhline(0.5, color=MUTED, lw=0.8)
    labels = [f"{truncate(d.task)} ({title(metrics[d.task])}, n = {d.summary.n})" for d in tasks]
    axes.set_yticks([0.0, *y_K], ["mean over tasks", *labels])
    axes.set_ylim(-0.6, len(tasks) + 0.6)
    axes.grid(axis="y", visible=False)
    cut = (
        "; arrows: the interval ends at the value shown"
        if np.abs(np.nan_to_num(ends_K2)).max(initial=0) > limit
        else ""
    )
    axes.set_xlabel(f"points; 95% intervals, filled where Holm's p is below 0.05{cut}")
    axes.set_title(f"{truncate(comparison.model)} minus {truncate(comparison.baseline)}")
    return figure


def draw_interval(axes: Axes, y: float, ends_2: np.ndarray, limit: float, color: str, *, digits: int = 1) -> None:
    """An interval as a line, clipped to the axis; a clipped end has an arrow and its value."""
    axes.plot(ends_2.clip(-limit, limit), [y, y], color=color, lw=1.6, zorder=2)
    for end, marker, side in zip(ends_2, "<>", ("left", "right"), strict=True):
        if abs(end) > limit:
            at = np.sign(end) * 0.99 * limit
            axes.plot([at], [y], marker, ms=6, color=color, lw=0, zorder=2)
            axes.annotate(
                f"{end:+.{digits}f}", (at, y), (0, 5), textcoords="offset points", ha=side, fontsize=8, color=color
            )


def reach(means_K: np.ndarray, ends_K2: np.ndarray, pooled_2: np.ndarray, *, least: float = 1.0) -> float:
    """Half the range of the axis, at least ``least``. It contains every point, and the interval of the mean over tasks.

    With few seeds, intervals can be a hundred times as wide as the differences; those are clipped.
    """
    shown = np.abs([*means_K, *pooled_2]).max(initial=least)
    widest = np.abs(np.nan_to_num(ends_K2)).max(initial=shown)
    return float(1.05 * min(widest, max(5 * np.abs(means_K).max(), shown)))
