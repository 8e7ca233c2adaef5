"""The figures of an experiment's page: training and held-out losses of the arms on common axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from detour.experiments.cells import Plan, trained
from detour.plotting import MARKERS, OBJECTIVE_COLORS, save_figure, truncate
from detour.report.metrics_log import smooth, thin
from detour.report.run_history import RunHistory, read_run
from detour.training.run_folder import RunFolder
from detour.units import short

MOST_POINTS = 1500  # per line


def histories(plan: Plan) -> dict[tuple[str, int], RunHistory]:
    """The recorded history of every finished run of an arm."""
    return {
        key: read_run(RunFolder.of(run).path) for key, run in plan.experiment.runs.items() if trained(run) is not None
    }


def save_figures(plan: Plan, runs: dict[tuple[str, int], RunHistory], folder: Path) -> dict[str, str]:
    """Writes ``loss_OBJECTIVE`` and ``held_out_OBJECTIVE`` as PNG and SVG; returns name -> SVG text."""
    trained_on = dict.fromkeys(phase.objective for run in runs.values() for phase in run.phases)
    evaluated = dict.fromkeys(name for run in runs.values() for name in run.metrics.evaluations)
    builders: dict[str, Callable[[Axes], None]] = {}
    for objective in trained_on:
        builders[f"loss_{objective}"] = lambda axes, o=objective: _training(axes, plan, runs, o)
    for objective in evaluated:
        builders[f"held_out_{objective}"] = lambda axes, o=objective: _held_out(axes, plan, runs, o)
    return {name: _save(build, folder, name) for name, build in builders.items()}


def arm_style(plan: Plan, arm: str) -> tuple[str, str]:
    """Color and marker of an arm: the same in every figure."""
    index = list(plan.experiment.config.arms).index(arm)
    shift = index // len(OBJECTIVE_COLORS)  # further arms repeat the colors with other markers
    return OBJECTIVE_COLORS[index % len(OBJECTIVE_COLORS)], MARKERS[(index + shift) % len(MARKERS)]


def _training(axes: Axes, plan: Plan, runs: dict[tuple[str, int], RunHistory], objective: str) -> None:
    """One smoothed line per run, where this objective trains. Lines of one arm have one color."""
    shown: set[str] = set()
    for (arm, _), run in runs.items():
        color, _ = arm_style(plan, arm)
        before_N, loss_N = run.metrics.column("before"), run.metrics.column("loss/train/total")
        for phase in run.phases:
            if phase.objective != objective:
                continue
            mine_N = (before_N >= phase.start) & (before_N < phase.end) & np.isfinite(loss_N)
            if not mine_N.any():
                continue
            y = smooth(loss_N[mine_N], span=max(3, int(mine_N.sum()) // 20))
            some = thin(y, MOST_POINTS)
            label = truncate(arm) if arm not in shown else None
            shown.add(arm)
            axes.plot(before_N[mine_N][some], y[some], color=color, lw=1.2, alpha=0.85, label=label)
    axes.set_title(f"Training loss, {truncate(objective)}")
    _finish(axes, "nats per target token")


def _held_out(axes: Axes, plan: Plan, runs: dict[tuple[str, int], RunHistory], objective: str) -> None:
    """Mean over training seeds at each evaluation, with the range over seeds as a band."""
    label = ""
    lowest, ends = math.inf, []
    for arm in plan.experiment.config.arms:
        curves = [run.metrics.evaluations.get(objective, {}) for (name, _), run in runs.items() if name == arm]
        label = next((run.held_out_label(objective) for (name, _), run in runs.items() if name == arm), label)
        indices = range(min((len(curve) for curve in curves), default=0))
        if not indices:
            continue
        color, marker = arm_style(plan, arm)
        x = [float(np.mean([list(curve)[i] for curve in curves])) for i in indices]
        y_SN = np.array([[list(curve.values())[i] for i in indices] for curve in curves])
        axes.fill_between(x, y_SN.min(0), y_SN.max(0), color=color, alpha=0.15, lw=0)
        axes.plot(x, y_SN.mean(0), color=color, marker=marker, ms=4, lw=1.6, label=truncate(arm))
        lowest, ends = min(lowest, float(y_SN.min())), [*ends, float(y_SN.mean(0)[-1])]
    if ends:  # an arm that left the objective may be far above the others
        top = sorted(ends)[len(ends) // 2]
        axes.set_ylim(lowest - 0.05 * (top - lowest) - 0.01, max(top + 1.2 * (top - lowest), lowest + 0.1))
    axes.set_title(f"Held-out loss, {truncate(label, 40)}: mean and range over training seeds")
    _finish(axes, "nats per target token")


def _finish(axes: Axes, unit: str) -> None:
    axes.set_xlabel("tokens")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=2)


def _save(build: Callable[[Axes], None], folder: Path, name: str) -> str:
    def draw() -> Figure:
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        build(figure.add_subplot())
        return figure

    return save_figure(draw, folder / f"{name}.png", folder / f"{name}.svg")
