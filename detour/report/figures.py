"""The figures of a run's report: loss, learning rate, throughput and gradient norm over tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from detour.plotting import INK, MUTED, OBJECTIVE_COLORS, PAPER, save_figure, truncate
from detour.report.axes import color_of, finish, marker_of, nothing_yet, plain, prepare, ticks
from detour.report.metrics_log import Points, smooth, thin
from detour.report.phase_summary import PhaseSummary
from detour.report.run_history import RunHistory
from detour.units import scientific, short

CHANGED = (0, (1, 1.5))  # dash pattern of the line where the evaluation settings changed
_RAW_POINTS = 3000  # upper bound per line; more only make the file larger


def save_figures(run: RunHistory, folder: Path) -> dict[str, str]:
    """Writes every figure as PNG and SVG into ``folder``; returns name -> SVG text, in the order of the report."""
    builders: dict[str, Callable[[Figure, RunHistory], None]] = {
        "loss": _loss,
        "learning_rate": _learning_rate,
        "throughput": _throughput,
        "gradient_norm": _gradient_norm,
    }
    if scheduled_columns(run):
        builders["scheduled"] = _scheduled
    if any(run.metrics.by_folder.values()):
        builders["held_out_by_folder"] = _by_folder
    svgs = {}
    for name, build in builders.items():
        svgs[name] = save_figure(partial(_built, build, run), folder / f"{name}.png", folder / f"{name}.svg")
    return svgs


def _built(build: Callable[[Figure, RunHistory], None], run: RunHistory) -> Figure:
    figure = Figure(figsize=(10, 3.3), layout="constrained")
    build(figure, run)
    return figure


def smoothing_span(run: RunHistory) -> int:
    """Span of the moving averages in steps: 1% of the recorded steps, from 3 to 100."""
    return max(3, min(100, len(run.metrics) // 100))


def _loss(figure: Figure, run: RunHistory) -> None:
    names = list(run.metrics.evaluations)
    columns = min(2, max(1, len(names)))
    rows = math.ceil(len(names) / columns)
    figure.set_size_inches(10, 4.7 + 2.7 * rows)
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[3.4] + [2.2] * rows)
    axes = figure.add_subplot(grid[0, :])
    prepare(axes, run, "nats per supervised token")
    loss_N = run.metrics.column("loss/train/total")
    trained: set[str] = set()
    for phase, mine_N in _each_phase(run):
        turns = run.metrics.trained(mine_N)
        for name in turns if len(turns) > 1 else [phase.objective]:  # losses of different kinds have no common curve
            own_N = run.metrics.column(f"loss/train/{name}") if len(turns) > 1 else loss_N
            at_N = mine_N & np.isfinite(own_N) if len(turns) > 1 else mine_N
            _raw_and_smooth(axes, run, color_of(run, name), own_N, at_N)
            trained.add(name)
    for name in names:
        _held_out(axes, run, name)
    if not np.isfinite(loss_N).any() and not names:
        nothing_yet(axes)
    for index, name in enumerate(names):
        panel = figure.add_subplot(grid[1 + index // columns, index % columns])
        prepare(panel, run, "nats" if index % columns == 0 else "", most_ticks=5 if columns > 1 else 9)
        label = truncate(run.held_out_label(name), 40)
        panel.set_title(f"Held-out, {label}" + (", close up" if _zoom(panel, run, name) else ""))
        _held_out(panel, run, name)
    handles = []
    for name in run.objectives:
        color, marker = color_of(run, name), marker_of(run, name)
        if name in trained:
            handles.append(
                Line2D([], [], color=color, lw=2, label=f"training, {truncate(run.training_label(name), 48)}")
            )
        if name in names:
            label = f"held-out, {truncate(run.held_out_label(name), 40)}"
            handles.append(Line2D([], [], color=color, marker=marker, lw=1.2, label=label))
    if names:
        handles.append(
            Line2D(
                [],
                [],
                color=MUTED,
                marker="o",
                mfc=PAPER,
                lw=1.2,
                ls=(0, (3, 2)),
                label="hollow: another objective is training",
            )
        )
    if run.metrics.changes:
        handles.append(Line2D([], [], color=INK, lw=1.2, ls=CHANGED, label="evaluation settings changed"))
    finish(figure, axes, run, "Loss", handles, columns=3)


def _learning_rate(figure: Figure, run: RunHistory) -> None:
    axes = figure.add_subplot()
    prepare(axes, run, "learning rate", scientific)
    lr_N = run.metrics.column("lr")
    for phase, mine_N in _each_phase(run):
        x, y = run.metrics.column("before")[mine_N], lr_N[mine_N]
        some = thin(y, _RAW_POINTS)
        axes.plot(x[some], y[some], color=color_of(run, phase.objective), lw=2, marker="." if len(x) == 1 else None)
    if np.isfinite(lr_N).any():
        axes.set_ylim(0, float(np.nanmax(lr_N[np.isfinite(lr_N)])) * 1.06 or 1)
    else:
        nothing_yet(axes)
    finish(figure, axes, run, "Learning rate", _objective_handles(run, lambda name: name))


def scheduled_columns(run: RunHistory) -> list[str]:
    """The metrics that hold a value which changes over a phase: an option, or the proportion of a folder."""
    return [name for name in run.metrics.columns if name.startswith("phase/") and name != "phase/index"]


def _scheduled(figure: Figure, run: RunHistory) -> None:
    names = scheduled_columns(run)
    figure.set_figheight(1.6 + 2.0 * len(names))
    panels = [figure.add_subplot(len(names), 1, index + 1) for index in range(len(names))]
    for panel, name in zip(panels, names, strict=True):
        prepare(panel, run, truncate(run.scheduled_label(name), 40).replace(" of ", " of\n"))
        values_N = run.metrics.column(name)
        for phase, mine_N in _each_phase(run):
            x, y = run.metrics.column("before")[mine_N], values_N[mine_N]
            some = thin(y, _RAW_POINTS)
            panel.plot(x[some], y[some], color=color_of(run, phase.objective), lw=2)
    finish(figure, panels[0], run, "Scheduled values", _objective_handles(run, lambda name: name))


def _throughput(figure: Figure, run: RunHistory) -> None:
    axes = figure.add_subplot()
    prepare(axes, run, "tokens per second", lambda value: short(value, 4))
    rate_N = run.metrics.column("throughput/tokens_per_second")
    medians = {}
    for phase, mine_N in _each_phase(run):
        x, y, color = run.metrics.column("before")[mine_N], rate_N[mine_N], color_of(run, phase.objective)
        some = thin(y, _RAW_POINTS)
        axes.plot(x[some], y[some], color=color, lw=0.8, alpha=0.45)
        if np.isfinite(y).any():
            medians[phase.name] = float(np.median(y[np.isfinite(y)]))
            axes.plot([phase.start, phase.end], [medians[phase.name]] * 2, color=color, lw=2)
    if medians:
        axes.set_ylim(0, float(rate_N[np.isfinite(rate_N)].max()) * 1.06)
    else:
        nothing_yet(axes)
    second = {name: f"median {short(value)}/s" for name, value in medians.items()}
    finish(figure, axes, run, "Throughput", _objective_handles(run, lambda name: f"median, {name}"), second)


def _gradient_norm(figure: Figure, run: RunHistory) -> None:
    axes = figure.add_subplot()
    norm_N = run.metrics.column("grad_norm")
    good = norm_N[np.isfinite(norm_N) & (norm_N > 0)]
    clipped = [(phase.start, phase.end, phase.clip_norm) for phase in run.phases if phase.clip_norm and phase.tokens]
    prepare(axes, run, "gradient norm", plain)
    for phase, mine_N in _each_phase(run):
        _raw_and_smooth(axes, run, color_of(run, phase.objective), norm_N, mine_N)
    handles = _objective_handles(run, lambda name: f"smoothed, {name}")
    if not len(good):
        nothing_yet(axes)
    elif good.max() > 20 * np.median(good):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticks(plain))
        axes.yaxis.set_minor_formatter(ticks(lambda value: ""))
    else:
        axes.set_ylim(0, max([float(good.max()), *(clip for *_, clip in clipped)]) * 1.06)
    if clipped and len(good):
        for start, end, clip in clipped:
            axes.plot([start, end], [clip] * 2, color=INK, lw=1, ls=(0, (4, 3)))
        levels = ", then ".join(dict.fromkeys(f"{clip:g}" for *_, clip in clipped))
        handles.append(Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label=f"clipped at {levels}"))
    finish(figure, axes, run, "Gradient norm, before clipping" if clipped else "Gradient norm", handles)


def _each_phase(run: RunHistory) -> Iterable[tuple[PhaseSummary, np.ndarray]]:
    """Phases with recorded batches, each with the mask [N] of its batches."""
    index_N = run.metrics.column("phase/index")
    for index, phase in enumerate(run.phases):
        if (index_N == index).any():
            yield phase, index_N == index


def _raw_and_smooth(axes: Axes, run: RunHistory, color: str, values_N: np.ndarray, mine_N: np.ndarray) -> None:
    x, y = run.metrics.column("before")[mine_N], values_N[mine_N]
    y = np.where(np.isfinite(y), y, np.nan)
    some, line = thin(y, _RAW_POINTS), smooth(y, smoothing_span(run))
    axes.plot(x[some], y[some], color=color, lw=0.8, alpha=0.4, marker="." if len(x) == 1 else None)
    some = thin(line, _RAW_POINTS)
    axes.plot(x[some], line[some], color=color, lw=2)


def _held_out(axes: Axes, run: RunHistory, name: str) -> None:
    """Held-out losses of an objective: filled markers and solid lines while it trains, hollow and dashed otherwise.

    A vertical line marks a change of the evaluation settings; points on its two sides are not joined.
    """
    points = {tokens: loss for tokens, loss in run.metrics.evaluations[name].items() if math.isfinite(loss)}
    x, y = np.array(list(points), dtype=float), np.array(list(points.values()))
    trains = np.array([run.trains(name, tokens) for tokens in points], dtype=bool)
    color, size = color_of(run, name), 6.5 if len(x) <= 30 else 4.5 if len(x) <= 100 else 3
    for left, right, solid in zip(range(len(x)), range(1, len(x)), trains[1:], strict=False):
        if any(x[left] <= at < x[right] for at in run.metrics.changes):
            continue
        style = "-" if solid else (0, (3, 2))
        axes.plot(x[[left, right]], y[[left, right]], color=color, lw=1.2, ls=style, alpha=0.9, zorder=3)
    for mask, face in [(trains, color), (~trains, PAPER)]:
        axes.plot(
            x[mask], y[mask], ls="none", marker=marker_of(run, name), ms=size, color=color, mfc=face, mew=1.3, zorder=4
        )
    if spread := run.metrics.spread.get(name):
        axes.errorbar(
            x, y, [spread.get(tokens, np.nan) for tokens in points], ls="none", color=color, lw=1, capsize=2.5
        )
    _mark_changes(axes, run)


def _mark_changes(axes: Axes, run: RunHistory) -> None:
    for at in run.metrics.changes:
        axes.axvline(at, color=INK, lw=1.2, ls=CHANGED, zorder=2)


def _broken(points: Points, at: Iterable[int]) -> tuple[list[float], list[float]]:
    """x and y of a line through the points, with a gap after each token count in ``at``."""
    gaps = [(token + 0.5, math.nan) for token in at]
    x, y = zip(*sorted([*points.items(), *gaps]), strict=True)
    return list(x), list(y)


def _by_folder(figure: Figure, run: RunHistory) -> None:
    """One panel per objective: the loss on each validation folder (thin lines) and on all folders together."""
    names = [name for name, folders in run.metrics.by_folder.items() if folders]
    figure.set_size_inches(10, 0.9 + 2.9 * len(names))
    folders = list(dict.fromkeys(folder for name in names for folder in run.metrics.by_folder[name]))
    colors = dict(zip(folders, cycle(OBJECTIVE_COLORS), strict=False))
    styles = {
        folder: ["-", (0, (4, 2)), (0, (1, 1.5))][i // len(OBJECTIVE_COLORS) % 3] for i, folder in enumerate(folders)
    }
    for index, name in enumerate(names):
        panel = figure.add_subplot(len(names), 1, index + 1)
        prepare(panel, run, "nats per supervised token")
        panel.set_title(f"Held-out, {truncate(run.held_out_label(name), 40)}")
        for folder, points in run.metrics.by_folder[name].items():
            line = _broken(points, run.metrics.changes)
            panel.plot(*line, color=colors[folder], lw=1.2, ls=styles[folder], marker=".", ms=4)
        panel.plot(*_broken(run.metrics.evaluations[name], run.metrics.changes), color=INK, lw=2)
        _mark_changes(panel, run)
    handles = [Line2D([], [], color=INK, lw=2, label="all together")]
    handles += [
        Line2D([], [], color=colors[f], lw=1.2, ls=styles[f], marker=".", ms=4, label=truncate(f, 40)) for f in folders
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))


def _zoom(axes: Axes, run: RunHistory, name: str) -> bool:
    """Scales the y axis to the losses recorded while the objective trains; returns whether other points are cut off."""
    points = {tokens: loss for tokens, loss in run.metrics.evaluations[name].items() if math.isfinite(loss)}
    own = [loss for tokens, loss in points.items() if run.phase_before(tokens).objective == name]
    if len(own) < 2 or max(own) == min(own):
        return False
    low, high = min(own), float(np.quantile(own, 0.9))
    if len(own) < 8 or high == low or max(own) - low <= 4 * (high - low):
        high = max(own)  # otherwise a steep initial drop would flatten the rest
    first = next(iter(points.values()))
    for others, factor in [(points.values(), 2), ([first], 3)]:
        wider = min(low, *others), max(high, *others)
        if wider[1] - wider[0] <= factor * (high - low):
            low, high = wider
            break
    margin = 0.15 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    return low - margin > min(points.values()) or high + margin < max(points.values())


def _objective_handles(run: RunHistory, label: Callable[[str], str]) -> list[Line2D]:
    trained = dict.fromkeys(phase.objective for phase, _ in _each_phase(run))
    return [Line2D([], [], color=color_of(run, name), lw=2, label=label(truncate(name))) for name in trained]
