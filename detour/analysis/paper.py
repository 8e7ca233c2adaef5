"""Curves of the paper (arXiv 2605.12438), drawn behind ours for reference; model, data and budgets differ."""

from __future__ import annotations

from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from detour.evaluation.results.published import load_claims
from detour.plotting import MUTED

LAYERS = 22  # of ModernCamemBERT base
STYLES = ("--", ":")


@cache
def figures() -> dict[str, Any]:
    """The published curves by figure (`curves` in detour/evaluation/results/claims.yaml)."""
    return load_claims().curves


def draw_behind(axes: Axes, x: Any, y: Any, what: str, style: str = STYLES[0]) -> Line2D:
    """A gray line behind all others, labeled as the paper's."""
    (line,) = axes.plot(x, y, color=MUTED, lw=1.2, ls=style, zorder=1.5, label=f"paper, {what} (other model and data)")
    return line


def layer_positions(layers: int) -> list[float]:
    """Where the paper's 22 layers lie on an axis of ``layers`` layers, at the same relative depth (centers of layers)."""
    return [(i + 0.5) * layers / LAYERS - 0.5 for i in range(LAYERS)]
