"""`detour report RUN`: figures and one page of a run, finished or not, from the files in its folder alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from detour.analysis.figure_parts import OBJECTIVE_COLOURS, amount, colour_of, scientific
from detour.analysis.figures import save_figures, smoothing_span
from detour.analysis.page import bullets, inline_svg, page, pairs, text
from detour.analysis.run_record import HeldOut, PhaseAccount, RunRecord, read_run

_NONE = '<span class="none">–</span>'


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Writes ``index.html`` and each figure as PNG and SVG.

    The run may still be going: its folder is only read. The page needs no other file, network or script.

    Args:
        run_folder: A run's folder (`detour.build.RunFolder`).
        out: Where to write; null writes into ``report`` in the run folder. What is there is replaced.

    Returns:
        The page.

    Raises:
        DataError: ``run_folder`` is missing or is not that of a run.
    """
    run = read_run(run_folder)
    folder = out or run_folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    figures = save_figures(run, folder)
    target = folder / "index.html"
    target.write_text(page(title=run.name, body=_body(run, figures)), encoding="utf-8")
    return target


def _body(run: RunRecord, figures: dict[str, str]) -> str:
    parts = [
        f"<header><h1>{text(run.name)}</h1>{_status(run)}{_bar(run)}</header>",
        "<h2>Phases</h2>",
        f'<div class="card scroll">{_phase_table(run)}</div>',
        "<h2>Figures</h2>",
        *(_figure(run, name, svg) for name, svg in figures.items()),
        "<h2>Configuration</h2>",
        f'<details class="card"><summary>config.yaml</summary><pre>{text(run.config_text)}</pre></details>',
    ]
    if run.environment:
        rows = [(name, "–" if value is None else value) for name, value in run.environment.items()]
        parts += ["<h2>Environment</h2>", f'<div class="card">{pairs(rows)}</div>']
    parts += ["<h2>Notes</h2>", f'<div class="card">{bullets([*run.notes, *_reading(run)])}</div>']
    return "\n".join(parts)


def _status(run: RunRecord) -> str:
    if run.seen >= run.planned:
        badge, rest = '<span class="badge done">complete</span>', f"{run.seen:,} tokens of {run.planned:,} planned"
    else:
        share = f"{100 * run.seen / run.planned:.1f} %" if run.planned else "–"
        badge = '<span class="badge open">not complete</span>'
        rest = f"at token {run.seen:,} of {run.planned:,} ({share})"
    flops, seconds = sum(p.flops for p in run.phases), sum(p.device_seconds for p in run.phases)
    cost = f"{_flops(flops)} training FLOPs in {_duration(seconds)} of device time" if seconds else ""
    return f'<p class="status">{badge}<span>{rest}</span><span class="none">{cost}</span></p>'


def _bar(run: RunRecord) -> str:
    """The plan as a strip: a stretch a phase in its objective's colour, pale where it is still to come."""
    total = sum(max(phase.planned, phase.tokens) for phase in run.phases) or 1
    stretches = []
    for phase in run.phases:
        begun = min(1.0, phase.tokens / phase.planned) if phase.planned else 1.0
        for share, opacity in [(begun, 1.0), (1 - begun, 0.25)]:
            width = 100 * share * max(phase.planned, phase.tokens) / total
            if width:
                style = f"width:{width:.3f}%;background:{_colour(run, phase.objective)};opacity:{opacity}"
                stretches.append(f'<span style="{style}" title="{text(phase.name)}: {text(phase.objective)}"></span>')
    return f'<div class="bar" aria-hidden="true">{"".join(stretches)}</div>'


def _phase_table(run: RunRecord) -> str:
    evaluated = [name for name in run.objectives if name in run.metrics.evaluations]
    single = ["Supervised tokens", "Steps", "FLOPs", "Device-seconds", "Tokens/s"]
    groups = ["Tokens", "Learning rate", *(f"Held-out {name}" for name in evaluated)]
    halves = ["planned", "seen", *(["start", "end"] * (1 + len(evaluated)))]
    head = (
        '<tr><th class="text" rowspan="2" scope="col">Phase</th><th class="text" rowspan="2" scope="col">Objective</th>'
        f'<th colspan="2" scope="colgroup">{groups[0]}</th>'
        + "".join(f'<th rowspan="2" scope="col">{name}</th>' for name in single)
        + "".join(f'<th colspan="2" scope="colgroup">{text(name)}</th>' for name in groups[1:])
        + "</tr><tr>"
        + "".join(f'<th scope="col">{name}</th>' for name in halves)
        + "</tr>"
    )
    rows = "".join(_phase_row(run, phase, evaluated) for phase in run.phases)
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody>{_total_row(run, len(evaluated))}</table>"


def _phase_row(run: RunRecord, phase: PhaseAccount, evaluated: list[str]) -> str:
    dot = f'<span class="dot" style="background:{_colour(run, phase.objective)}"></span>'
    cells = [f"{phase.planned:,}", *_counts(phase, f"{phase.tokens_per_second:,.0f}")]
    cells += [_NONE, _NONE] if phase.lr is None else [scientific(rate) for rate in phase.lr]
    for name in evaluated:
        first, last = phase.held_out.get(name, (None, None))
        cells += [_loss(first, expected=phase.start), _loss(last, expected=phase.end)]
    return (
        f'<tr><th class="text" scope="row">{text(phase.name)}</th><td class="text">{dot}{text(phase.objective)}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _total_row(run: RunRecord, evaluated: int) -> str:
    if len(run.phases) < 2:
        return ""
    total: Callable[[str], float] = lambda name: sum(getattr(phase, name) for phase in run.phases)  # noqa: E731
    cells = [f"{run.planned:,}", f"{run.seen:,}", f"{total('supervised'):,}", f"{total('steps'):,}"]
    cells += [_flops(total("flops")), f"{total('device_seconds'):,.1f}", *[""] * (3 + 2 * evaluated)]
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tfoot><tr><th class="text" scope="row" colspan="2">All</th>{row}</tr></tfoot>'


def _counts(phase: PhaseAccount, speed: str) -> list[str]:
    if not phase.tokens:
        return ["0", *[_NONE] * 5]
    return [
        f"{phase.tokens:,}",
        f"{phase.supervised:,}",
        f"{phase.steps:,}",
        _flops(phase.flops),
        f"{phase.device_seconds:,.1f}",
        speed if math.isfinite(phase.tokens_per_second) else _NONE,
    ]


def _loss(point: HeldOut | None, *, expected: int) -> str:
    """A held-out loss; with its place on the clock where that is not the phase's own end."""
    if point is None:
        return _NONE
    place = "" if point.tokens == expected else f"<small>at {amount(point.tokens)}</small>"
    return (f"{point.loss:.4f}" if math.isfinite(point.loss) else "not finite") + place


_TITLES = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "throughput": "Throughput",
    "gradient_norm": "Gradient norm",
}


def _figure(run: RunRecord, name: str, svg: str) -> str:
    span = smoothing_span(run)
    smoothed = (
        f"The thin line is each step, the thick one a moving average over about {span} steps, begun anew each phase."
    )
    captions = {
        "loss": f"{smoothed} Points are losses on the same held-out rows under each objective: filled where that "
        "objective was training, hollow elsewhere. A panel marked close up is scaled to its filled points, less a steep start.",
        "learning_rate": "As it was set for each step.",
        "throughput": "Tokens a second over all devices, each step, and the median of each phase.",
        "gradient_norm": smoothed,
    }
    figure = inline_svg(svg, name=name, label=f"{_TITLES[name]} over tokens. {captions[name]}")
    return f'<figure class="card">{figure}<figcaption>{text(captions[name])}</figcaption></figure>'


def _reading(run: RunRecord) -> list[str]:
    """How to read the numbers, whatever the run."""
    notes = [
        "Tokens are tokens that are not padding. A phase begins with a whole batch, so it may end a little past its plan.",
        "FLOPs follow from the true document lengths. Device-seconds and tokens a second count training batches only, "
        "without evaluation and saving.",
    ]
    if run.metrics.evaluations:
        notes.append("Losses are in nats a supervised token. At the start of a phase: before its first batch.")
    else:
        notes.append("No held-out loss was recorded.")
    return notes


def _colour(run: RunRecord, objective: str) -> str:
    return f"var(--objective-{OBJECTIVE_COLOURS.index(colour_of(run, objective))})"


def _flops(value: float) -> str:
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
