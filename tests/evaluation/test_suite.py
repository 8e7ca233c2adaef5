"""A suite is done cell by cell, goes on where it stopped, and mixes nothing that was made differently."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from detour.cli import app, main
from detour.errors import ConfigError, DataError, ModelError
from detour.evaluation import finetune as training
from detour.evaluation import suite
from detour.evaluation.finetune import Outcome
from detour.evaluation.models import folder_hash, resolve
from detour.evaluation.task import load_suite


@pytest.fixture
def trained(monkeypatch):
    """Puts a computed score in place of training; the list of (model, task, seed) that were asked for."""
    asked = []

    def pretend(folder, task, data, *, seed, progress):
        asked.append((folder.name, task.name, seed))
        score = 0.5 + 0.01 * seed + 0.1 * (folder.name == "detour")
        progress(1, 1)
        return Outcome(
            test={task.metric: score}, validation={task.metric: score}, epoch=1, curve=[score], max_length=64,
            truncated={"train": 2, "dev": 0, "test": 0}, windows={}, unreadable={}, steps=1, seconds=0.1,
            precision="fp32", predictions=["x"],
        )  # fmt: skip

    monkeypatch.setattr(training, "finetune", pretend)
    return asked


@pytest.fixture
def models(encoder, tmp_path):
    """Two folders of different models."""
    for name in ("twin", "detour"):
        shutil.copytree(encoder, tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps(config | {"made_as": name}))
    return resolve([str(tmp_path / "twin"), str(tmp_path / "detour")])


@pytest.fixture
def cells(models, made, make_task, data_root):
    tasks = [make_task(name, "classification", made.classification()) for name in ("one", "two")]
    return suite.plan(models, tasks, range(3), data_root=data_root)


def test_every_model_is_trained_on_every_task_with_every_seed(cells, trained, tmp_path):
    records = suite.run(cells, tmp_path / "out")
    wanted = {(model, task, seed) for model in ("twin", "detour") for task in ("one", "two") for seed in range(3)}
    assert len(trained) == 12
    assert set(trained) == wanted
    assert {(r["model"]["name"], r["task"]["name"], r["seed"]) for r in records} == wanted
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [suite.COLUMNS] * 12
    row = next(r for r in rows if (r["model"], r["task"], r["seed"]) == ("detour", "two", "2"))
    assert float(row["test"]) == pytest.approx(0.62)
    assert (row["metric"], row["truncated"], row["model_sha256"]) == ("accuracy", "2", cells[-1].model.sha256)
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    for record in records:
        assert record["data"]["sha256"] == cells[0].data.sha256
        assert record["task"]["training"]["epochs"] == 4
        assert {"detour", "commit", "torch", "transformers", "seqeval", "scikit-learn"} <= record["environment"].keys()
        assert str(tmp_path) not in json.dumps(record)


def test_an_interrupted_suite_goes_on_without_repeating_a_cell(cells, trained, tmp_path, monkeypatch):
    out, pretend = tmp_path / "out", training.finetune

    def interrupted(*arguments, **keywords):
        if len(trained) == 5:
            raise KeyboardInterrupt
        return pretend(*arguments, **keywords)

    monkeypatch.setattr(training, "finetune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        suite.run(cells, out)
    assert len(list(suite.read_records(out))) == 5
    assert len(suite.unfinished(cells, out)) == 7
    monkeypatch.setattr(training, "finetune", pretend)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("seed*.json")}
    suite.run(cells, out)
    assert len(trained) == len(set(trained)) == 12
    assert {path: path.stat().st_mtime_ns for path in before} == before
    suite.run(cells, out)
    assert len(trained) == 12


def test_a_record_is_there_whole_or_not_at_all(cells, trained, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def full(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.1").write_text(text[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(suite, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            suite.run(cells, out)
    assert len(suite.unfinished(cells, out)) == 12
    suite.run(cells, out)
    assert suite.unfinished(cells, out) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"epochs": 2}}, r"another task: task\.training\.epochs was 4, is 2"),
        ({"limit": {"test": 10}}, "another task and data"),
    ],
)
def test_records_of_another_configuration_are_not_taken_for_this_one(
    change, message, cells, trained, models, made, make_task, data_root, tmp_path
):
    suite.run(cells, tmp_path / "out")
    training = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4} | change.pop("training", {})
    task = make_task("one", "classification", made.classification(), training=training, **change)
    changed = suite.plan(models, [task], range(3), data_root=data_root)
    with pytest.raises(ConfigError, match=message):
        suite.unfinished(changed, tmp_path / "out")


def test_data_may_be_moved_and_described_anew(cells, trained, models, made, make_task, data_root, tmp_path):
    suite.run(cells, tmp_path / "out")
    (data_root / "one").rename(data_root / "moved")
    source = {"kind": "local", "options": {"path": "moved"}}
    task = make_task("one", "classification", {}, source=source, note="moved", licence="other words")
    assert suite.unfinished(suite.plan(models, [task], range(3), data_root=data_root), tmp_path / "out") == []


def test_records_of_another_model_of_the_same_name_are_not_taken_for_this_one(cells, trained, encoder, tmp_path):
    suite.run(cells, tmp_path / "out")
    config = tmp_path / "twin" / "config.json"
    config.write_text(config.read_text() + "\n")
    (model,) = resolve([str(tmp_path / "twin")])
    other = [suite.Cell(model=model, task=cells[0].task, data=cells[0].data, seed=0)]
    with pytest.raises(ConfigError, match=r"another model: model\.sha256 was"):
        suite.unfinished(other, tmp_path / "out")


def test_a_damaged_record_is_named(cells, trained, tmp_path):
    suite.run(cells, tmp_path / "out")
    cells[0].path(tmp_path / "out").write_text("{")
    with pytest.raises(DataError, match=r"seed0\.json: cannot be read as a record"):
        suite.unfinished(cells, tmp_path / "out")
    cells[0].path(tmp_path / "out").write_text('{"format": 1, "model": {}}')
    with pytest.raises(DataError, match=r"seed0\.json: no 'task' in it"):
        suite.unfinished(cells, tmp_path / "out")


def test_all_that_is_wrong_with_the_data_is_said_at_once(models, made, make_task, data_root):
    tasks = [make_task(name, "classification", made.classification()) for name in ("good", "empty", "gone")]
    (data_root / "empty" / "test.jsonl").write_text("")
    shutil.rmtree(data_root / "gone")
    with pytest.raises(DataError) as error:
        suite.plan(models, tasks, [1], data_root=data_root)
    assert "2 of 3 tasks cannot be run" in str(error.value)
    assert "task 'empty': test is empty" in str(error.value)
    assert "no such folder" in str(error.value)


def test_models_are_told_apart_by_their_files(encoder, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(encoder, tmp_path / name)
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b") == folder_hash(encoder)
    (tmp_path / "b" / "README.md").write_text("a card changes nothing")
    assert folder_hash(tmp_path / "b") == folder_hash(encoder)
    (tmp_path / "b" / "tokenizer_config.json").write_text("{}")
    assert folder_hash(tmp_path / "b") != folder_hash(encoder)
    named = resolve([str(tmp_path / "a"), f"second={tmp_path / 'a'}"])
    assert [model.name for model in named] == ["a", "second"]
    with pytest.raises(ConfigError, match="'a' is another one's name too"):
        resolve([str(tmp_path / "a"), str(tmp_path / "a")])
    with pytest.raises(ConfigError, match="cannot be a name"):
        resolve([f"../up={tmp_path / 'a'}"])


def test_a_folder_that_is_no_model_is_refused_before_training(encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "weights.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        resolve([str(tmp_path / "m")])
    (tmp_path / "m" / "weights.bin").rename(tmp_path / "m" / "model.safetensors")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"vocab_size": 500}))
    with pytest.raises(ModelError, match="ids reach 599, the model's vocab_size is 500"):
        resolve([str(tmp_path / "m")])
    (tmp_path / "m" / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        resolve([str(tmp_path / "m")])


@pytest.mark.trains
def test_the_command_line_from_folders_to_tables(encoder, write_task, made, data_root, tmp_path):
    """Really trained; the score in the table is that of the predictions beside the record."""
    path = write_task("signs", "classification", made.classification(), training={"batch_size": 32, "epochs": 1})
    out = tmp_path / "out"
    call = ["eval", f"detour={encoder}", f"twin={encoder}", "--task", str(path), "--data", str(data_root)]
    call += ["--seeds", "2", "--out", str(out), "--baseline", "twin", "--set", "limit.test=20"]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert done.exit_code == 0
    assert "4 cells (2 models, 1 tasks, 2 seeds), 4 to do" in done.output
    assert "0 to do" in CliRunner().invoke(app, call, catch_exceptions=False).output
    page = (out / "summary.md").read_text()
    assert "signs | accuracy | 2 |" in page
    assert "LIMITED to at most 20 test" in page
    assert "0 wins, 1 ties, 0 losses" in page  # the same model twice, with the same seeds
    labels = {record["id"]: record["label"] for record in made.classification()["test"]}
    for record in suite.read_records(out):
        folder = out / "cells" / record["model"]["name"] / "signs"
        said = json.loads((folder / f"predictions-seed{record['seed']}.json").read_text())
        kept = [id for id in labels if id in said["ids"]]
        assert record["outcome"]["test"]["accuracy"] == accuracy_score([labels[id] for id in kept], said["predictions"])
    assert {path.suffix for path in out.glob("forest_detour.*")} == {".png", ".svg"}


def test_wrong_calls_are_one_line(encoder, tmp_path, capsys):
    for arguments, message in [
        ([str(encoder), "--task", "bc5cd"], "did you mean 'bc5cdr'?"),
        ([str(encoder)], "no tasks: give --suite or --task"),
        (
            [str(encoder), "--task", "bc5cdr", "--baseline", "tin"],
            "baseline 'tin': no such model; did you mean 'tiny'?",
        ),
        ([str(encoder), "--suite", "french", "--task", "quaero_emea"], "task 'quaero_emea': named twice"),
        ([str(tmp_path / "no"), "--task", "bc5cdr"], "hub gave"),
        ([str(encoder), "--task", "bc5cdr", "--set", "training.epoch=1"], "did you mean 'epochs'?"),
        ([str(encoder), "--task", "bc5cdr", "--data", str(tmp_path / "no")], "no such folder"),
    ]:
        with pytest.raises(SystemExit) as exit:
            main(["eval", *arguments, "--out", str(tmp_path / "out")])
        assert exit.value.code == 1
        assert message in capsys.readouterr().err


def test_tasks_are_listed(data_root):
    done = CliRunner().invoke(app, ["tasks", "--suite", "french"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "suites: all, bioclinical" in done.output
    assert all(task.name in done.output for task in load_suite("french"))
    checked = CliRunner().invoke(app, ["tasks", "--suite", "english", "--check", "--data", str(data_root)])
    assert checked.exit_code == 1
