"""A suite is done cell by cell, goes on where it stopped, and mixes nothing that was made differently."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from detour import files
from detour.cli.main import app, main
from detour.errors import ConfigError, DataError, ModelError
from detour.evaluation import suite
from detour.evaluation.data.task import load_suite, load_task
from detour.evaluation.finetune import finetune as training
from detour.evaluation.finetune.finetune import Outcome
from detour.evaluation.models import folder_hash, resolve


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


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_continue(
    encoder, trained, made, write_task, data_root, tmp_path, monkeypatch, presses
):
    """SIGINT during the third cell; the second one arrives while the first is being reported."""
    pretend, press = training.finetune, lambda: os.kill(os.getpid(), signal.SIGINT)

    def interrupted(*arguments, **keywords):
        if len(trained) == 2:
            press()
        return pretend(*arguments, **keywords)

    said = []

    class Impatient(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
            if presses == 2 and record.getMessage().startswith("interrupted"):
                press()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # importing Composer installs another one
    monkeypatch.setattr(training, "finetune", interrupted)
    task = write_task("one", "classification", made.classification())
    out, log = tmp_path / "out", logging.getLogger("detour.cli.evaluation")
    impatient = Impatient()
    log.addHandler(impatient)
    call = ["eval", "run", str(encoder), "--task", str(task), "--data", str(data_root), "--out", str(out)]
    with pytest.raises(SystemExit) as exit:
        main([*call, "--seeds", "4"])
    log.removeHandler(impatient)
    signal.signal(signal.SIGINT, before)
    assert exit.value.code == 130
    assert [record["seed"] for record in suite.read_records(out)] == [42, 43]
    assert said[-1] == "interrupted: 2 of 4 cells are finished; the same command continues"
    monkeypatch.setattr(training, "finetune", pretend)
    with pytest.raises(SystemExit) as exit:
        main([*call, "--seeds", "4"])
    assert exit.value.code == 0
    assert [seed for _, _, seed in trained] == [42, 43, 44, 45]


def test_a_record_is_there_whole_or_not_at_all(cells, trained, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def full(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.1").write_text(text[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(suite, "write_text", full)
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
    task = make_task("one", "classification", {}, source=source, note="moved", license="other words")
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
    with pytest.raises(DataError, match=r"seed0\.json: model\.name: missing, and it has no default; remove it"):
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
    with pytest.raises(ConfigError, match=r"the name '\.\./up' holds '/'"):
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
    call = ["eval", "run", f"detour={encoder}", f"twin={encoder}", "--task", str(path), "--data", str(data_root)]
    call += ["--seeds", "2", "--out", str(out), "--baseline", "twin", "task.limit.test=20"]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert done.exit_code == 0
    assert "4 cells (2 models, 1 task, 2 seeds), 4 to do" in done.output
    assert "0 to do" in CliRunner().invoke(app, call, catch_exceptions=False).output
    page = (out / "summary.md").read_text()
    assert "signs | accuracy | 2 |" in page
    assert "limited to at most 20 test" in page
    assert "0 wins, 1 ties, 0 losses" in page  # the same model twice, with the same seeds
    labels = {record["id"]: record["label"] for record in made.classification()["test"]}
    for record in suite.read_records(out):
        folder = out / "cells" / record["model"]["name"] / "signs"
        said = json.loads((folder / f"predictions-seed{record['seed']}.json").read_text())
        kept = [id for id in labels if id in said["ids"]]
        assert record["outcome"]["test"]["accuracy"] == accuracy_score([labels[id] for id in kept], said["predictions"])
    assert {path.suffix for path in out.glob("forest_detour.*")} == {".png", ".svg"}


def test_what_comes_from_the_environment_is_in_nothing_that_an_evaluation_leaves(
    encoder, trained, made, write_task, data_root, tmp_path, monkeypatch, capsys
):
    """Secret and place stand where a task may name them; the data has no ids, which would be made of its place."""
    records = {s: [{k: v for k, v in r.items() if k != "id"} for r in rs] for s, rs in made.classification().items()}
    place, secret = "the-home-of-a-project", "hf_" + "Zz9Yy8" * 5
    monkeypatch.setenv("DETOUR_TEST_PLACE", place)
    monkeypatch.setenv("COLUMNS", "500")  # so that no cell of a table is wrapped
    (data_root / place).mkdir(parents=True)
    source = {"kind": "local", "options": {"path": "${oc.env:DETOUR_TEST_PLACE}/mine"}}
    told = "see ${oc.env:DETOUR_TEST_PLACE}, " + secret
    path = write_task("mine", "classification", records, source=source, note=told, license=told, credentials=told)
    (data_root / "mine").rename(data_root / place / "mine")
    call = [
        "eval",
        "run",
        f"m={encoder}",
        "--task",
        str(path),
        "--data",
        str(data_root),
        "--out",
        str(tmp_path / "out"),
    ]
    for _ in range(2):  # what is recorded compares equal with what is configured
        with pytest.raises(SystemExit) as exit:
            main([*call, "--seeds", "1"])
        assert exit.value.code == 0
    assert len(trained) == 1
    suite_file = tmp_path / "suite.yaml"
    suite_file.write_text("tasks: [mine.yaml]\n")
    with pytest.raises(SystemExit):
        main(["eval", "tasks", "--suite", str(suite_file), "--check", "--data", str(data_root / "absent")])
    said = "".join(capsys.readouterr())
    assert "see ${oc.env:DETOUR_TEST_PLACE}, [hidden]" in " ".join(said.split()), said
    texts = {path: path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(texts) == 8
    for text in (*texts.values(), said):
        assert secret not in text
        assert place not in text
    assert r"see \${oc.env:DETOUR_TEST_PLACE}" in texts[tmp_path / "out" / "summary.md"]  # escaped for Markdown
    path.write_text(path.read_text().replace("name: mine", "name: ${oc.env:DETOUR_TEST_PLACE}"))
    with pytest.raises(ConfigError, match="name: holds a secret or a value of the environment"):
        load_task(path)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads of torch, which the child does not use
def test_an_evaluation_that_is_killed_at_any_moment_goes_on_to_the_same_results(cells, trained, tmp_path):
    """SIGKILL at the first step of writing, at the second of the next start, and so on, until all cells are done."""
    whole = suite.run(cells, tmp_path / "whole")
    out, kills = tmp_path / "out", 0
    while True:
        child = os.fork()
        if not child:
            _die_at_step(kills + 1)
            suite.run(cells, out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for path in out.glob("cells/*/*/*.json"):
            json.loads(path.read_text())
        if not status:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
    assert kills > 10
    assert suite.unfinished(cells, out) == []
    assert suite.collect(out) == whole
    assert (out / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()


def _die_at_step(last: int) -> None:
    """From now on each half of a file written and each file put in its place counts; SIGKILL instead of the last."""
    replace, left = Path.replace, itertools.count(last - 1, -1)

    def step():
        if not next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    def write_in_two(path, text):
        with files.atomic_write(path) as file:
            file.write(text[: len(text) // 2].encode())
            file.flush()
            step()
            file.write(text[len(text) // 2 :].encode())

    def replace_or_die(path, target):
        step()
        return replace(path, target)

    Path.replace = replace_or_die  # type: ignore[method-assign]
    files.write_text = suite.write_text = write_in_two  # write_json goes through the first


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
        ([str(encoder), "--task", "bc5cdr", "task.training.epoch=1"], "did you mean 'epochs'?"),
        ([str(encoder), "--task", "bc5cdr", "--data", str(tmp_path / "no")], "no such folder"),
    ]:
        with pytest.raises(SystemExit) as exit:
            main(["eval", "run", *arguments, "--out", str(tmp_path / "out")])
        assert exit.value.code == 1
        assert message in capsys.readouterr().err


def test_tasks_are_listed(data_root):
    done = CliRunner().invoke(app, ["eval", "tasks", "--suite", "french"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "suites: all, bioclinical" in done.output
    assert all(task.name in done.output for task in load_suite("french"))
    checked = CliRunner().invoke(app, ["eval", "tasks", "--suite", "english", "--check", "--data", str(data_root)])
    assert checked.exit_code == 1


def test_another_form_of_a_task_in_a_used_folder_is_refused_before_any_training(tmp_path, monkeypatch):
    task, other = (SimpleNamespace(name="t") for _ in range(2))
    identity = {
        "model": {"name": "one", "sha256": "a"},
        "task": {"name": "t", "epochs": 1},
        "data": {"sha256": "d"},
        "seed": 1,
    }
    record = tmp_path / "cells" / "one" / "t" / "seed1.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    monkeypatch.setattr(suite, "read_record", lambda path: identity)
    new = {**identity, "model": {"name": "two", "sha256": "b"}, "task": {"name": "t", "epochs": 2}}
    for changed, message in ((new, "epochs"), ({**new, "task": identity["task"], "data": {"sha256": "e"}}, "sha256")):
        cell = SimpleNamespace(task=task, identity=changed, path=lambda out: out / "cells" / "two" / "t" / "seed1.json")
        with pytest.raises(ConfigError, match=f"seed1.json: of task 't', but with other settings: .*{message}"):
            suite.unfinished([cell], tmp_path)
    alike = SimpleNamespace(task=other, identity={**new, "task": identity["task"]}, path=cell.path)
    assert suite.unfinished([alike], tmp_path) == [alike]
