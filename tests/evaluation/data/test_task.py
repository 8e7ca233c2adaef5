"""Descriptions of tasks and suites: those of the library, a user's own, and what is wrong with a bad one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from detour.errors import ConfigError
from detour.evaluation.data.task import HERE, load_suite, load_task, suite_names, task_names

PAPER = {
    "english": "chemprot phenotype cos social_history deid anatem bc5cdr jnlpba ncbi_disease gad hoc",
    "french": "diamed meddialog_fr fracco_30 fracco_100 cantemist_fr distemist_fr quaero_emea quaero_medline",
}


@pytest.mark.parametrize("name", task_names())
def test_each_task_of_the_library_can_be_read_and_says_its_licence(name):
    task = load_task(name)
    assert task.name == name
    assert task.license
    assert task.language in ("en", "fr")


@pytest.mark.parametrize("name", suite_names())
def test_each_suite_of_the_library_holds_tasks(name):
    tasks = load_suite(name)
    assert len({task.name for task in tasks}) == len(tasks) > 0


def test_the_nineteen_tasks_of_the_paper():
    for suite, names in PAPER.items():
        assert [task.name for task in load_suite(suite)] == names.split()
    assert [task.name for task in load_suite("all")] == " ".join(PAPER.values()).split()


def test_every_task_of_the_library_is_in_a_suite():
    written = [yaml.safe_load((HERE / "suites" / f"{suite}.yaml").read_text()) for suite in suite_names()]
    named = {task for suite in written for task in suite.get("tasks", [])}
    assert named == set(task_names())


def test_an_own_task_and_an_own_suite_are_files(write_task, made, tmp_path):
    write_task("mine", "ner", made.ner())
    (tmp_path / "suite.yaml").write_text("include: [english]\ntasks: [mine.yaml, pubmedqa]\n")
    names = [task.name for task in load_suite(tmp_path / "suite.yaml")]
    assert names == [*PAPER["english"].split(), "mine", "pubmedqa"]


def test_overrides_reach_every_task():
    for task in load_suite("french", ["training.epochs=2", "limit.train=100"]):
        assert (task.training.epochs, task.limit.train) == (2, 100)


def edited(path, **changes):
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrc": "accuracy"}, "metrc: unknown key; did you mean 'metric'"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key; did you mean 'epochs'"),
        ({"kind": "clasification"}, "kind: 'clasification'; did you mean 'classification'"),
        ({"metric": "span_micro_f1"}, "metric: 'span_micro_f1'; did you mean 'micro_f1'"),
        ({"source": {"kind": "lokal"}}, "did you mean 'local'"),
        ({"source": {"kind": "local", "options": {"pth": "x"}}}, "pth: unknown key; did you mean 'path'"),
        ({"source": {"kind": "local", "options": {"path": "x", "columns": {"lable": "y"}}}}, "columns.lable: unknown"),
        ({"split": {"fractions": [0.5, 0.4]}}, "split.fractions"),
        ({"split": {"shares": [0.9, 0.1]}}, "split.shares: unknown key; it is now called 'fractions'"),
        ({"negative_label": "none", "labels": ["fever", "pain"]}, "negative_label: 'none'"),
        ({"negative_label": "none", "kind": "multilabel", "metric": "micro_f1"}, "negative_label: 'none'"),
        ({"name": "../../x"}, "name: '../../x' holds '/', which would make it a path"),
        ({"name": "a/b"}, "name: 'a/b' holds '/'"),
        ({"name": ".."}, "name: '..' begins with a dot"),
        ({"name": "x" * 300}, "is 300 bytes long"),
        ({"name": "é" * 150}, "is 300 bytes long"),
        ({"name": "a\nb"}, "name: 'a\\nb' holds the character U+000A"),
        ({"name": " "}, "name: ' ' is empty"),
        ({"language": ""}, "language: '' is empty"),
        ({"labels": [{"a": 1}]}, "labels[0]: {'a': 1}, expected str"),
        ({"labels": [["a"]]}, "labels[0]: ['a'], expected str"),
        ({"labels": [True, False]}, "labels[0]: True, expected str; put it in quotes"),
        ({"negative_label": False}, "negative_label: False, expected str or null; put it in quotes"),
        ({"split": {"fractions": [{"a": 1}]}}, "split.fractions[0]: {'a': 1}, expected float"),
        ({"source": {"kind": ["local"]}}, "source.kind: ['local'], expected str"),
        ({"source": {"kind": "local", "options": {"path": "x", "columns": {"text": ["a"]}}}}, "columns.text: ['a']"),
        ({"source": {"kind": "local", "options": {"path": "x", "files": {"dev": {}}}}}, "files.dev: {}, expected"),
        ({"source": {"kind": "local", "options": []}}, "options: [], expected a mapping"),
        ({"training": []}, "training: [], expected a mapping"),
        ({"limit": {"train": [1]}}, "limit.train: [1], expected int"),
        ({"training": {"epochs": 0}}, "training.epochs: 0, expected at least 1"),
        ({"training": {"batch_size": 16, "micro_batch_size": 5}}, "5 does not divide"),
        ({"training": {"learning_rate": 2.0}}, "training.learning_rate: 2.0"),
        ({"training": {"threshold": 1.0}}, "training.threshold: 1.0"),
        ({"training": {"head": "bilstm_crf"}}, "training.head: 'bilstm_crf', expected linear"),
        ({"training": {"class_weights": True}}, "training.class_weights"),
    ],
)
def test_a_bad_description_names_the_key(changes, message, write_task, made):
    path = edited(write_task("bad", "classification", made.classification()), **changes)
    with pytest.raises(ConfigError) as error:
        load_task(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


BAD = """\
name: a/b
kind: clasification
metrc: accuracy
metric: accuracy
source: {kind: local, options: {pth: x, columns: {lable: y, txt: z}}}
max_length: long
labels: [a, yes]
negative_label: none
training: {epochs: 0, steps: "4000", eval_steps: 500, batch_size: 16, micro_batch_size: 5}
"""
PROBLEMS = [
    "metrc: unknown key; did you mean 'metric'? (line 3)",
    "language: missing, and it has no default",
    "labels[1]: True, expected str; put it in quotes",
    "max_length: 'long', expected int (line 6)",
    "license: missing, and it has no default",
    "training.steps: '4000', expected int (line 9)",
    "kind: 'clasification'; did you mean 'classification'?",
    "name: 'a/b' holds '/', which would make it a path (line 1)",
    "training.epochs: 0, expected at least 1 (line 9)",
    "training.micro_batch_size: 5 does not divide batch_size 16 (line 9)",
    "source.options.pth: unknown key; did you mean 'path'? (line 5)",
    "source.options.path: missing, and it has no default",
    "source.options.columns.lable: unknown; did you mean 'label'?",
]


def test_everything_that_is_wrong_with_a_file_is_named_at_once(tmp_path):
    """And nothing that follows from another fault, such as eval_steps above steps that cannot be read."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    with pytest.raises(ConfigError) as error:
        load_task(path)
    first, *lines = str(error.value).splitlines()
    assert first == f"{path}: {len(PROBLEMS)} problems"
    for line, problem in zip(lines, PROBLEMS, strict=True):
        assert line.startswith(f"  - {problem}"), line
    assert "columns.txt: unknown" in lines[-1]


def test_every_task_of_a_suite_that_is_refused_is_named(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(BAD)
    (tmp_path / "suite.yaml").write_text("tasks: [one.yaml, bc5cdr, two.yaml, bc5cd]\n")
    with pytest.raises(ConfigError) as error:
        load_suite(tmp_path / "suite.yaml")
    said = str(error.value)
    assert f"{tmp_path / 'one.yaml'}: {len(PROBLEMS)} problems" in said
    assert f"{tmp_path / 'two.yaml'}: {len(PROBLEMS)} problems" in said
    assert "did you mean 'bc5cdr'" in said


def test_the_task_and_the_suite_of_the_page_can_be_read(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    described, listed = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "triage.yaml").write_text(described)
    (tmp_path / "suite.yaml").write_text(listed)
    assert [task.name for task in load_suite(tmp_path / "suite.yaml")] == [*PAPER["french"].split(), "triage", "bc5cdr"]
    for suite in re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page.split("A task of your own")[0], re.MULTILINE))
    ):
        assert suite in suite_names()


@pytest.mark.parametrize(
    "text",
    [
        "'0'", "0", "- a", "a", "tasks: 1", "tasks: {a: 1}", "tasks: [{a: 1}]", "tasks: [[a]]", "tasks: [true]", "tasks: null",
        "tasks: !!int x", "tasks: !!timestamp x", "tasks: !!bool x", "tasks: !!omap [a: 1]", "tasks: !!binary x",
        "tasks: !!set {a}", f"tasks: [{'x' * 5000}.yaml]", f"tasks: {'[' * 3000}", f"tasks: {'9' * 5000}", "tasks: ${tasks}",
        "include: [1.5]", "include: {english: {}}", "include: english", "tasks: [bc5cdr]\ninclude:\n- a: b", '"\\x00": 1',
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_suite_of_another_shape_is_refused_in_one_message(text, tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"suite\.yaml|expected|no such|not one of|File name too long"):
        load_suite(path)


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"task 'bc5cd': .*did you mean 'bc5cdr'"):
        load_task("bc5cd")
    with pytest.raises(ConfigError, match=r"suite 'engish': .*did you mean 'english'"):
        load_suite("engish")
    (tmp_path / "loop.yaml").write_text("include: [loop.yaml]\n")
    with pytest.raises(ConfigError, match="include one another"):
        load_suite(tmp_path / "loop.yaml")
    (tmp_path / "empty.yaml").write_text("tasks: []\n")
    with pytest.raises(ConfigError, match="no tasks"):
        load_suite(tmp_path / "empty.yaml")


def test_two_tasks_of_one_name_are_refused(write_task, made, tmp_path):
    write_task("mine", "ner", made.ner())
    (tmp_path / "other.yaml").write_text((tmp_path / "mine.yaml").read_text())
    (tmp_path / "suite.yaml").write_text("tasks: [mine.yaml, other.yaml]\n")
    with pytest.raises(ConfigError, match="two tasks are called 'mine'"):
        load_suite(tmp_path / "suite.yaml")
