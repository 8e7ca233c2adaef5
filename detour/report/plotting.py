"""What the figures of a report share: colors, markers, the clock below, the phases behind, numbers as labels.

Every color that means something is named here, so that a page can exchange it in the SVG (`detour.report.page`).
"""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from detour.plotting import MARKERS, MUTED, OBJECTIVE_COLORS, amount, plain, short
from detour.report.run_history import RunRecord


def color_of(run: RunRecord, objective: str) -> str:
    """The color that an objective has in every figure of a run."""
    return OBJECTIVE_COLORS[_slot(run, objective)]


def prepare(axes: Axes, run: RunRecord, label: str, form: Callable[..., str] | None = None, *, ticks: int = 9) -> None:
    """The clock below, the phases behind."""
    last = run.seen or run.planned or 1
    room = 0.007 if ticks > 5 else 0.015  # for the markers at both ends
    axes.set_xlim(-room * last, (1 + room) * last)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(amount))
    axes.set_xlabel("tokens")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(FuncFormatter(form or plain))
    axes.margins(y=0.08)
    begun = [phase for phase in run.phases if phase.tokens]
    for phase in begun:
        axes.axvspan(phase.start, phase.end, color=color_of(run, phase.objective), alpha=0.07, lw=0, zorder=0)
        if phase is not begun[0]:
            axes.axvline(phase.start, color=MUTED, lw=0.9, zorder=1)


def finish(
    figure: Figure,
    axes: Axes,
    run: RunRecord,
    title: str,
    handles: list[Line2D],
    second: dict[str, str] | None = None,
    *,
    columns: int = 5,
) -> None:
    """Title, names of the phases above the axes in as many rows as they need, legend below the figure."""
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns))
    figure.draw_without_rendering()  # fixes the width of the axes, against which the names are measured
    width_pt = axes.get_window_extent().width * 72 / figure.dpi
    rows: list[float] = []  # where the last name of each row ends
    for phase in run.phases:
        if not phase.tokens:
            continue
        pair = [short(phase.name), short((second or {}).get(phase.name, phase.label))]
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
    axes.text(0.5, 0.5, "nothing recorded yet", transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_yticks([])


def marker_of(run: RunRecord, objective: str) -> str:
    """The marker that an objective has in every figure of a run."""
    return MARKERS[_slot(run, objective)]


def _slot(run: RunRecord, objective: str) -> int:
    """mlm and clm look alike in every run; others take what is left, in their order."""
    known = ["mlm", "clm"]
    if objective in known:
        return known.index(objective)
    others = [name for name in run.objectives if name not in known]
    return len(known) + others.index(objective) % (len(MARKERS) - len(known))
