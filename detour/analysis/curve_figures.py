"""Figures of the curves in `detour.analysis.curves`, with the paper's values behind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from detour.analysis import paper
from detour.analysis.curves import Accuracy, DecayPoint, FreezeRow
from detour.evaluation.probes.needle import POSITIONS
from detour.plotting import INK, MARKERS, MUTED, OBJECTIVE_COLORS, PAPER, truncate


def draw_needle(found: Sequence[Accuracy], *, chance: float = 1 / 8, with_paper: bool = True) -> Figure:
    """Accuracy in percent by length and by place, with 95% Wilson intervals.

    The needle probe retrieves one of eight values; the presence probe, as the paper's, is a yes-no question (chance 1/2).
    """
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    by_length, by_place = figure.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(point.model for point in found))
    for axes, by in ((by_length, "length"), (by_place, "place")):
        for model, color, marker in zip(models, cycle(OBJECTIVE_COLORS), cycle(MARKERS), strict=False):
            mine = [point for point in found if (point.model, point.by) == (model, by)]
            x = [point.at if by == "length" else POSITIONS.index(str(point.at)) for point in mine]
            y = 100 * np.array([point.accuracy for point in mine])
            ends = 100 * np.array([[point.low, point.high] for point in mine]).T
            spread = np.abs(ends - y)
            axes.errorbar(x, y, spread, color=color, marker=marker, ms=5, lw=1.6, capsize=2.5, label=truncate(model))
        axes.axhline(100 * chance, color=INK, lw=1, ls=(0, (1, 2)), label=f"chance (one in {1 / chance:.0f})")
    if with_paper:
        published = paper.figures()["needle"]
        for key, style, name in (("clm_detour", "--", "detour"), ("mlm", ":", "MLM")):
            lengths, places = published[key]["by_length"], published[key]["by_position"]
            what = f"{name}, binary, chance 50%"
            paper.draw_behind(by_length, [int(at) for at in lengths], list(lengths.values()), what, style)
            paper.draw_behind(by_place, range(len(POSITIONS)), [places[place] for place in POSITIONS], what, style)
    by_length.set_xscale("log", base=2)
    ticks = sorted(
        {int(line) for axes_line in by_length.lines for line in np.atleast_1d(axes_line.get_xdata()) if line > 1}
    )
    by_length.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    by_length.minorticks_off()
    by_length.set_xlabel("tokens")
    by_length.set_ylabel("accuracy, %")
    by_place.set_xticks(range(len(POSITIONS)), POSITIONS)
    by_place.set_xlabel("place of the fact")
    by_length.set_ylim(0, 100)
    figure.legend(*by_length.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_decay(points: Sequence[DecayPoint], *, with_paper: bool = True) -> Figure:
    """Mean score over the decay fraction in percent, with 95% t intervals over fine-tuning seeds."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.add_subplot()
    arms = list(dict.fromkeys(point.arm for point in points))
    for arm, color, marker in zip(arms, cycle(OBJECTIVE_COLORS), cycle(MARKERS), strict=False):
        mine = [point for point in points if point.arm == arm]
        x, y = [100 * point.fraction for point in mine], np.array([point.score.mean for point in mine])
        ends = np.array([[point.score.low, point.score.high] for point in mine]).T
        axes.errorbar(
            x, y, np.abs(ends - y), color=color, marker=marker, ms=5, lw=1.6, capsize=2.5, label=truncate(arm)
        )
    if with_paper:
        sweep = paper.figures()["decay_sweep"]
        for size in ("base_10B", "large_25B"):
            for arm, style in (("clm", "--"), ("mlm", ":")):
                what = f"{size.replace('_', ' ')}, {arm.upper()}"
                paper.draw_behind(axes, sweep[size]["decay_percent"], sweep[size][arm], what, style)
    axes.set_xlabel("decay tokens, % of the phase before")
    axes.set_ylabel("mean score over tasks, points")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_freeze(rows: Sequence[FreezeRow], *, with_paper: bool = True) -> Figure:
    """Fraction of the detour's gain that each model keeps: 0 is the twin and 1 the detour; the paper's below in gray."""
    published = paper.figures()["freeze"]
    names = {"low_0_7_in_clm": "layers 0-7 frozen in CLM", "mid_8_14_in_clm": "layers 8-14 frozen in CLM",
             "low_0_7_in_decay": "layers 0-7 frozen in the decay"}  # fmt: skip
    gain = published["clm_detour"] - published["mlm_twin"]
    theirs = {f"paper, {name}": (published[key] - published["mlm_twin"]) / gain for key, name in names.items()}
    ours = {f"{truncate(row.model)} ({row.score.mean:.1f})": row.kept for row in rows}
    figure = Figure(figsize=(9, 1.4 + 0.35 * (len(ours) + len(theirs) * with_paper)), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(list(ours.values()), range(len(ours)), "o", color=OBJECTIVE_COLORS[0], label="ours")
    labels = list(ours)
    if with_paper:
        at = range(len(ours), len(ours) + len(theirs))
        label = "paper (other model and data)"
        axes.plot(list(theirs.values()), at, "s", color=MUTED, mfc=PAPER, zorder=1.5, label=label)
        labels += list(theirs)
    for x in (0, 1):
        axes.axvline(x, color=INK, lw=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("fraction of the detour's gain over its twin")
    axes.legend(fontsize=8)
    return figure
