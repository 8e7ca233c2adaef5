"""`detour report RUN`: figures and one page of a run, finished or not, from the files in its folder alone."""

from __future__ import annotations

import math
from pathlib import Path

from detour.errors import DataError
from detour.plotting import OBJECTIVE_COLORS, amount, scientific
from detour.report.figures import save_figures, smoothing_span
from detour.report.measurement import HeldOut
from detour.report.page import bullets, inline_svg, page, pairs, text
from detour.report.plotting import color_of
from detour.report.run_history import PhaseAccount, RunRecord, read_run

_NONE = '<span class="none">–</span>'


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Writes ``index.html`` and each figure as PNG and SVG.

    The run may still be going: its folder is only read. The page needs no other file, network or script.

    Args:
        run_folder: A run's folder (`detour.build.RunFolder`).
        out: Where to write; None writes into ``report`` in the run folder. What is there is replaced.

    Returns:
        The page.

    Raises:
        DataError: ``run_folder`` is missing or is not that of a run, or ``out`` cannot be a folder.
    """
    run = read_run(run_folder)
    folder = out or run_folder / "report"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: no folder can be made there ({error.strerror})") from error
    figures = save_figures(run, folder)
    target = folder / "index.html"
    target.write_text(page(title=run.name, body=_body(run, figures)), encoding="utf-8")
    return target


def _body(run: RunRecord, figures: dict[str, str]) -> str:
    parts = [
        f"<header><h1>{text(run.name)}</h1>{_status(run)}{_bar(run)}</header>",
        "<h2>Phases</h2>",
        f'<div class="card scroll">{_cost_table(run)}</div>',
        f'<div class="card scroll">{_course_table(run)}</div>',
        *_folder_tables(run),
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
    """The plan as a strip: a stretch a phase in its objective's color, pale from the token on that the run has come to."""
    stretches, start = [], 0
    for phase in run.phases:
        done = min(max(run.seen - start, 0), phase.planned)
        for tokens, opacity in [(done, 1.0), (phase.planned - done, 0.25)]:
            if width := 100 * tokens / run.planned if run.planned else 0:
                style = f"width:{width:.3f}%;background:{_color(run, phase.objective)};opacity:{opacity}"
                stretches.append(f'<span style="{style}" title="{text(phase.name)}: {text(phase.label)}"></span>')
        start += phase.planned
    return f'<div class="bar" aria-hidden="true">{"".join(stretches)}</div>'


def _cost_table(run: RunRecord) -> str:
    """What each phase was to see, saw and cost."""
    names = ["Phase", "Objective", "Tokens planned", "Tokens seen", "Supervised tokens", "Steps", "FLOPs"]
    head = _row([*names, "Device-seconds", "Utilisation", "Tokens/s"], tag="th")
    rows = "".join(_row([*_named(run, phase), f"{phase.planned:,}", *_counts(phase)]) for phase in run.phases)
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody>{_total(run)}</table>"


def _course_table(run: RunRecord) -> str:
    """Where each phase began and ended: the learning rate, the held-out losses."""
    evaluated = [name for name in run.objectives if name in run.metrics.evaluations]
    groups = ["Learning rate", *(f"Held-out {run.held_out_label(name)}" for name in evaluated)]
    head = (
        '<tr><th class="text" rowspan="2" scope="col">Phase</th><th class="text" rowspan="2" scope="col">Objective</th>'
        + "".join(f'<th colspan="2" scope="colgroup">{text(name)}</th>' for name in groups)
        + "</tr><tr>"
        + "".join(f'<th scope="col">{name}</th>' for name in ["start", "end"] * len(groups))
        + "</tr>"
    )
    rows = []
    for phase in run.phases:
        cells = [_NONE, _NONE] if phase.lr is None else [scientific(rate) for rate in phase.lr]
        for name in evaluated:
            first, last = phase.held_out.get(name, (None, None))
            cells += [_loss(first, expected=phase.start), _loss(last, expected=phase.end)]
        rows.append(_row([*_named(run, phase), *cells]))
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _folder_tables(run: RunRecord) -> list[str]:
    """For each objective the held-out loss on each validation folder, at the start and at the end of each phase."""
    tables = []
    for name, folders in run.metrics.by_folder.items():
        if not folders:
            continue
        ends = [(phase, phase.held_out.get(name, (None, None))[1]) for phase in run.phases]
        places = [0, *(point.tokens for _, point in ends if point)]
        titles = ["start", *(f"end of {phase.name}" for phase, point in ends if point)]
        every = {**folders, "all together": run.metrics.evaluations[name]}
        rows = [
            _row([text(folder), "", *(f"{points[at]:.4f}" if at in points else _NONE for at in places)])
            for folder, points in every.items()
        ]
        head = _row([text(f"Held-out {run.held_out_label(name)}"), "", *map(text, titles)], tag="th")
        tables.append(
            f'<div class="card scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
        )
    return tables and ["<h2>Held-out loss by folder</h2>", *tables]


def _row(cells: list[str], *, tag: str = "td") -> str:
    """The first two cells, HTML like the rest, are a phase's name and objective."""
    scope = "col" if tag == "th" else "row"
    first = f'<th class="text" scope="{scope}">{cells[0]}</th><{tag} class="text">{cells[1]}</{tag}>'
    return f"<tr>{first}" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells[2:]) + "</tr>"


def _named(run: RunRecord, phase: PhaseAccount) -> list[str]:
    dot = f'<span class="dot" style="background:{_color(run, phase.objective)}"></span>'
    return [text(phase.name), dot + text(phase.label)]


def _total(run: RunRecord) -> str:
    if len(run.phases) < 2:
        return ""
    supervised, steps = sum(p.supervised for p in run.phases), sum(p.steps for p in run.phases)
    flops, seconds = sum(p.flops for p in run.phases), sum(p.device_seconds for p in run.phases)
    counts = [f"{run.planned:,}", f"{run.seen:,}", f"{supervised:,}", f"{steps:,}", _flops(flops), f"{seconds:,.1f}"]
    return f"<tfoot>{_row(['All', '', *counts, '', ''])}</tfoot>"


def _counts(phase: PhaseAccount) -> list[str]:
    if not phase.tokens:
        return ["0", *[_NONE] * 6]
    return [
        f"{phase.tokens:,}",
        f"{phase.supervised:,}",
        f"{phase.steps:,}",
        _flops(phase.flops),
        f"{phase.device_seconds:,.1f}",
        f"{phase.mfu:.0%}" if math.isfinite(phase.mfu) else _NONE,
        f"{phase.tokens_per_second:,.0f}" if math.isfinite(phase.tokens_per_second) else _NONE,
    ]


def _loss(point: HeldOut | None, *, expected: int) -> str:
    """A held-out loss, with its spread over mask draws, its place on the clock where that is not the phase's own end, and a
    dagger for each time that the run began to measure otherwise before it."""
    if point is None:
        return _NONE
    place = "" if point.tokens == expected else f"<small>at {amount(point.tokens)}</small>"
    spread = f" ± {point.sd:.4f}" if point.sd is not None and math.isfinite(point.sd) else ""
    return (f"{point.loss:.4f}{spread}" if math.isfinite(point.loss) else "not finite") + "†" * point.changes + place


_TITLES = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "throughput": "Throughput",
    "gradient_norm": "Gradient norm",
    "held_out_by_folder": "Held-out loss by folder",
}


def _figure(run: RunRecord, name: str, svg: str) -> str:
    span = smoothing_span(run)
    smoothed = (
        f"The thin line is each step, the thick one a moving average over about {span} steps, begun anew each phase."
    )
    held_out = (
        "Points are losses on the same held-out rows under each objective: filled where that "
        "objective was training, hollow elsewhere. A panel marked close up is scaled to its filled points, less a steep start."
    )
    captions = {
        "loss": " ".join([smoothed, held_out, *_other_tasks(run)]) if run.metrics.evaluations else smoothed,
        "learning_rate": "As it was set for each step.",
        "throughput": "Tokens a second over all devices, each step, and the median of each phase.",
        "gradient_norm": smoothed,
        "held_out_by_folder": "The loss on the rows of each validation folder, and on all rows together.",
    }
    figure = inline_svg(svg, name=name, label=f"{_TITLES[name]} over tokens. {captions[name]}")
    return f'<figure class="card">{figure}<figcaption>{text(captions[name])}</figcaption></figure>'


def _other_tasks(run: RunRecord) -> list[str]:
    """A sentence for each objective that is evaluated under other options than it trains under."""
    sentences = []
    for name in run.metrics.evaluations:
        measured = run.held_out_options.get(name, "")
        if any(phase.objective == name and phase.options != measured for phase in run.phases):
            sentences.append(
                f"Training {run.training_label(name)} and held-out {run.held_out_label(name)} are different tasks: their "
                "losses are not on one scale."
            )
    return sentences


def _measured(run: RunRecord) -> list[str]:
    """What held-out losses are of, and from where on they are measured otherwise."""
    notes = []
    if run.held_out:
        draws = run.held_out.get("mask_draws")
        notes.append(
            f"Held-out rows: {run.held_out_rows or 'not recorded'}; drawn and masked by evaluation.seed "
            f"{run.held_out.get('seed')}, the same each time."
            + (f" ± is the standard deviation over {draws} mask draws." if draws != 1 else "")
        )
    for at, lines in run.metrics.changes.items():
        notes.append(
            f"† From token {at:,} on held-out losses are measured otherwise, and are not comparable with those before: "
            + "; ".join(lines)
            + "."
        )
    return notes


def _reading(run: RunRecord) -> list[str]:
    """How to read the numbers, whatever the run."""
    notes = [
        "Tokens are tokens that are not padding. A phase begins with a whole batch, so it may end a little past its plan.",
        "FLOPs follow from the true document lengths; utilisation is their share of what the devices' rate of matrix "
        "products, measured at each start, would have made of the time.",
        "Device-seconds and tokens a second count training batches only, without evaluation and saving.",
    ]
    if run.metrics.evaluations:
        notes.append("Losses are in nats a supervised token. At the start of a phase: before its first batch.")
        notes += _measured(run)
    else:
        notes.append("No held-out loss was recorded.")
    return notes


def _color(run: RunRecord, objective: str) -> str:
    return f"var(--objective-{OBJECTIVE_COLORS.index(color_of(run, objective))})"


def _flops(value: float) -> str:
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
