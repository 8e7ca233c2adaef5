"""Tables of scores and differences as Markdown, CSV and LaTeX. Scores are in points (times 100); every metric is named."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detour.evaluation.metrics import title
from detour.evaluation.results.statistics import Comparison, Summary
from detour.markup import latex, markdown, spreadsheet

NONE = "–"
Flagged = Mapping[tuple[str, str], int]  # (model or arm, task) -> cells whose predictions are one class only, or empty
NO_FLAGS: Flagged = {}
FOOTNOTE = "†: in some cells the predictions are one class only, or empty (degenerate): the score says nothing."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task of a table of scores.

    Attributes:
        task: Its name.
        language: Its language.
        metric: The score's name, averaging included.
        summaries: By model; a model may be absent.
        degenerate: Cells of each model whose predictions are one class only, or empty; models without one may be absent.
        best: The model that is clearly better than every other (`detour.evaluation.results.statistics.clear_best`), or None.
    """

    task: str
    language: str
    metric: str
    summaries: dict[str, Summary]
    best: str | None = None
    degenerate: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Form:
    """Markup of a table's cells.

    Attributes:
        escape: Escapes a text, so that it is shown literally.
        bold: Sets an escaped text in bold.
        spread: Sign between a mean and its standard deviation.
        mark: Marks a degenerate score.
    """

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    spread: str
    mark: str


MARKDOWN = Form(escape=markdown, bold="**{}**".format, spread="±", mark=" †")
LATEX = Form(escape=latex, bold="\\textbf{{{}}}".format, spread="$\\pm$", mark="$^\\dagger$")


def scores_markdown(rows: Sequence[Row], models: Sequence[str]) -> str:
    """One line per task: mean ± standard deviation and 95% interval of each model; a clear best (`Row.best`) in bold."""
    return markdown_table(["task", "metric", "seeds", *models], _score_cells(rows, models, MARKDOWN))


def scores_latex(rows: Sequence[Row], models: Sequence[str]) -> str:
    """The same as a booktabs table."""
    return latex_table(["task", "metric", "seeds", *models], _score_cells(rows, models, LATEX))


def scores_csv(rows: Sequence[Row]) -> str:
    """One line per task and model; scores in their own unit, not in points."""
    header = ["task", "language", "metric", "model", "seeds", "mean", "sd", "low", "high", "degenerate"]
    lines = [
        [row.task, row.language, row.metric, model, s.n, s.mean, s.sd, s.low, s.high, row.degenerate.get(model, 0)]
        for row in rows
        for model, s in row.summaries.items()
    ]
    return csv_table(header, lines)


def differences_markdown(comparison: Comparison, metrics: dict[str, str], flagged: Flagged = NO_FLAGS) -> str:
    """One line per task: difference in points, interval, p values, minimum detectable effect, and seeds needed."""
    return markdown_table(_HEADER, _difference_cells(comparison, metrics, MARKDOWN, flagged))


def differences_latex(comparison: Comparison, metrics: dict[str, str], flagged: Flagged = NO_FLAGS) -> str:
    """The same as a booktabs table."""
    return latex_table(_HEADER, _difference_cells(comparison, metrics, LATEX, flagged))


def differences_csv(comparisons: Iterable[Comparison], metrics: dict[str, str], flagged: Flagged = NO_FLAGS) -> str:
    """One line per comparison and task; differences in the unit of the score, not in points."""
    header = ["model", "baseline", "task", "metric", "seeds", "difference", "sd", "low", "high"]
    header += ["p", "p_holm", "minimum_detectable_effect", "seeds_needed", "degenerate"]
    lines = [
        [c.model, c.baseline, d.task, metrics[d.task], s.n, s.mean, s.sd, s.low, s.high, *tests]
        for c in comparisons
        for d in c.tasks
        for s, tests in [
            (
                d.summary,
                [
                    d.p,
                    d.p_holm,
                    d.minimum_detectable_effect,
                    d.seeds_needed,
                    flags_of(flagged, (c.model, c.baseline), d.task),
                ],
            )
        ]
    ]
    return csv_table(header, lines)


_HEADER = [
    "task",
    "metric",
    "seeds",
    "difference",
    "95% interval",
    "p",
    "p (Holm)",
    "minimum detectable effect",
    "seeds needed",
]


def points(value: float, *, sign: bool = False) -> str:
    """0.8234 -> "82.3"; nan becomes a dash."""
    return NONE if math.isnan(value) else f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def probability(p: float) -> str:
    return NONE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _score_cells(rows: Sequence[Row], models: Sequence[str], form: Form) -> list[list[str]]:
    lines = []
    for row in rows:
        cells = []
        for model in models:
            if (s := row.summaries.get(model)) is None:
                cells.append(form.escape(NONE))
                continue
            mean = form.escape(points(s.mean))
            mean = form.bold(mean) if model == row.best else mean
            spread = f" {form.spread} {points(s.sd)} [{points(s.low)}, {points(s.high)}]"
            cells.append((mean if s.n == 1 else mean + spread) + (form.mark if row.degenerate.get(model) else ""))
        seeds = sorted({s.n for s in row.summaries.values()})
        counts = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
        lines.append([form.escape(row.task), form.escape(title(row.metric)), counts, *cells])
    return lines


def degenerate_cells(
    records: Iterable[Mapping[str, Any]], name_of: Callable[[str], str] = lambda name: name
) -> dict[tuple[str, str], int]:
    """Degenerate cells of each model, or of what ``name_of`` makes of its name, and task."""
    return Counter(
        (name_of(record["model"]["name"]), record["task"]["name"])
        for record in records
        if record["outcome"].get("degenerate")
    )


def flags_of(flagged: Flagged, names: Iterable[str], task: str) -> int:
    """Degenerate cells of some models or arms on a task."""
    return sum(flagged.get((name, task), 0) for name in names)


def _difference_cells(comparison: Comparison, metrics: dict[str, str], form: Form, flagged: Flagged) -> list[list[str]]:
    both = (comparison.model, comparison.baseline)
    return [
        [
            form.escape(d.task) + (form.mark if flags_of(flagged, both, d.task) else ""),
            *map(form.escape, (title(metrics[d.task]), str(s.n), points(s.mean, sign=True))),
            f"[{points(s.low, sign=True)}, {points(s.high, sign=True)}]" if s.n > 1 else form.escape(NONE),
            *map(form.escape, (probability(d.p), probability(d.p_holm), points(d.minimum_detectable_effect))),
            form.escape(NONE if d.seeds_needed is None else str(d.seeds_needed)),
        ]
        for d in comparison.tasks
        for s in [d.summary]
    ]


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown; the header is plain text and is escaped."""
    whole = [[markdown(cell) for cell in header], ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in whole)


def latex_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A booktabs table. Cells are LaTeX; the header is plain text and is escaped."""
    rows = [" & ".join(line) + " \\\\\n" for line in [[latex(cell) for cell in header], *lines]]
    columns = "ll" + "r" * (len(header) - 2)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{rows[0]}\\midrule\n{''.join(rows[1:])}\\bottomrule\n\\end{{tabular}}\n"


def csv_table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A CSV table. None and nan become empty cells; formulas are escaped (`spreadsheet`)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None or cell != cell else spreadsheet(cell) for cell in line] for line in lines])
    return text.getvalue()
