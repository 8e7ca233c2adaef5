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
