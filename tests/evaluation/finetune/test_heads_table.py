"""scripts/heads.py: the tables of docs/results/heads.md, from counts by hand and intervals by scipy."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from detour.evaluation import suite
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example, Span
from detour.evaluation.data.task import load_suite, load_task
from detour.evaluation.models import Model

ROOT = Path(__file__).parents[3]
HEADS = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "heads.py")))
RESULTS = ROOT / "docs" / "results"


def test_the_tasks_differ_in_their_data_alone():
    tasks = load_suite(HEADS.SUITE)
    assert [task.name for task in tasks] == ["quaero_emea", "quaero_medline", "fracco"]
    for task in tasks:
        assert (task.kind, task.metric) == ("nested_ner", "exact_micro_f1")
        assert (task.training, task.limit, task.max_length) == (tasks[0].training, tasks[0].limit, tasks[0].max_length)


def test_entities_that_each_head_could_return_are_those_of_a_hand_count(word_tokenizer):
    """A lies in nothing; B and the second A in it, with one place that has two types; one entity begins inside a word."""
    tokenizer = word_tokenizer(["cancer", "du", "sein", "gauche"], model_max_length=64)
    spans = (Span(0, 21, "A"), Span(10, 14, "A"), Span(10, 14, "C"), Span(10, 21, "B"), Span(15, 21, "A"))
    one = Example(id="1", parts=("cancer du sein gauche",), target=spans)
    two = Example(id="2", parts=("sein du cancer",), target=(Span(1, 4, "B"), Span(8, 14, "C")))
    data = Dataset(splits={"train": [one], "dev": [], "test": [two]}, labels=["A", "B", "C"], sha256="")
    found = HEADS.entities(load_task(ROOT / "yamls" / "heads" / "quaero_medline.yaml"), data, tokenizer)
    assert found == {
        "task": "quaero_medline",
        "entities": 7,
        "nested": 4,  # all of the first text but the outermost
        "two_types": 2,
        "tags": 2,  # the outermost, and C of the second text; B is extended to its word
        "nested_tags": 0,
        "span_targets": 6,  # not the one that begins inside a word
        "span": 3,  # of a type the longest stays, and one type of a place
        "nested_span": 1,
    }
    (line,) = HEADS.entities_table([found]).splitlines()[2:]
    assert line.startswith(
        "| `quaero_medline` | 7 | 4 (57.1%) | 2 | 2 (28.6%) | 0 (0.0%) | 6 (85.7%) | 3 (42.9%) | 1 (25.0%) |"
    )


SCORES = {"linear": [0.1, 0.2, 0.3], "bilstm_crf": [0.3, 0.2, 0.1], "span": [0.2, 0.4, 0.5]}


def write_records(out: Path) -> None:
    """Records of cells as `detour eval run` writes them, with the scores above."""
    for head, scores in SCORES.items():
        task = load_task(HEADS.SUITE.parent / "fracco.yaml", [f"training.head={head}"])
        for seed, score in enumerate(scores):
            data = SimpleNamespace(sha256="d", counts={"train": 3, "dev": 1, "test": 1}, labels=["A"])
            cell = suite.Cell(model=Model(name="m", folder=out, sha256="0"), task=task, data=data, seed=seed)  # type: ignore[arg-type]
            test = {"exact_micro_f1": score, "exact_macro_f1": 0.0, "partial_micro_f1": 0.0, "partial_macro_f1": 0.0}
            test |= {"exact_micro_precision": 0.5, "exact_micro_recall": 0.5}
            outcome = {"test": test, "validation": test, "epoch": 1, "curve": [score], "max_length": 64, "steps": 1}
            outcome |= {"truncated": {}, "windows": {}, "unreadable": {}, "seconds": 2.0, "precision": "fp32"}
            outcome["degenerate"] = "empty" if (head, seed) == ("linear", 0) else None
            record = {"format": suite.FORMAT, **cell.identity, "outcome": outcome}
            record["environment"] = {"detour": "0", "commit": "0"}
            path = cell.path(out / head)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))


def test_scores_are_means_with_t_intervals_and_differences_are_paired(tmp_path):
    write_records(tmp_path)
    rows = HEADS.cells(tmp_path)
    assert len(rows) == 9
    table = HEADS.scores_table(rows)
    for head, mark in (("linear", " †"), ("bilstm_crf", ""), ("span", "")):
        values = np.array(SCORES[head])
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        expected = (
            f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f} [{100 * low:.1f}, {100 * high:.1f}]{mark} |"
        )
        assert expected in table.splitlines()[2]
    assert "degenerate" in table
    lines = HEADS.differences_table(rows).splitlines()[2:]
    pairs = [("bilstm_crf", "linear"), ("span", "linear"), ("span", "bilstm_crf")]
    for line, (head, other) in zip(lines, pairs, strict=True):
        differences = np.array(SCORES[head]) - SCORES[other]
        mark = " †" if "linear" in (head, other) else ""
        assert f"| `fracco`{mark} | {head} - {other} | {100 * differences.mean():+.1f} |" in line
        assert line.endswith(f"| {stats.ttest_1samp(differences, 0).pvalue:.3f} |")
    some = [row for row in rows if row["head"] != "bilstm_crf"]
    assert "| – |" in HEADS.scores_table(some)
    assert HEADS.differences_table(some).splitlines()[2:] == [lines[1]]


def test_a_page_gets_each_table_between_its_markers_once():
    page = "a\n<!-- table x -->\n<!-- end -->\nb\n<!-- table y -->\nold\n<!-- end -->\n"
    filled = "a\n<!-- table x -->\n1\n<!-- end -->\nb\n<!-- table y -->\n2\n<!-- end -->\n"
    assert HEADS.fill(page, {"x": "1\n", "y": "2\n"}) == filled
    with pytest.raises(SystemExit, match="0 places for the table z"):
        HEADS.fill(page, {"z": ""})


def test_the_tables_of_the_page_are_those_of_its_numbers():
    page = (RESULTS / "heads.md").read_text()
    assert HEADS.fill(page, HEADS.tables_of(*HEADS.read(RESULTS / "heads"))) == page
