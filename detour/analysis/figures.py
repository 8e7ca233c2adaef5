"""Figures of similarity and weight change. Each function returns a figure; `detour.analysis.output` saves it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from detour.analysis import paper
from detour.analysis.cka import Estimator
from detour.analysis.representations import EMBEDDINGS, FINAL
from detour.analysis.similarity import Pair, Similarity
from detour.analysis.weights import Change
from detour.plotting import INK, MARKERS, MUTED, OBJECTIVE_COLORS, truncate

STYLES: dict[tuple[Estimator, str], str] = {
    ("unbiased", "kept"): "-",
    ("biased", "kept"): "--",
    ("unbiased", "removed"): ":",
}


def draw_similarity(result: Similarity, *, with_paper: bool = True) -> Figure:
    """Divergence of each layer above; below, where there are noise pairs, its ratio to theirs.

    Solid lines are the unbiased estimator, dashed lines the biased one, dotted lines the unbiased one without outlier
    dimensions. Bars are the standard deviation over subset draws. The paper's curves are biased; models of another depth
    than its 22 layers have them at the same relative depth.
    """
    layers = [depth for depth in result.depths if depth not in (EMBEDDINGS, FINAL, "mean")]
    x_D = {EMBEDDINGS: -1, **{depth: int(depth) for depth in layers}, FINAL: len(layers)}
    figure = Figure(figsize=(11, 7.4 if result.noise else 4.4), layout="constrained")
    axes = figure.add_subplot(2 if result.noise else 1, 1, 1)
    for pair, color, marker in zip(
        [*result.pairs, *result.noise], cycle(OBJECTIVE_COLORS), cycle(MARKERS), strict=False
    ):
        _lines(axes, result, pair, x_D, color, marker)
    at, published = paper.layer_positions(len(layers)), paper.figures()["cka"]
    if with_paper:
        paper.draw_behind(axes, at, published["clm_against_mlm"], "CLM against MLM, biased")
        paper.draw_behind(axes, at, published["mlm_seed_17_against_42"], "two MLM seeds, biased", paper.STYLES[1])
    _depth_axis(axes, x_D, "divergence, 100 (1 - CKA)")
    axes.set_title("Divergence of pooled states per layer")
    if result.noise:
        below = figure.add_subplot(2, 1, 2)
        for pair, color, marker in zip(result.pairs, cycle(OBJECTIVE_COLORS), cycle(MARKERS), strict=False):
            for (estimator, outliers), style in STYLES.items():
                if found := result.of(pair, estimator, outliers):
                    y = [result.ratio(pair, depth, estimator, outliers) for depth in x_D if depth in found]
                    label = f"{_name(pair)}, {_kind(estimator, outliers)}"
                    below.plot(list(x_D.values()), y, style, color=color, marker=marker, ms=4, lw=1.6, label=label)
        if with_paper:
            ratio = np.divide(published["clm_against_mlm"], published["mlm_seed_17_against_42"])
            paper.draw_behind(below, at, ratio, "biased")
        below.axhline(1, color=INK, lw=1)
        below.set_yscale("log")
        below.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}")
        )  # names are no math, nor are numbers
        below.yaxis.set_minor_formatter(NullFormatter())
        _depth_axis(below, x_D, "ratio to the seeds' divergence")
    return figure


def draw_course(result: Similarity, at: Sequence[float], label: str, *, with_paper: bool = True) -> Figure:
    """Mean divergence over the layers, and over the first third of them, of a reference and a series of folders.

    Args:
        result: One pair per folder, in order.
        at: Position of each folder on the x axis.
        label: Label of the x axis.
        with_paper: Draw the paper's course, over the fraction of the decay, on an axis of its own above.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    low = first_third(result)
    for (estimator, outliers), style in STYLES.items():
        of = [result.of(pair, estimator, outliers) for pair in result.pairs]
        if not of[0]:
            continue
        series = {"all layers": [found["mean"].mean for found in of]}
        series[f"layers 0-{len(low) - 1}"] = [float(np.mean([found[depth].mean for depth in low])) for found in of]
        for (name, y), color, marker in zip(series.items(), OBJECTIVE_COLORS, MARKERS, strict=False):
            axes.plot(
                at, y, style, color=color, marker=marker, ms=4, lw=1.6, label=f"{name}, {_kind(estimator, outliers)}"
            )
    if with_paper:
        published = paper.figures()["cka_through_decay"]
        above = axes.twiny()
        above.grid(False)
        above.spines["top"].set_visible(True)
        for key, style, what in (("mean", "--", "all layers, biased"), ("layers_0_7", ":", "layers 0-7, biased")):
            paper.draw_behind(above, published["tokens_B"], published[key], what, style)
        above.set_xlabel("paper: decay tokens (B)", color=MUTED)
    axes.set_xlabel(label)
    axes.set_ylabel("mean divergence, 100 (1 - CKA)")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def first_third(result: Similarity) -> list[str]:
    """The depths of the first third of the layers, rounded as `detour.analysis.transplant.parse_layers` does."""
    layers = [depth for depth in result.depths if depth not in (EMBEDDINGS, FINAL, "mean")]
    return layers[: -(-len(layers) // 3)]


def draw_weights(changes: Sequence[Change]) -> Figure:
    """Relative weight change of each layer: one panel per phase, one line per module."""
    phases = list(dict.fromkeys(change.phase for change in changes))
    figure = Figure(figsize=(9, 0.8 + 3.1 * len(phases)), layout="constrained")
    grid = figure.subplots(len(phases), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, phase in zip(grid, phases, strict=True):
        mine = [change for change in changes if change.phase == phase and change.layer is not None]
        modules = dict.fromkeys(change.module for change in mine)
        for module, color, marker in zip(modules, cycle(OBJECTIVE_COLORS), cycle(MARKERS), strict=False):
            points = {change.layer: change.relative for change in mine if change.module == module}
            axes.plot(list(points), list(points.values()), color=color, marker=marker, ms=4, lw=1.6, label=module)
        axes.set_title(" to ".join(truncate(name) for name in phase))
        axes.set_ylabel("relative change")
    grid[-1].set_xlabel("layer")
    grid[-1].set_ylim(bottom=0)  # the axis is shared: only now, or later panels would be cut off
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _lines(axes: Axes, result: Similarity, pair: Pair, x_D: dict[str, int], color: str, marker: str) -> None:
    for (estimator, outliers), style in STYLES.items():
        if found := result.of(pair, estimator, outliers):
            label = f"{_name(pair)}{', seeds' if pair in result.noise else ''}, {_kind(estimator, outliers)}"
            x, y = [x_D[depth] for depth in x_D], [found[depth].mean for depth in x_D]
            axes.plot(x, y, style, color=color, marker=marker, ms=4, lw=1.6, label=label)
            if style == "-":
                axes.errorbar(x, y, [found[depth].sd for depth in x_D], ls="none", color=color, lw=1, capsize=2.5)


def _depth_axis(axes: Axes, x_D: dict[str, int], label: str) -> None:
    shown = {depth: x for depth, x in x_D.items() if not depth.isdigit() or len(x_D) < 14 or x % 2 == 0}
    axes.set_xticks(list(shown.values()), ["emb." if depth == EMBEDDINGS else depth for depth in shown])
    axes.set_xlabel("layer output")
    axes.set_ylabel(label)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _name(pair: Pair) -> str:
    return f"{truncate(pair[0])} against {truncate(pair[1])}"


def _kind(estimator: str, outliers: str) -> str:
    return estimator if outliers == "kept" else f"{estimator} without outliers"
