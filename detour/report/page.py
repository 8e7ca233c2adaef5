"""The HTML page of a run: values for the template, its colors in light and dark mode, and inline SVG.

The page is one file: no script, no network access, no reference to another file.
"""

from __future__ import annotations

import math
import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from detour.plotting import GRID, INK, MUTED, OBJECTIVE_COLORS, PAPER
from detour.report.axes import color_of
from detour.report.notes import TITLES, captions, reading_notes
from detour.report.run_history import RunHistory
from detour.units import duration, scientific, short

# lighter variants for a dark background, in the order of OBJECTIVE_COLORS
_DARK_OBJECTIVES = ["#58b0f0", "#ff8a4c", "#35d0a0", "#eaa3cc", "#f5bd45", "#a6dcff", "#a9b1ba"]
_LIGHT = {
    "ink": INK,
    "muted": MUTED,
    "grid": GRID,
    "card": PAPER,
    "page": "#f4f6f8",
    "warn": "#9a3412",
    "good": "#166534",
}
_DARK = {
    "ink": "#e6e9ed",
    "muted": "#a3adb8",
    "grid": "#343b44",
    "card": "#191d23",
    "page": "#101317",
    "warn": "#fdba74",
    "good": "#86efac",
}


def render(run: RunHistory, figures: dict[str, str]) -> str:
    """The page as HTML.

    Args:
        run: The run.
        figures: Name to SVG text, as `detour.report.figures.save_figures` returns them.
    """
    environment = page_environment("detour.report")
    keys = ("supervised", "steps", "flops", "device_seconds")
    return environment.get_template("report.html.j2").render(
        run=run,
        total={key: sum(getattr(phase, key) for phase in run.phases) for key in keys},
        bar=_bar(run),
        evaluated=[name for name in run.objectives if name in run.metrics.evaluations],
        folder_tables=_folder_tables(run),
        figures=_figures(run, figures),
        notes=[*run.notes, *reading_notes(run)],
        color=lambda objective: f"var(--objective-{OBJECTIVE_COLORS.index(color_of(run, objective))})",
    )


def page_environment(package: str) -> Environment:
    """A Jinja environment for pages of one file: autoescaped, with the shared style sheet, colors and filters.

    Args:
        package: Whose ``templates`` folder has the page.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("detour.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "duration": duration,
        "is_finite": math.isfinite,
        "scientific": scientific,
        "short": short,
    }
    environment.globals |= {
        "light": _variables(_LIGHT, OBJECTIVE_COLORS),
        "dark": _variables(_DARK, _DARK_OBJECTIVES),
    }
    return environment


def inline_svg(svg: str, *, name: str, label: str) -> Markup:
    """A figure's SVG as an HTML element whose colors are the page's CSS variables and whose ids are unique.

    Args:
        svg: A file written by `detour.report.figures`.
        name: Prefix of its ids, unique on the page.
        label: Plain-text description for screen readers.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    start, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', start)
    assert box is not None
    rest = re.sub(r'\bid="', f'id="{name}-', rest)
    rest = rest.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    colors = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "card"}
    colors |= {color: f"objective-{index}" for index, color in enumerate(OBJECTIVE_COLORS)}
    for color, variable in colors.items():
        rest = rest.replace(f": {color}", f": var(--{variable})")
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}">{rest}')


def _figures(run: RunHistory, svgs: dict[str, str]) -> list[dict[str, Any]]:
    texts = captions(run)
    return [
        {
            "svg": inline_svg(svg, name=name, label=f"{TITLES[name]} over tokens. {texts[name]}"),
            "caption": texts[name],
        }
        for name, svg in svgs.items()
    ]


def _bar(run: RunHistory) -> list[dict[str, Any]]:
    """The progress bar: per phase the part that is done, then the part that is left."""
    parts, start = [], 0
    for phase in run.phases:
        done = min(max(run.seen - start, 0), phase.planned)
        for tokens, opacity in [(done, 1.0), (phase.planned - done, 0.25)]:
            if width := 100 * tokens / run.planned if run.planned else 0:
                parts.append({"phase": phase, "width": width, "opacity": opacity})
        start += phase.planned
    return parts


def _folder_tables(run: RunHistory) -> list[dict[str, Any]]:
    """One table per objective: the held-out loss on each validation folder, at the start and at the end of each phase."""
    tables = []
    for name, folders in run.metrics.by_folder.items():
        if not folders:
            continue
        ends = [(phase, phase.held_out.get(name, (None, None))[1]) for phase in run.phases]
        tokens = [0, *(point.tokens for _, point in ends if point)]
        every = {**folders, "all together": run.metrics.evaluations[name]}
        tables.append({
            "title": f"Held-out {run.held_out_label(name)}",
            "columns": ["start", *(f"end of {phase.name}" for phase, point in ends if point)],
            "rows": {
                folder: [f"{points[at]:.4f}" if at in points else None for at in tokens]
                for folder, points in every.items()
            },
        })  # fmt: skip
    return tables


def _variables(named: dict[str, str], objectives: list[str]) -> str:
    colors = {**named, **{f"objective-{index}": color for index, color in enumerate(objectives)}}
    return "".join(f"--{name}:{color};" for name, color in colors.items())
