"""Colors and matplotlib style shared by all figures."""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dde3", "#fefefe"
# color-blind safe (Okabe & Ito 2008); markers distinguish the objectives in print
OBJECTIVE_COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#737373"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
STYLE = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib
    "font.size": 10,
    "text.parse_math": False,  # names may contain a dollar sign
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "detour",  # deterministic files
}


def truncate(name: str, limit: int = 24) -> str:
    """A name on one printable line of at most ``limit`` characters."""
    line = "".join(c if c.isprintable() else " " for c in name)
    return line if len(line) <= limit else line[: limit - 1] + "…"
