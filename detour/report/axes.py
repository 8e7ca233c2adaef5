"""Shared parts of the figures of a report: colors and markers of objectives, axes over tokens, names of phases.

All colors come from `detour.plotting`, so that `detour.report.page` can replace them by CSS variables.
"""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from detour.plotting import MARKERS, MUTED, OBJECTIVE_COLORS, settle_layout, truncate
from detour.report.run_history import RunHistory
from detour.units import short

LEGEND_CHARACTERS = 130  # of a row of the legend


def color_of(run: RunHistory, objective: str) -> str:
    """Color of an objective in all figures of a run."""
    return OBJECTIVE_COLORS[_slot(run, objective)]


def ticks(form: Callable[[float], str]) -> FuncFormatter:
    """Tick labels by a function of the value."""
    return FuncFormatter(lambda value, _: form(value))


def plain(value: float) -> str:
    """A number with four significant digits."""
    return f"{value:.4g}"


def prepare(
    axes: Axes, run: RunHistory, label: str, form: Callable[[float], str] = plain, *, most_ticks: int = 9
) -> None:
    """Sets up axes over tokens, with the phases as shaded spans.

    Args:
        axes: Empty axes.
        run: The run.
        label: Label of the y axis.
        form: Format of the y tick labels.
        most_ticks: Upper bound on the ticks of the x axis.
    """
    last = run.seen or run.planned or 1
    room = 0.007 if most_ticks > 5 else 0.015  # for the markers at both ends
    axes.set_xlim(-room * last, (1 + room) * last)
    axes.xaxis.set_major_locator(MaxNLocator(most_ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(ticks(lambda value: short(value, 4)))
    axes.set_xlabel("tokens")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(ticks(form))
    axes.margins(y=0.08)
    begun = [phase for phase in run.phases if phase.tokens]
    for phase in begun:
        axes.axvspan(phase.start, phase.end, color=color_of(run, phase.objective), alpha=0.07, lw=0, zorder=0)
        if phase is not begun[0]:
            axes.axvline(phase.start, color=MUTED, lw=0.9, zorder=1)


def finish(
    figure: Figure,
    axes: Axes,
    run: RunHistory,
    title: str,
    handles: list[Line2D],
    second: dict[str, str] | None = None,
    *,
    columns: int = 5,
) -> None:
    """Adds the title, the names of the phases above the axes, and the legend below the figure.

    Names that would overlap go into further rows. ``second`` replaces the line below a phase's name.
    """
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, min(len(handles), columns, LEGEND_CHARACTERS // (longest + 6)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    settle_layout(figure)  # fixes the width of the axes
    width_pt = axes.get_window_extent().width * 72 / figure.dpi
    rows: list[float] = []  # where the last name of each row ends
    for phase in run.phases:
        if not phase.tokens:
            continue
        pair = [truncate(phase.name), truncate((second or {}).get(phase.name, phase.label))]
        lines = [
            axes.annotate(
                line, xy=(0, 1), xycoords="axes fraction", xytext=(0, 0), textcoords="offset points", ha="center",
                va="baseline", annotation_clip=False, fontsize=9, color=color_of(run, phase.objective), fontweight=weight,
            )
            for line, weight in zip(pair, ["bold", "normal"], strict=True)
        ]  # fmt: skip
        half = max(line.get_window_extent().width for line in lines) * 36 / figure.dpi
        span = axes.viewLim.width or 1
        middle = width_pt * ((phase.start + phase.end) / 2 - axes.viewLim.x0) / span
        middle = min(max(middle, half), width_pt - half)
        row = next((i for i, end in enumerate(rows) if end + 6 <= middle - half), len(rows))
        rows[row : row + 1] = [middle + half]
        for line, height in zip(lines, [20, 8], strict=True):
            line.xyann = (middle, height + 27 * row)
    axes.set_title(title, pad=10 + 27 * len(rows))
    figure.set_figheight(figure.get_figheight() + 27 / 72 * max(0, len(rows) - 1))


def nothing_yet(axes: Axes) -> None:
    """Marks axes without data."""
    axes.text(0.5, 0.5, "nothing recorded yet", transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_yticks([])


def marker_of(run: RunHistory, objective: str) -> str:
    """Marker of an objective in all figures of a run."""
    return MARKERS[_slot(run, objective)]


def _slot(run: RunHistory, objective: str) -> int:
    """Index into colors and markers: 0 for mlm and 1 for clm in every run, the others in order."""
    known = ["mlm", "clm"]
    if objective in known:
        return known.index(objective)
    others = [name for name in run.objectives if name not in known]
    return len(known) + others.index(objective) % (len(MARKERS) - len(known))
