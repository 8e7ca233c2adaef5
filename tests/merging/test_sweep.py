"""The curve between two models, and the command line of merging."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from transformers import AutoModelForMaskedLM
from typer.testing import CliRunner

from data_prep.synthetic import generate
from detour.cli.main import app
from detour.errors import ConfigError, ModelError
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.masked_lm import held_out_probe
from detour.merging.sweep import draw_sweep, sweep


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "cases.jsonl"
    path.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in generate(documents=8, seed=11)))
    return path


def test_the_ends_of_the_curve_are_the_losses_of_the_two_models(models, text, tmp_path):
    a, b = models["a"].folder, models["b"].folder
    words = [
        "merge",
        "sweep",
        f"start={a}",
        f"end={b}",
        "--text",
        f"cases={text}",
        "--points",
        "0,0.5,1",
        "--window",
        64,
    ]
    done = run(*words, "--tokens", 3000, "--out", tmp_path / "s")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        f"sweep.{k}" for k in ("csv", "json", "png", "svg")
    ]
    rows = list(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text().splitlines()))
    assert [(row["t"], row["data"], row["metric"]) for row in rows] == [
        (t, "cases", "masked_loss") for t in ("0.0", "0.5", "1.0")
    ]
    texts = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    for row, folder in ((rows[0], a), (rows[2], b)):
        expected = held_out_probe(Frozen(folder, masked_lm=True), texts, window=64, single=2, max_tokens=3000)
        assert float(row["value"]) == expected.loss
    assert float(rows[0]["change"]) == float(rows[0]["low"]) == float(rows[0]["high"]) == 0
    assert float(rows[2]["change"]) == pytest.approx(float(rows[2]["value"]) - float(rows[0]["value"]))
    assert float(rows[2]["low"]) < float(rows[2]["change"]) < float(rows[2]["high"])
    record = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert record["inputs"]["models"] == {"start": models["a"].sha256, "end": models["b"].sha256}
    with pytest.raises(ConfigError, match="holds the result of other settings"):
        run(*words, "--tokens", 3001, "--out", tmp_path / "s")


def test_the_figure_shows_the_values(models, text):
    from detour.evaluation.probes.held_out_sets import read_sets

    rows = sweep(models["a"], models["b"], [0.0, 1.0], read_sets([f"cases={text}"]), window=64, tokens=300)
    (axes,) = draw_sweep(rows, ("a", "b")).axes
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0.0, 1.0]
    assert line.get_ydata().tolist() == [row.change for row in rows]
    assert axes.get_xlabel() == "weight of b"


@pytest.mark.parametrize("points", ["0.1,1", "0,0.5,0.5", "0,2", "0,x"])
def test_points_are_checked(models, text, tmp_path, points):
    with pytest.raises(ConfigError, match="points"):
        run("merge", "sweep", models["a"].folder, models["b"].folder, "--text", f"x={text}", "--points", points,
            "--out", tmp_path)  # fmt: skip


def test_a_sweep_of_nothing_and_texts_without_a_name_are_refused(models, text, tmp_path):
    folders = [models["a"].folder, models["b"].folder]
    with pytest.raises(ConfigError, match="no held-out texts and no tasks"):
        run("merge", "sweep", *folders, "--out", tmp_path)
    with pytest.raises(ConfigError, match="expected NAME=FILE"):
        run("merge", "sweep", *folders, "--text", text, "--out", tmp_path)


def test_models_are_merged_on_the_command_line(models, tmp_path):
    folders = [models[name].folder for name in "ab"]
    done = run("merge", "models", *folders, "--weights", "0.3,0.7", "--group", "head=1,0", "--out", tmp_path / "m")
    assert done.exit_code == 0, done.output
    a, b, got = (
        dict(AutoModelForMaskedLM.from_pretrained(folder).named_parameters()) for folder in (*folders, tmp_path / "m")
    )
    name = "model.layers.1.attn.Wo.weight"
    torch.testing.assert_close(got[name], 0.3 * a[name] + 0.7 * b[name])
    assert torch.equal(got["head.dense.weight"], a["head.dense.weight"])
    done = run("merge", "models", *folders, "--method", "ties", "--base", models["c"].folder, "--density", 0.5,
               "--out", tmp_path / "t")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "t" / "merge.json").read_text())["recipe"]["density"] == 0.5


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--density", "0.5"], "--density: the method 'linear' does not read it"),
        (["--group", "low"], "expected GROUP=WEIGHTS"),
        (["--group", "low=1,0", "--group", "low=0,1"], "the same group is given twice"),
        (["--weights", "half,half"], "--weights half,half: expected numbers"),
    ],
)
def test_options_that_nothing_would_read_are_refused(models, tmp_path, words, error):
    with pytest.raises(ConfigError, match=error):
        run("merge", "models", models["a"].folder, models["b"].folder, *words, "--out", tmp_path / "m")


def test_a_folder_that_is_not_empty_is_left_alone(models, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ModelError, match="exists and is not empty"):
        run("merge", "models", models["a"].folder, models["b"].folder, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
