"""Figures of an experiment's analyses over training seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from detour.analysis import paper
from detour.plotting import INK, MUTED, OBJECTIVE_COLORS, truncate


@dataclass(frozen=True, kw_only=True)
class LayerCurve:
    """Divergence of two encoders by depth.

    Attributes:
        is_noise: Whether they differ by their training seed only.
        values: Depth ("embeddings", "0", ..., "final", "mean") -> divergence.
    """

    is_noise: bool
    values: Mapping[str, float]


def draw_layers(curves: Sequence[LayerCurve], pair: tuple[str, str]) -> Figure:
    """One line per training seed: of the two arms, and of two seeds of the second one; the paper's behind."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    depths = [depth for depth in curves[0].values if depth != "mean"]
    layers = [depth for depth in depths if depth.isdigit()]
    first = depths.index(layers[0])
    kinds = {False: (f"{truncate(pair[0])} and {truncate(pair[1])}", OBJECTIVE_COLORS[0], "o"),
             True: (f"two seeds of {truncate(pair[1])}", OBJECTIVE_COLORS[1], "s")}  # fmt: skip
    for kind, (label, color, marker) in kinds.items():
        for index, curve in enumerate(curve for curve in curves if curve.is_noise == kind):
            y = [curve.values[depth] for depth in depths]
            name = None if index else label
            axes.plot(range(len(depths)), y, color=color, marker=marker, ms=4, lw=1.4, alpha=0.85, label=name)
    published, at = paper.figures()["cka"], [first + x for x in paper.layer_positions(len(layers))]
    paper.draw_behind(axes, at, published["clm_against_mlm"], "CLM against MLM, biased")
    paper.draw_behind(axes, at, published["mlm_seed_17_against_42"], "two MLM seeds, biased", paper.STYLES[1])
    axes.set_xticks(range(len(depths)), depths)
    axes.set_xlabel("layer")
    axes.set_ylabel("divergence, 100 (1 - CKA)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_transplants(recovered: Mapping[str, Sequence[float]], ends: tuple[float, float]) -> Figure:
    """Recovery of each group, one point per training seed; 0 is the receiver, 1 the donor; the paper's in gray.

    Args:
        recovered: Group -> recovery by training seed; NaN where donor and receiver score alike.
        ends: Mean scores of receiver and donor, from 0 to 1.
    """
    theirs = paper.figures()["transplants"]
    gap = theirs["detour"] - theirs["twin"]
    published = {group: (score - theirs["twin"]) / gap for group, score in theirs.items()}
    figure = Figure(figsize=(9, 1.6 + 0.4 * len(recovered)), layout="constrained")
    axes = figure.add_subplot()
    for y, (group, values) in enumerate(recovered.items()):
        known = [value for value in values if math.isfinite(value)]
        label = None if y else "ours, one per training seed"
        axes.plot(known, [y] * len(known), "o", color=OBJECTIVE_COLORS[0], ms=6, alpha=0.85, label=label)
        if group in published:
            axes.plot(published[group], y, "s", color=MUTED, mfc="none", label=None if y else "paper (DiaMED)")
    for x in (0, 1):
        axes.axvline(x, color=INK, lw=1)
    axes.set_yticks(range(len(recovered)), [truncate(group) for group in recovered])
    axes.invert_yaxis()
    axes.set_xlabel(f"recovery: 0 is the receiver ({100 * ends[0]:.1f}), 1 the donor ({100 * ends[1]:.1f})")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
