"""A labeled task that the library has never seen: ten lines of YAML, and no code."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import DataError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import load_task

YAML = """\
name: interactions
language: fr
kind: classification
source: {kind: local, options: {path: interactions, columns: {text: phrase, label: relation}}}
negative_label: aucune
metric: micro_f1
max_length: 48
license: "internal"
split: {fractions: [0.6, 0.2, 0.2]}
training: {learning_rate: 3e-3, batch_size: 8, epochs: 1}
"""
LABELS = ["aucune", "augmente", "diminue"]


@pytest.fixture
def place(tmp_path):
    assert len(YAML.splitlines()) == 10
    (tmp_path / "interactions.yaml").write_text(YAML)
    folder = tmp_path / "data" / "interactions"
    folder.mkdir(parents=True)
    lines = [
        {"id": str(i), "phrase": f"Le produit {i} {LABELS[i % 3]} un effet.", "relation": LABELS[i % 3]}
        for i in range(40)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "task.json").write_text(json.dumps({"labels": LABELS}))
    return tmp_path


def test_it_is_fine_tuned_and_scored_without_its_negative_label(place, encoder):
    done = CliRunner().invoke(
        app,
        ["eval", "run", f"tiny={encoder}", "--task", str(place / "interactions.yaml"), "--data", str(place / "data"),
         "--seeds", "1", "--out", str(place / "scores")],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((place / "scores" / "cells" / "tiny" / "interactions" / "seed42.json").read_text())
    assert record["data"]["labels"] == LABELS
    assert record["data"]["counts"] == {"train": 24, "dev": 8, "test": 8}
    saved = json.loads((place / "scores" / "cells" / "tiny" / "interactions" / "predictions-seed42.json").read_text())
    true = {str(i): LABELS[i % 3] for i in range(40)}
    pairs = [(true[id], guess) for id, guess in zip(saved["ids"], saved["predictions"], strict=True)]
    hits = sum(a == b != "aucune" for a, b in pairs)
    named = sum(a != "aucune" for a, _ in pairs) + sum(b != "aucune" for _, b in pairs)
    assert record["outcome"]["test"]["micro_f1"] == pytest.approx(2 * hits / named if hits else 0)


def test_a_negative_label_that_the_data_does_not_declare_is_refused(place):
    path = place / "interactions.yaml"
    path.write_text(YAML.replace("negative_label: aucune", "negative_label: aucun"))
    with pytest.raises(
        DataError, match=r"negative_label is 'aucun'; did you mean 'aucune'\?, expected one of its labels"
    ):
        load_dataset(load_task(path), place / "data")


NESTED = """\
name: findings
language: fr
kind: nested_ner
source: {kind: brat, options: {path: findings, folders: {train: all}, lines: true}}
metric: exact_micro_f1
selection_metric: partial_micro_f1
max_length: 48
license: "internal"
split: {fractions: [0.6, 0.2, 0.2]}
training: {head: span, head_learning_rate: 1e-3, batch_size: 4, steps: 2, eval_steps: 1}
"""


def test_nested_entities_of_brat_files_take_ten_lines_too(tmp_path, encoder):
    assert len(NESTED.splitlines()) == 10
    (tmp_path / "findings.yaml").write_text(NESTED)
    folder = tmp_path / "findings" / "all"
    folder.mkdir(parents=True)
    for i in range(10):
        (folder / f"{i}.txt").write_text("douleur du rein\nrein\n")
        (folder / f"{i}.ann").write_text(
            "T1\tSIGN 0 15\tdouleur du rein\nT2\tORGAN 11 15\trein\nT3\tORGAN 16 20\trein\n"
        )
    done = CliRunner().invoke(
        app,
        ["eval", "run", f"tiny={encoder}", "--task", str(tmp_path / "findings.yaml"), "--data", str(tmp_path),
         "--seeds", "1", "--out", str(tmp_path / "scores")],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "scores" / "cells" / "tiny" / "findings" / "seed42.json").read_text())
    assert record["data"]["labels"] == ["ORGAN", "SIGN"]
    assert record["data"]["counts"] == {"train": 12, "dev": 4, "test": 4}  # documents are not divided
    assert len(record["outcome"]["curve"]) == 2


TABLE = """\
name: urgence
language: fr
kind: multilabel
source: {kind: local, options: {path: appels, files: {train: appels 2024}, columns: {text: Motif d'appel, labels: "Étiquettes"}}}
metric: macro_f1
max_length: 48
license: "internal"
split: {fractions: [0.6, 0.2, 0.2]}
training: {learning_rate: 3e-3, batch_size: 8, epochs: 1}
"""
COLUMNS = """\
name: signes
language: fr
kind: ner
source: {kind: conll, options: {path: signes, files: {train: all.bio}, word_column: 1, tag_column: 3, scheme: bioes}}
metric: span_micro_f1
max_length: 48
license: "internal"
split: {fractions: [0.6, 0.2, 0.2]}
training: {learning_rate: 3e-3, batch_size: 8, epochs: 1}
"""


def test_a_table_of_a_spreadsheet_and_columns_of_another_order_take_ten_lines_too(tmp_path, encoder):
    """Columns with spaces and accents, several labels in a cell; a tag scheme and an order of columns of one's own."""
    assert max(len(TABLE.splitlines()), len(COLUMNS.splitlines())) <= 10
    (tmp_path / "urgence.yaml").write_text(TABLE)
    (tmp_path / "signes.yaml").write_text(COLUMNS)
    rows = [f'{i},"douleur, {i}",{["chute; douleur", "chute", ""][i % 3]}' for i in range(20)]
    for name, file, text in (
        ("appels", "appels 2024.csv", "\n".join(["N°,Motif d'appel,Étiquettes", *rows])),
        ("signes", "all.bio", "1 douleur NC B-SIGNE\n2 aigue ADJ E-SIGNE\n3 hier ADV O\n\n" * 20),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text, encoding="utf-8")
    tasks = [part for name in ("urgence", "signes") for part in ("--task", str(tmp_path / f"{name}.yaml"))]
    done = CliRunner().invoke(
        app,
        ["eval", "run", f"tiny={encoder}", *tasks, "--data", str(tmp_path), "--seeds", "1", "--out", str(tmp_path / "scores")],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = {
        name: json.loads((tmp_path / "scores" / "cells" / "tiny" / name / "seed42.json").read_text())
        for name in ("urgence", "signes")
    }
    assert records["urgence"]["data"]["labels"] == ["chute", "douleur"]
    assert records["signes"]["data"]["labels"] == ["O", "B-SIGNE", "I-SIGNE"]
    assert all(record["data"]["counts"] == {"train": 12, "dev": 4, "test": 4} for record in records.values())
