"""The look of every figure: colors, style, and numbers as axis labels."""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dde3", "#fefefe"
# told apart with any color vision (Okabe & Ito 2008), and by marker in print
OBJECTIVE_COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#737373"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "text.parse_math": False,  # names may hold a dollar sign
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
    "svg.hashsalt": "detour",  # the same run gives the same file
}


def short(name: str, limit: int = 24) -> str:
    """A name that fits into a figure: one line, printable."""
    line = "".join(c if c.isprintable() else " " for c in name)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def amount(value: float, _: object = None, *, digits: int = 4) -> str:
    """1500 -> 1.5k, 2e9 -> 2B."""
    for size, unit in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")]:
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{unit}"
    return f"{value:.3g}"


def plain(value: float, _: object = None) -> str:
    return f"{value:.4g}"


def scientific(value: float, _: object = None) -> str:
    """0.0002 -> 2e-4, as a configuration writes it."""
    if not value:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
