"""Colors, matplotlib style and file formats shared by all figures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def save_figure(draw: Callable[[], Figure], png: Path, svg: Path) -> str:
    """Draws a figure in the common style and writes it as PNG and SVG, both atomically; returns the SVG.

    The SVG is deterministic and names fallbacks for its font, which browsers may lack.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from detour.files import atomic_write, write_text

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script missing from the font
        figure = draw()
        FigureCanvasAgg(figure)
        settle_layout(figure)
        figure.set_layout_engine(None)  # else each file is laid out again, by a draw of its own
        with atomic_write(png) as file:
            figure.savefig(file, format="png", dpi=150)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    found = text.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    write_text(svg, found)
    return found


def settle_layout(figure: Figure) -> None:
    """Runs the figure's layout engine, without drawing. Cost: about that of a draw."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def truncate(name: str, limit: int = 24) -> str:
    """A name on one printable line of at most ``limit`` characters."""
    line = "".join(c if c.isprintable() else " " for c in name)
    return line if len(line) <= limit else line[: limit - 1] + "…"
