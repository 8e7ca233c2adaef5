"""The forest plot: a model minus the baseline on each task, with 95% intervals."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detour.evaluation.metrics import title
from detour.evaluation.results.statistics import Comparison
from detour.plotting import INK, MUTED, OBJECTIVE_COLORS, PAPER, STYLE, truncate


def forest_plot(comparison: Comparison, metrics: dict[str, str], folder: Path) -> list[Path]:
    """Writes ``forest_MODEL.png`` and ``.svg``: a point and a t interval a task, below them the mean over tasks.

    Filled points differ from zero after Holm's correction; tasks stand by the size of their difference.
    """
    tasks = sorted(comparison.tasks, key=lambda d: d.summary.mean)
    y_K = np.arange(len(tasks)) + 1.0
    means_K = 100 * np.array([d.summary.mean for d in tasks])
    ends_K2 = 100 * np.array([[d.summary.low, d.summary.high] for d in tasks])
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(8, 1.6 + 0.32 * len(tasks)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, lw=1, zorder=1)
        limit = reach(means_K, ends_K2, 100 * np.array([comparison.low, comparison.high]))
        axes.set_xlim(-limit, limit)
        for y, difference, mean, ends in zip(y_K, tasks, means_K, ends_K2, strict=True):
            color = OBJECTIVE_COLORS[0 if mean >= 0 else 1]
            if np.isfinite(ends).all():
                axes.plot(ends, [y, y], color=color, lw=1.6, zorder=2)
                for end, marker in zip(ends, "<>", strict=True):
                    if abs(end) > limit:
                        at = np.sign(end) * 0.99 * limit
                        axes.plot([at], [y], marker, ms=6, color=color, lw=0, zorder=2)
            sure = difference.p_holm < 0.05
            axes.plot([mean], [y], "o", ms=6, color=color, mfc=color if sure else PAPER, mew=1.4, zorder=3)
        low, mean, high = 100 * comparison.low, 100 * comparison.mean, 100 * comparison.high
        axes.fill([low, mean, high, mean], [0, 0.22, 0, -0.22], color=INK, lw=0, zorder=3)
        axes.axhline(0.5, color=MUTED, lw=0.8)
        labels = [f"{truncate(d.task)} ({title(metrics[d.task])}, n = {d.summary.n})" for d in tasks]
        axes.set_yticks([0.0, *y_K], ["mean over tasks", *labels])
        axes.set_ylim(-0.6, len(tasks) + 0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("points; 95% intervals, filled where Holm's p is below 0.05")
        axes.set_title(f"{truncate(comparison.model)} minus {truncate(comparison.baseline)}")
        paths = [folder / f"forest_{comparison.model}.{kind}" for kind in ("png", "svg")]
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def reach(means_K: np.ndarray, ends_K2: np.ndarray, pooled_2: np.ndarray) -> float:
    """How far the axis goes on either side: every point and the mean's interval are on it.

    Few seeds can give intervals a hundred times the differences; such ones go on beyond the figure, with an arrow.
    """
    shown = np.abs([*means_K, *pooled_2]).max(initial=1.0)
    widest = np.abs(np.nan_to_num(ends_K2)).max(initial=shown)
    return float(1.05 * min(widest, max(5 * np.abs(means_K).max(), shown)))
