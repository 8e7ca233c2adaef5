"""Predictions that say nothing are recognized, and marked in every file of a folder of scores."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import pytest

from detour.evaluation.data.task import load_task
from detour.evaluation.finetune.scoring import degenerate
from detour.evaluation.results.summary import write_summary


@pytest.mark.parametrize(
    ("kind", "targets", "predictions", "expected"),
    [
        ("classification", ["a", "b", "a"], ["a", "a", "a"], "one class"),
        ("classification", ["a", "b", "a"], ["a", "a", "b"], None),
        ("classification", ["a", "a", "a"], ["a", "a", "a"], None),  # there is nothing else to find
        ("multilabel", [("a",), ("a", "b"), ()], [[], [], []], "empty"),
        ("multilabel", [("a",), ("a", "b"), ()], [["b", "a"], ["a", "b"], ["a", "b"]], "one class"),
        ("multilabel", [("a",), ("a", "b"), ()], [["a"], [], []], None),
        ("ner", [("B-X", "O"), ("O", "O")], [["O", "O"], ["O", "O"]], "empty"),
        ("ner", [("B-X", "O"), ("O", "O")], [["O", "O"], ["O", "B-X"]], None),
        ("ner", [("O", "O")], [["O", "O"]], None),
        ("similarity", [0.0, 1.0], [0.5, 0.5], "one value"),
        ("similarity", [0.0, 1.0], [0.5, 0.6], None),
    ],
)
def test_predictions_that_say_nothing(kind, targets, predictions, expected):
    data = SimpleNamespace(splits={"test": [SimpleNamespace(target=target) for target in targets]})
    assert degenerate(SimpleNamespace(kind=kind), data, "test", predictions) == expected  # type: ignore[arg-type]


def write_cells(out, models, broken):
    for model in models:
        for name in ("bc5cdr", "hoc"):
            task = load_task(name)
            for seed in (1, 2):
                value = 0.5 + 0.01 * seed + 0.1 * (model == models[-1])
                outcome = {
                    "test": {task.metric: value}, "validation": {task.metric: value}, "epoch": 1, "seconds": 1.0,
                    "max_length": task.max_length, "truncated": {}, "unreadable": {}, "precision": "fp32",
                }  # fmt: skip
                if (model, name, seed) in broken:
                    outcome["degenerate"] = "empty"  # the others are records of an earlier version, which did not say
                path = out / "cells" / model / name / f"seed{seed}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({
                    "format": 1, "model": {"name": model, "sha256": model}, "task": json.loads(json.dumps(task, default=vars)),
                    "data": {"sha256": "d", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []}, "seed": seed,
                    "outcome": outcome, "environment": {"detour": "0", "commit": None},
                }))  # fmt: skip


def marked(text):
    return sum("†" in line or "dagger" in line for line in text.splitlines() if line.startswith(("|", "hoc", "bc5cdr")))


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_table_of_two_models_marks_a_degenerate_cell(tmp_path):
    write_cells(tmp_path, ("twin", "detour"), {("twin", "hoc", 2)})
    page = write_summary(tmp_path, baseline="twin").read_text()
    for name in ("scores.md", "scores.tex", "differences_detour.md", "differences_detour.tex"):
        assert marked((tmp_path / name).read_text()) == 1, name
    assert "hoc, twin, seed 2: degenerate, the test predictions are empty" in page
    assert "†: in some cells the predictions are one class only, or empty" in page
    cells = {(r["model"], r["task"], r["seed"]): r["degenerate"] for r in rows_of(tmp_path / "results.csv")}
    assert {key for key, value in cells.items() if value} == {("twin", "hoc", "2")}
    assert {(r["model"], r["task"]): r["degenerate"] for r in rows_of(tmp_path / "scores.csv")}[("twin", "hoc")] == "1"
    assert {r["task"]: r["degenerate"] for r in rows_of(tmp_path / "differences.csv")} == {"bc5cdr": "0", "hoc": "1"}


def test_every_table_of_arms_marks_a_degenerate_cell(tmp_path):
    models = ("twin@1", "twin@2", "detour@1", "detour@2")
    write_cells(tmp_path, models, {("detour@2", "bc5cdr", 1)})
    write_summary(tmp_path, baseline="twin")
    for name in ("arms.md", "arms.tex", "arms_detour.md", "arms_detour.tex"):
        lines = [line for line in (tmp_path / name).read_text().splitlines() if "†" in line or "dagger" in line]
        assert [line.strip("| ")[:4] for line in lines] == ["bc5c", "mean"], name
    assert {(r["arm"], r["task"]): r["degenerate"] for r in rows_of(tmp_path / "arms.csv")}[("detour", "bc5cdr")] == "1"
    found = {r["task"]: r for r in rows_of(tmp_path / "arms_differences.csv")}
    assert {name: r["degenerate"] for name, r in found.items()} == {"bc5cdr": "1", "hoc": "0", "mean over tasks": "1"}
    assert (
        "In 1 of 16 cells the predictions are one class only" in found["mean over tasks"]["sentence"]
    )  # 2 x 2 x 2 x 2
    assert "In 1 of 8 cells" in found["bc5cdr"]["sentence"]


def test_scores_without_degenerate_cells_have_no_mark(tmp_path):
    write_cells(tmp_path, ("twin", "detour"), set())
    assert "†" not in write_summary(tmp_path, baseline="twin").read_text()
