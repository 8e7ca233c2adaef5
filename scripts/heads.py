"""Tables of docs/results/heads.md: heads for named entities side by side, and how many entities each could return at all.

    python scripts/heads.py EVALUATIONS TASKS ENCODER OUT

EVALUATIONS holds a folder of `detour eval run --suite yamls/heads/suite.yaml` for each head; TASKS the labeled tasks; ENCODER is
the model, of which only the tokenizer is read. Writes OUT/heads/cells.csv (a line for each cell) and OUT/heads/entities.csv, and
puts the tables into OUT/heads.md, between its markers.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from detour.batch import IGNORE
from detour.data.tokenizer import load_tokenizer
from detour.evaluation.data.dataset import Dataset, load_dataset
from detour.evaluation.data.examples import Example, Span
from detour.evaluation.data.nested import as_words, spans_of_words
from detour.evaluation.data.span_features import encode_spans
from detour.evaluation.data.task import Task, load_suite
from detour.evaluation.finetune.scoring import predictions_of
from detour.evaluation.results.statistics import compare, summarize
from detour.evaluation.results.tables import FOOTNOTE, NONE, csv_table, markdown_table, points, probability
from detour.evaluation.suite import read_records
from detour.files import write_text

SUITE = Path(__file__).parents[1] / "yamls" / "heads" / "suite.yaml"
METRICS = ("exact_micro_f1", "exact_macro_f1", "partial_micro_f1", "partial_macro_f1")
FIELDS = ("task", "head", "seed", *METRICS, "exact_micro_precision", "exact_micro_recall", "degenerate", "seconds")
HEADS = ("linear", "bilstm_crf", "span")
Row = Mapping[str, Any]


def cells(evaluations: Path) -> list[Row]:
    """One row for each cell of any folder in ``evaluations``; raises DataError for a folder without records."""
    rows = []
    for folder in sorted(path for path in evaluations.iterdir() if path.is_dir()):
        for record in read_records(folder):
            outcome = record["outcome"]
            row = {"task": record["task"]["name"], "head": record["task"]["training"]["head"], "seed": record["seed"]}
            row |= {key: outcome["test"][key] for key in FIELDS if key in outcome["test"]}
            rows.append(row | {"degenerate": outcome["degenerate"] or "", "seconds": outcome["seconds"]})
    return sorted(rows, key=lambda row: (row["task"], HEADS.index(row["head"]), row["seed"]))


def scores_table(rows: Sequence[Row]) -> str:
    """A line for each task, metric, and head: mean, standard deviation, and 95% t interval over seeds."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        for metric in METRICS:
            found = []
            for head in HEADS:
                own = [row for row in rows if (row["task"], row["head"]) == (task, head)]
                if not own:
                    found.append(NONE)
                    continue
                s = summarize([float(row[metric]) for row in own])
                mark = " †" if any(row["degenerate"] for row in own) else ""
                found.append(f"{points(s.mean)} ± {points(s.sd)} [{points(s.low)}, {points(s.high)}]{mark}")
            lines.append([f"`{task}`", metric.replace("_f1", " F1").replace("_", " "), *found])
    foot = f"\n{FOOTNOTE}\n" if any(row["degenerate"] for row in rows) else ""
    return markdown_table(["task", "score", *HEADS], lines) + foot


def differences_table(rows: Sequence[Row]) -> str:
    """Each pair of heads that have cells, the later minus the earlier: exact micro F1, paired by seed."""
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        scores.setdefault(row["head"], {}).setdefault(row["task"], {})[int(row["seed"])] = float(row["exact_micro_f1"])
    lines = []
    for other, head in combinations([head for head in HEADS if head in scores], 2):
        if not any(scores[head][task].keys() & scores[other].get(task, {}).keys() for task in scores[head]):
            continue
        for each in compare(head, scores[head], other, scores[other]).tasks:
            s = each.summary
            interval = f"[{points(s.low, sign=True)}, {points(s.high, sign=True)}]"
            cells = [points(s.mean, sign=True), interval, probability(each.p_holm)]
            mark = (
                " †"
                if any(row["degenerate"] for row in rows if row["task"] == each.task and row["head"] in (head, other))
                else ""
            )
            lines.append([f"`{each.task}`{mark}", f"{head} - {other}", *cells])
    return markdown_table(["task", "heads", "difference", "95% interval", "p (Holm, by pair)"], lines)


def entities(task: Task, data: Dataset, tokenizer: Any) -> Row:
    """Counts of entities over all splits: annotated, nested, and those that come back if a head makes no mistake.

    ``tags``: from the tags that heads over words are trained on. ``span_targets``: expressed by the span head's targets.
    ``span``: decoded from these with probability 1. Those with ``nested_`` lie in a longer entity.
    """
    names = ("entities", "nested", "two_types", "tags", "nested_tags", "span_targets", "span", "nested_span")
    count = dict.fromkeys([*map(str, names)], 0)
    words = as_words(task, data)[1]
    for split, examples in data.splits.items():
        encoded = encode_spans(tokenizer, examples, data.labels, max_length=task.max_length)
        count["span_targets"] += sum(len(example.target) for example in examples) - encoded.unreadable  # type: ignore[arg-type]
        spans = predictions_of(task, data, encoded, _perfect(encoded.features))
        tags = spans_of_words(examples, [example.target for example in words.splits[split]])  # type: ignore[misc]
        for example, by_tags, by_span in zip(examples, tags, spans, strict=True):
            true = set(_spans(example))
            inner = {span for span in true if any(_inside(span, other) for other in true)}
            twice = {span for span in true if any(span[:2] == other[:2] and span != other for other in true)}
            found = {"entities": true, "nested": inner, "two_types": twice}
            for name, guess in (("tags", by_tags), ("span", by_span)):
                found |= {name: true & set(guess), f"nested_{name}": inner & set(guess)}
            for name, those in found.items():
                count[name] += len(those)
    return {"task": task.name, **count}


def _spans(example: Example) -> Iterable[Span]:
    return example.target  # type: ignore[return-value]


def _inside(span: Span, other: Span) -> bool:
    return other.start <= span.start and span.end <= other.end and span[:2] != other[:2]


def _perfect(features: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Logits of the span head that has learned the entities of every window: one type for each span, the first."""
    rows = [[(*place, kind, 1.0) for place, kind in _first_types(feature["entities"]).items()] for feature in features]
    most = max([1, *map(len, rows)])
    return np.array([row + [(IGNORE,) * 4] * (most - len(row)) for row in rows])


def _first_types(found: Sequence[Sequence[int]]) -> dict[tuple[int, int], int]:
    types: dict[tuple[int, int], int] = {}
    for first, last, kind in sorted(found, key=lambda each: each[2]):
        types.setdefault((first, last), kind)
    return types


def entities_table(counts: Sequence[Row]) -> str:
    """A line for each task: entities, nested ones, and of each the number that heads without mistakes would return."""

    def of(row: Row, key: str, total: str) -> str:
        return f"{int(row[key]):,} ({100 * int(row[key]) / max(1, int(row[total])):.1f}%)"

    lines = [
        [
            f"`{row['task']}`",
            f"{int(row['entities']):,}",
            of(row, "nested", "entities"),
            f"{int(row['two_types']):,}",
            of(row, "tags", "entities"),
            of(row, "nested_tags", "nested"),
            of(row, "span_targets", "entities"),
            of(row, "span", "entities"),
            of(row, "nested_span", "nested"),
        ]
        for row in counts
    ]
    header = ["task", "entities", "nested", "of two types", "by tags", "nested by tags", "in span targets", "by spans"]
    return markdown_table([*header, "nested by spans"], lines)


def fill(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between its markers, ``<!-- table NAME -->`` and ``<!-- end -->``."""
    for name, table in tables.items():
        begin = f"<!-- table {name} -->\n"
        parts = re.split(rf"{begin}.*?<!-- end -->", page, flags=re.DOTALL)
        if len(parts) != 2:
            sys.exit(f"the page has {len(parts) - 1} places for the table {name}, expected one")
        page = f"{begin}{table}<!-- end -->".join(parts)
    return page


def tables_of(rows: Sequence[Row], counts: Sequence[Row]) -> dict[str, str]:
    """Every table of the page, from the lines of both CSV files."""
    return {"scores": scores_table(rows), "differences": differences_table(rows), "entities": entities_table(counts)}


def main(evaluations: Path, tasks: Path, encoder: Path, out: Path) -> None:
    """Writes both CSV files and the tables of the page."""
    rows, tokenizer = cells(evaluations), load_tokenizer(encoder)
    overrides = ["limit.train=0", "limit.dev=0", "limit.test=0"]
    counts = [entities(task, _read(task, tasks), tokenizer) for task in load_suite(SUITE, overrides)]
    write_text(out / "heads" / "cells.csv", csv_table(FIELDS, ([row[key] for key in FIELDS] for row in rows)))
    write_text(out / "heads" / "entities.csv", csv_table(list(counts[0]), (list(row.values()) for row in counts)))
    page = out / "heads.md"
    write_text(page, fill(page.read_text(encoding="utf-8"), tables_of(*read(out / "heads"))))
    print(page)


def read(folder: Path) -> tuple[list[Row], list[Row]]:
    """The lines of both CSV files."""
    texts = [(folder / f"{name}.csv").read_text(encoding="utf-8") for name in ("cells", "entities")]
    rows, counts = (list(csv.DictReader(text.splitlines())) for text in texts)
    return [*rows], [*counts]


def _read(task: Task, root: Path) -> Dataset:
    return load_dataset(replace(task, training=replace(task.training, head="span")), root)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python scripts/heads.py EVALUATIONS TASKS ENCODER OUT")
    main(*map(Path, sys.argv[1:]))
