"""The analyses on an experiment's page: each a figure and a table, from the records that the analysis jobs left."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from detour.analysis import paper
from detour.analysis.curve_figures import draw_decay, draw_freeze, draw_needle
from detour.analysis.curves import DecayPoint, decay_points, freeze_rows, needle_accuracies
from detour.analysis.transplant import recovery
from detour.errors import DataError
from detour.evaluation.results.levels import compare_arms
from detour.evaluation.results.tables import NONE
from detour.evaluation.results.verdicts import ALPHA
from detour.experiments.analysis_figures import LayerCurve, draw_layers, draw_transplants
from detour.experiments.analysis_jobs import cka_folder, needle_scores, transplant_scores
from detour.experiments.cells import Plan
from detour.experiments.results import Measured, probe_scores


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One analysis as the page shows it.

    Attributes:
        key: Name of its files.
        title: Its heading.
        note: How to read figure and table.
        header: Of the table.
        rows: Of the table, as text.
        draw: Makes the figure.
    """

    key: str
    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[], Figure]


def analyses(plan: Plan, measured: Sequence[Measured]) -> list[Analysis]:
    """Every analysis whose records are complete.

    Raises:
        DataError: A record is damaged or does not have what its job writes.
    """
    by_key = {each.key: each for each in measured}
    found: list[Analysis | None] = [_layers(plan, pair) for pair in plan.experiment.config.analysis.cka.pairs]
    found += [_transplants(plan, pair) for pair in plan.experiment.config.analysis.transplants.pairs]
    found.append(_needle(plan))
    if tuned := by_key.get("finetuning"):
        found += [_decay(plan, tuned), _freeze(plan, tuned)]
    return [each for each in found if each is not None]


def _layers(plan: Plan, pair: tuple[str, str]) -> Analysis | None:
    """Divergence per layer of two arms, by training seed, beside that of the second arm's seeds."""
    files = [cka_folder(plan.experiment, pair, seed) / "cka.json" for seed in plan.experiment.config.seeds]
    if not plan.experiment.config.analysis.cka.texts or not all(map(Path.is_file, files)):
        return None
    curves = [curve for file in files for curve in _curves(file)]
    arms, noise = ([c for c in curves if c.is_noise == flag] for flag in (False, True))
    rows = []
    for depth in arms[0].values:
        values, noises = ([curve.values[depth] for curve in some] for some in (arms, noise))
        ratio = fmean(values) / fmean(noises) if noises and fmean(noises) > 0 else math.nan
        spread = NONE if not noises else f"{fmean(noises):.2f} ({min(noises):.2f} to {max(noises):.2f})"
        name = f"layer {depth}" if depth.isdigit() else depth
        shown = NONE if math.isnan(ratio) else f"{ratio:.2f}"
        rows.append((name, f"{fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})", spread, shown))
    return Analysis(
        key=f"layers_{pair[0]}_{pair[1]}",
        title=f"Similarity of layers: {pair[0]} and {pair[1]}",
        note="Divergence 100 (1 - linear CKA) of mean-pooled states of held-out texts, unbiased estimator (HSIC_1), one line "
        f"per training seed, beside that of two training seeds of {pair[1]}. The paper's curves are biased.",
        header=("Depth", "Divergence: mean (range over seeds)", "Between training seeds", "Ratio"),
        rows=rows,
        draw=lambda: draw_layers(curves, pair),
    )


def _curves(file: Path) -> Iterator[LayerCurve]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["values"]["divergences"]
        by_pair: dict[tuple[str, str, str], dict[str, float]] = {}
        for row in rows:
            if (row["estimator"], row["outliers"]) == ("unbiased", "kept"):
                by_pair.setdefault((row["kind"], row["a"], row["b"]), {})[row["depth"]] = float(row["divergence"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: damaged ({error!r}); remove its folder to compute it again") from error
    for (kind, _, _), values in by_pair.items():
        yield LayerCurve(is_noise=kind == "noise", values=values)


def _transplants(plan: Plan, pair: tuple[str, str]) -> Analysis | None:
    """Recovery of the donor's probe score by each transplanted group, per training seed."""
    config, names = plan.experiment.config, plan.experiment.names
    probed = {arm: [plan.folder / "probes" / f"{names[arm, seed]}.csv" for seed in config.seeds] for arm in pair}
    groups = {
        group: [transplant_scores(plan.experiment, pair, group, seed) for seed in config.seeds]
        for group in config.analysis.transplants.groups
    }
    if not all(file.is_file() for files in (*probed.values(), *groups.values()) for file in files):
        return None

    def score(file: Path) -> float:
        return fmean(probe_scores(file, config.probes.linear).values())

    donors, receivers = ([score(file) for file in probed[arm]] for arm in pair)
    recovered: dict[str, list[float]] = {}
    rows = [(f"{pair[0]} (donor)", f"{100 * fmean(donors):.2f}", NONE, NONE)]
    for group, files in groups.items():
        scores = [score(file) for file in files]
        recovered[group] = [
            math.nan if low == high else recovery(low, high, reached)
            for low, high, reached in zip(receivers, donors, scores, strict=True)
        ]
        by_seed = ", ".join(NONE if math.isnan(value) else f"{value:.2f}" for value in recovered[group])
        gap = fmean(donors) - fmean(receivers)
        mean = NONE if gap == 0 else f"{(fmean(scores) - fmean(receivers)) / gap:.2f}"
        rows.append((group, f"{100 * fmean(scores):.2f}", mean, by_seed))
    rows.append((f"{pair[1]} (receiver)", f"{100 * fmean(receivers):.2f}", NONE, NONE))
    return Analysis(
        key=f"transplants_{pair[0]}_{pair[1]}",
        title=f"Transplants from {pair[0]} into {pair[1]}",
        note="Mean linear-probe score over tasks of the receiver with a group of the donor's weights. Recovery: 0 is the "
        "receiver, 1 the donor; where donor and receiver score alike, it is noise divided by noise.",
        header=("Transplanted", "Score (points)", "Recovery of the means", "Recovery by training seed"),
        rows=rows,
        draw=lambda: draw_transplants(recovered, (fmean(receivers), fmean(donors))),
    )


def _needle(plan: Plan) -> Analysis | None:
    """Accuracy by length and place of every arm, pooled over training seeds."""
    config, names = plan.experiment.config, plan.experiment.names
    files = [needle_scores(plan.experiment, name) for name in names.values()]
    if config.analysis.needle.language is None or not all(map(Path.is_file, files)):
        return None
    by_model, _ = needle_accuracies(files)
    points = []
    for arm in config.arms:
        mine = [point for point in by_model if point.model.rpartition("@")[0] == arm]
        for by, at in dict.fromkeys((point.by, point.at) for point in mine):
            same = [point for point in mine if (point.by, point.at) == (by, at)]
            share = [point.accuracy for point in same]
            hits, examples = sum(point.hits for point in same), sum(point.examples for point in same)
            points.append(
                replace(same[0], model=arm, hits=hits, examples=examples, low=min(share), high=max(share))
            )  # fmt: skip
    rows = [
        (p.model, f"{p.by} {p.at}", f"{100 * p.accuracy:.1f}", f"{100 * p.low:.1f} to {100 * p.high:.1f}")
        for p in points
    ]
    return Analysis(
        key="needle",
        title="Needle",
        note="Accuracy of a small network on the frozen states, pooled over training seeds; bars are their range.",
        header=("Arm", "At", "Accuracy (%)", "Range over training seeds"),
        rows=rows,
        draw=lambda: draw_needle(points),
    )


def decay_fraction(plan: Plan, arm: str) -> float:
    """Tokens of an arm's last phase, as a fraction of those of the phases before it."""
    *before, last = plan.experiment.runs[arm, plan.experiment.config.seeds[0]].phases
    return last.tokens / sum(phase.tokens for phase in before)


def _decay(plan: Plan, tuned: Measured) -> Analysis | None:
    curves = plan.experiment.config.analysis.decay
    if not curves:
        return None
    places = sorted((curve, decay_fraction(plan, arm), arm) for curve, arms in curves.items() for arm in arms)
    means = {arm: tuned.means[arm][tuned.scale.mean] for arms in curves.values() for arm in arms}
    points = decay_points([(curve, arm, at) for curve, at, arm in places], means)
    return Analysis(
        key="decay",
        title="Length of the decay",
        note=f"Mean fine-tuning score over tasks by the decay's share of the phases before it, with 95% intervals over "
        f"{tuned.basis}.",
        header=("Curve", "Arm", "Decay (% of the phases before)", "Score (points)"),
        rows=[(p.arm, p.model, f"{100 * p.fraction:g}", _with_interval(p)) for p in points],
        draw=lambda: draw_decay(points),
    )


def _with_interval(point: DecayPoint) -> str:
    s = point.score
    return f"{s.mean:.2f}" + ("" if math.isnan(s.low) else f" [{s.low:.2f}, {s.high:.2f}]")


def _freeze(plan: Plan, tuned: Measured) -> Analysis | None:
    freeze = plan.experiment.config.analysis.freeze
    if freeze.twin is None or freeze.detour is None:
        return None
    gain = compare_arms(
        tuned.scores, freeze.detour, freeze.twin, margin=None, scale=tuned.scale, flagged=tuned.degenerate
    )
    is_clear = gain.overall.p < ALPHA
    scores = {arm: of[tuned.scale.mean] for arm, of in tuned.means.items()}
    found = freeze_rows(freeze.twin, freeze.detour, freeze.frozen, scores, is_gain_clear=is_clear)
    theirs = paper.figures()["freeze"]
    why = "" if is_clear else (
        f"The fraction is not shown: the gain is not distinguishable from the noise between seeds. {gain.overall.sentence} "
    )  # fmt: skip
    return Analysis(
        key="freeze",
        title="Frozen layers",
        note="Fraction of the detour's gain over its twin, by mean fine-tuning score, that arms with frozen layers keep. "
        f"{why}The paper: twin {theirs['mlm_twin']}, detour {theirs['clm_detour']}.",
        header=("Arm", "Score (points)", "Gain kept"),
        rows=[(r.model, f"{r.score.mean:.2f}", _kept(r.kept, is_clear)) for r in found],
        draw=lambda: draw_freeze(found),
    )


def _kept(fraction: float, is_clear: bool) -> str:
    if not is_clear:
        return "not shown"
    return NONE if math.isnan(fraction) else f"{fraction:.2f}"


def as_json(found: Analysis) -> dict[str, Any]:
    """The table of an analysis."""
    return {"title": found.title, "header": list(found.header), "rows": [list(row) for row in found.rows]}
