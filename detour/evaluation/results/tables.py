"""Tables of scores and differences as Markdown, CSV and LaTeX. Scores are in points (times 100); every metric is named."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from detour.evaluation.metrics import title
from detour.evaluation.results.statistics import Comparison, Summary

NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task of a table of scores.

    Attributes:
        task: Its name.
        language: Its language.
        metric: The score's name, averaging included.
        summaries: By model; a model may be absent.
    """

    task: str
    language: str
    metric: str
    summaries: dict[str, Summary]


def scores_markdown(rows: Sequence[Row], models: Sequence[str]) -> str:
    """A line a task: mean ± standard deviation and the 95% interval of each model, the highest mean in bold if it is alone."""
    return _markdown(["task", "metric", "seeds", *models], _score_cells(rows, models, "**{}**".format, "±"))


def scores_latex(rows: Sequence[Row], models: Sequence[str]) -> str:
    """The same as a booktabs table."""
    cells = _score_cells(rows, models, "\\textbf{{{}}}".format, "$\\pm$")
    return _latex(["task", "metric", "seeds", *models], cells)


def scores_csv(rows: Sequence[Row]) -> str:
    """A line a task and model; scores as they are, not in points."""
    header = ["task", "language", "metric", "model", "seeds", "mean", "sd", "low", "high"]
    lines = [
        [row.task, row.language, row.metric, model, s.n, s.mean, s.sd, s.low, s.high]
        for row in rows
        for model, s in row.summaries.items()
    ]
    return _csv(header, lines)


def differences_markdown(comparison: Comparison, metrics: dict[str, str]) -> str:
    """A line a task: difference in points, interval, p values, and what so many seeds can show."""
    return _markdown(_HEADER, _difference_cells(comparison, metrics))


def differences_latex(comparison: Comparison, metrics: dict[str, str]) -> str:
    """The same as a booktabs table."""
    return _latex(_HEADER, _difference_cells(comparison, metrics))


def differences_csv(comparisons: Iterable[Comparison], metrics: dict[str, str]) -> str:
    """A line a comparison and task; differences as they are, not in points."""
    header = ["model", "baseline", "task", "metric", "seeds", "difference", "sd", "low", "high"]
    header += ["p", "p_holm", "minimum_detectable_effect", "seeds_needed"]
    lines = [
        [c.model, c.baseline, d.task, metrics[d.task], s.n, s.mean, s.sd, s.low, s.high, *tests]
        for c in comparisons
        for d in c.tasks
        for s, tests in [(d.summary, [d.p, d.p_holm, d.minimum_detectable_effect, d.seeds_needed])]
    ]
    return _csv(header, lines)


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
    """0.8234 -> "82.3"; a dash for what is not known."""
    return NONE if math.isnan(value) else f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def probability(p: float) -> str:
    return NONE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _score_cells(rows: Sequence[Row], models: Sequence[str], bold: Callable[[str], str], sign: str) -> list[list[str]]:
    lines = []
    for row in rows:
        shown = sorted((points(summary.mean) for summary in row.summaries.values()), key=float, reverse=True)
        best = shown[0] if len(shown) > 1 and shown[0] != shown[1] else None
        cells = []
        for model in models:
            if (s := row.summaries.get(model)) is None:
                cells.append(NONE)
                continue
            mean = bold(points(s.mean)) if points(s.mean) == best else points(s.mean)
            spread = f" {sign} {points(s.sd)} [{points(s.low)}, {points(s.high)}]"
            cells.append(mean if s.n == 1 else mean + spread)
        seeds = sorted({s.n for s in row.summaries.values()})
        lines.append([row.task, title(row.metric), " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]]))), *cells])
    return lines


def _difference_cells(comparison: Comparison, metrics: dict[str, str]) -> list[list[str]]:
    return [
        [
            d.task,
            title(metrics[d.task]),
            str(s.n),
            points(s.mean, sign=True),
            f"[{points(s.low, sign=True)}, {points(s.high, sign=True)}]" if s.n > 1 else NONE,
            probability(d.p),
            probability(d.p_holm),
            points(d.minimum_detectable_effect),
            NONE if d.seeds_needed is None else str(d.seeds_needed),
        ]
        for d in comparison.tasks
        for s in [d.summary]
    ]


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [header, *lines]]
    escaped.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _latex(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [" & ".join(map(_tex, line)) + " \\\\\n" for line in [header, *lines]]
    columns = "ll" + "r" * (len(header) - 2)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{rows[0]}\\midrule\n{''.join(rows[1:])}\\bottomrule\n\\end{{tabular}}\n"


def _tex(cell: str) -> str:
    for sign in "%&#_":
        cell = cell.replace(sign, f"\\{sign}")
    return cell.replace(NONE, "--").replace("<", "$<$")


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None or cell != cell else cell for cell in line] for line in lines])
    return text.getvalue()
