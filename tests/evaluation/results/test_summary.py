"""Tables and figures say what the records say."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from detour.errors import ConfigError, DataError
from detour.evaluation.data.task import load_task
from detour.evaluation.results import tables
from detour.evaluation.results.figures import reach
from detour.evaluation.results.statistics import compare, summarize
from detour.evaluation.results.summary import write_summary

SEEDS = (1, 2, 3, 4)


def score_of(model: str, task: str, seed: int) -> float:
    rng = np.random.default_rng([len(model), len(task), seed])
    return round(0.6 + 0.05 * len(task) / 10 + 0.02 * (model == "detour") + float(rng.normal(0, 0.01)), 6)


def write_records(out, *, models=("twin", "detour"), tasks=("bc5cdr", "hoc", "quaero_emea"), seeds=SEEDS, **changes):
    for model in models:
        for name in tasks:
            task = load_task(name)
            for seed in seeds:
                score = {task.metric: score_of(model, name, seed)}
                record = {
                    "format": 1,
                    "model": {"name": model, "sha256": model * 4},
                    "task": json.loads(json.dumps(task, default=vars)),
                    "data": {"sha256": "d", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []},
                    "seed": seed,
                    "outcome": {
                        "test": score, "validation": score, "epoch": 1, "max_length": task.max_length, "seconds": 1.0,
                        "truncated": {"train": 0, "dev": 0, "test": 0}, "unreadable": {}, "precision": "fp32",
                    },
                    "environment": {"detour": "0", "commit": None},
                    **changes,
                }  # fmt: skip
                path = out / "cells" / model / name / f"seed{seed}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(record))


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_tables_hold_the_means_and_intervals_of_the_records(tmp_path):
    write_records(tmp_path)
    page = write_summary(tmp_path, baseline="twin").read_text()
    rows = {(row["model"], row["task"]): row for row in read_csv(tmp_path / "scores.csv")}
    assert len(rows) == 6
    for (model, task), row in rows.items():
        values = [score_of(model, task, seed) for seed in SEEDS]
        low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
        assert [float(row[key]) for key in ("mean", "low", "high")] == pytest.approx([np.mean(values), low, high])
        assert f"{100 * np.mean(values):.1f}" in page
    for row in read_csv(tmp_path / "differences.csv"):
        pairs = [[score_of(model, row["task"], seed) for seed in SEEDS] for model in ("detour", "twin")]
        assert float(row["difference"]) == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
        assert float(row["p"]) == pytest.approx(stats.ttest_rel(*pairs).pvalue)
        assert float(row["p_holm"]) >= float(row["p"])
    assert "## detour minus twin" in page
    assert "With only 3 tasks, the bootstrap interval" in page


def test_every_table_names_the_averaging(tmp_path):
    write_records(tmp_path)
    write_summary(tmp_path, baseline="twin")
    for name in ("scores.md", "scores.tex", "differences_detour.md", "differences_detour.tex", "summary.md"):
        text = (tmp_path / name).read_text()
        assert "micro F1, exact spans" in text
        assert "samples F1" in text
    for name in ("scores.csv", "differences.csv", "results.csv"):
        assert {row["metric"] for row in read_csv(tmp_path / name)} == {"span_micro_f1", "samples_f1"}


def test_latex_holds_no_bare_sign(tmp_path):
    write_records(tmp_path)
    write_summary(tmp_path, baseline="twin")
    text = (tmp_path / "scores.tex").read_text()
    assert "quaero\\_emea" in text
    assert text.count("\\\\\n") == 4
    assert len({line.count(" & ") for line in text.splitlines() if line.endswith("\\\\")}) == 1
    assert "\\textbf{" in text


def test_the_forest_plot_is_drawn_as_picture_and_as_text(tmp_path):
    write_records(tmp_path)
    write_summary(tmp_path, baseline="twin")
    with Image.open(tmp_path / "forest_detour.png") as picture:
        assert picture.size[0] > 800
    svg = (tmp_path / "forest_detour.svg").read_text()
    for label in ("bc5cdr (micro F1, exact spans, n = 4)", "mean over tasks", "detour minus twin"):
        assert label in svg
    first = (tmp_path / "forest_detour.svg").read_bytes()
    write_summary(tmp_path, baseline="twin")
    assert (tmp_path / "forest_detour.svg").read_bytes() == first


def test_every_point_is_on_the_axis():
    """Of one seed there are no intervals to take the width from."""
    none = np.full((2, 2), np.nan)
    assert reach(np.array([-22.5, 18.8]), none, np.array([-5.1, 0.4])) > 22.5
    assert reach(np.array([0.1, -0.1]), none, np.array([-3.0, 3.0])) > 3.0
    assert 5 < reach(np.array([1.0, -1.0]), np.array([[-150.0, 152.0], [-2.0, 0.0]]), np.array([-1.0, 1.0])) < 10


def test_one_seed_gives_scores_without_intervals(tmp_path):
    write_records(tmp_path, seeds=(1,))
    page = write_summary(tmp_path, baseline="twin").read_text()
    assert "nan" not in page
    assert "does not include the variance between seeds" in page
    assert all(row["sd"] == "" for row in read_csv(tmp_path / "scores.csv"))


def test_the_page_says_how_many_seeds_a_gap_takes(tmp_path):
    write_records(tmp_path)
    page = write_summary(tmp_path, baseline="twin").read_text()
    tasks = ("bc5cdr", "hoc", "quaero_emea")
    pairs = [[score_of("detour", task, seed) - score_of("twin", task, seed) for seed in SEEDS] for task in tasks]
    spreads = sorted(np.std(differences, ddof=1) for differences in pairs)

    def needed(sd):
        for n in range(2, 1001):
            critical, shift = stats.t.ppf(0.975, n - 1), 0.01 / sd * math.sqrt(n)
            if stats.nct.sf(critical, n - 1, shift) > 0.8:
                return n
        return None

    assert f"; 1.0 points, {needed(spreads[0])} to {needed(spreads[-1])}; " in page
    write_records(tmp_path / "same", models=("twin", "same"), tasks=tasks, seeds=(1,))
    assert "given gap" not in write_summary(tmp_path / "same", baseline="twin").read_text()


def test_models_may_lack_tasks(tmp_path):
    write_records(tmp_path, models=("twin",))
    write_records(tmp_path, models=("detour",), tasks=("hoc",))
    page = write_summary(tmp_path, baseline="twin").read_text()
    assert "Mean over 1 tasks" in page
    assert next(line for line in page.splitlines() if line.startswith("| bc5cdr")).endswith("| – |")


def test_records_that_differ_are_not_put_together(tmp_path):
    write_records(tmp_path)
    other = {"sha256": "other", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []}
    write_records(tmp_path, models=("detour",), tasks=("hoc",), seeds=(5,), data=other)
    with pytest.raises(DataError, match=r"task 'hoc': .* differ in their data"):
        write_summary(tmp_path)
    (tmp_path / "cells" / "detour" / "hoc" / "seed5.json").unlink()
    write_records(tmp_path, models=("detour",), tasks=("hoc",), seeds=(5,), model={"name": "detour", "sha256": "x"})
    with pytest.raises(DataError, match="model 'detour': its records are of two models"):
        write_summary(tmp_path)


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(DataError, match="no records of finished cells"):
        write_summary(tmp_path)
    write_records(tmp_path)
    with pytest.raises(ConfigError, match=r"baseline 'twn': no such model; did you mean 'twin'\?"):
        write_summary(tmp_path, baseline="twn")
    write_records(tmp_path, models=("late",), seeds=(9,))
    with pytest.raises(ConfigError, match="late and twin have no task and seed in common"):
        write_summary(tmp_path, baseline="twin")


def test_what_a_reader_must_know_is_on_the_page(tmp_path):
    outcome = {
        "test": {"samples_f1": 0.5}, "validation": {"samples_f1": 0.5}, "epoch": 1, "max_length": 256, "seconds": 1.0,
        "truncated": {"train": 4, "dev": 0, "test": 1}, "unreadable": {"train": 0, "test": 3}, "precision": "bf16",
    }  # fmt: skip
    task = json.loads(json.dumps(load_task("hoc", ["limit.train=5"]), default=vars))
    write_records(tmp_path, models=("old",), tasks=("hoc",), outcome=outcome, task=task)
    page = write_summary(tmp_path).read_text()
    assert "texts truncated to 256 tokens: 4 of 9 train, 1 of 9 test" in page
    assert "inputs of 256 tokens, the maximum of the model; configured: 512" in page
    assert "3 words without a token" in page
    assert "limited to at most 5 train examples" in page


def test_cells_of_tables():
    assert tables.points(0.12345) == "12.3"
    assert tables.points(-0.001, sign=True) == "-0.1"
    assert tables.points(math.nan) == "–"
    assert [tables.probability(p) for p in (0.0001, 0.04567, math.nan)] == ["<0.001", "0.046", "–"]
    comparison = compare("a|b", {"t_1": {1: 0.5, 2: 0.7}}, "c", {"t_1": {1: 0.4, 2: 0.5}})
    lines = tables.differences_markdown(comparison, {"t_1": "accuracy"}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    row = tables.Row(task="t", language="en", metric="accuracy", summaries={"a|b": summarize([0.5])})
    assert "a\\|b" in tables.scores_markdown([row], ["a|b"])
