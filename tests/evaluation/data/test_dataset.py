"""Checks and cuts of a task's examples, before anything is trained."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from detour.errors import ConfigError, DataError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import load_suite, load_task


def grouped(count=60, *, per_group=3):
    return [
        {"id": str(i), "doc_id": f"d{i // per_group}", "text": f"text {i}", "label": "ab"[i % 2]} for i in range(count)
    ]


def refusal(task, root) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        load_dataset(task, root)
    return str(error.value)


def test_an_empty_or_absent_split_is_refused(made, make_task, data_root):
    splits = made.classification()
    absent = make_task("absent", "classification", {"train": splits["train"], "test": splits["test"]})
    assert "task 'absent': dev is empty; found train (96), test (64)" in refusal(absent, data_root)
    empty = make_task("empty", "classification", splits | {"test": []})
    assert "test is empty" in refusal(empty, data_root)


def test_a_label_that_is_not_declared_is_refused(made, make_task, data_root):
    splits = made.classification()
    splits["test"][3]["label"] = "feverr"
    wrong = make_task("wrong", "classification", splits, labels=["fever", "pain"])
    assert "test holds the label 'feverr'; did you mean 'fever'?, declared: fever, pain" in refusal(wrong, data_root)
    undeclared = make_task("undeclared", "classification", splits)
    assert "in train: fever, pain" in refusal(undeclared, data_root)
    ner = made.ner()
    ner["dev"][0] |= {"tokens": ["a"], "ner_tags": ["B-SIGNS"]}
    assert "dev holds the label 'SIGNS'" in refusal(make_task("types", "ner", ner), data_root)


def test_labels_are_declared_by_the_task_or_by_task_json_or_found_in_train(made, make_task, data_root):
    task = make_task("order", "classification", made.classification())
    assert load_dataset(task, data_root).labels == ["fever", "pain"]
    (data_root / "order" / "task.json").write_text(json.dumps({"labels": ["pain", "fever", "cough"]}))
    assert load_dataset(task, data_root).labels == ["pain", "fever", "cough"]
    task = make_task("order", "classification", made.classification(), labels=["fever", "cough", "pain"])
    assert load_dataset(task, data_root).labels == ["fever", "cough", "pain"]
    task = make_task("tags", "ner", made.ner())
    assert load_dataset(task, data_root).labels == ["O", "B-SIGN", "I-SIGN"]


def test_one_label_alone_is_no_task(made, make_task, data_root):
    splits = {name: [r | {"label": "x"} for r in records] for name, records in made.classification().items()}
    assert "labels are x, expected more" in refusal(make_task("one", "classification", splits), data_root)


def test_an_id_that_stands_twice_is_refused(made, make_task, data_root):
    splits = made.classification()
    splits["test"][0]["id"] = splits["train"][0]["id"]
    assert "two examples are called 'train-0'" in refusal(make_task("twice", "classification", splits), data_root)


def test_missing_data_says_where_to_get_it(make_task, data_root):
    task = make_task("far", "ner", {}, credentials="an account at the archive")
    (data_root / "far").rmdir()
    assert "no such folder. It needs credentials: an account at the archive" in refusal(task, data_root)
    (data_root / "far").mkdir()
    assert "It needs credentials" in refusal(task, data_root)
    (data_root / "far" / "train.jsonl").write_text("{")  # it is there; what is wrong with it is another matter
    assert "credentials" not in refusal(task, data_root)


def test_missing_data_that_anyone_may_have_says_how_it_is_had(data_root):
    assert "no such folder. Of this task: Files AnatEM-IOB of github.com" in refusal(load_task("anatem"), data_root)


@pytest.mark.parametrize("shares", [[0.7, 0.1, 0.2], [0.8, 0.2]])
def test_a_cut_is_a_partition_that_keeps_groups_together(shares, make_task, data_root):
    records = grouped()
    splits = {"train": records} | ({} if len(shares) == 3 else {"test": [r | {"id": f"t{r['id']}"} for r in records]})
    task = make_task("cut", "classification", splits, split={"fractions": shares})
    data = load_dataset(task, data_root)
    names = ["train", "dev", "test"][: len(shares)]
    parts = {name: {example.id for example in data.splits[name]} for name in names}
    assert sorted(id for part in parts.values() for id in part) == sorted(record["id"] for record in records)
    groups = [{example.group for example in data.splits[name]} for name in names]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    assert [len(group) for group in groups] == [round(share * 20) for share in shares]
    again = make_task("cut", "classification", splits, split={"fractions": shares, "seed": 7})
    assert load_dataset(again, data_root).splits["dev"] != data.splits["dev"]


def test_a_cut_does_not_touch_splits_that_are_there(made, make_task, data_root):
    task = make_task("given", "classification", made.classification(), split={"fractions": [0.9, 0.1]})
    assert "would cut dev from train, but the source has dev" in refusal(task, data_root)


def test_a_limit_draws_the_same_examples_from_any_order(made, make_task, data_root):
    splits = made.classification()
    limit = {"limit": {"train": 20, "test": 10}}
    first = load_dataset(make_task("few", "classification", splits, **limit), data_root)
    splits["train"].reverse()
    second = load_dataset(make_task("few", "classification", splits, **limit), data_root)
    assert first.counts == {"train": 20, "dev": 32, "test": 10}
    assert {e.id for e in first.splits["train"]} == {e.id for e in second.splits["train"]}


def test_the_hash_is_that_of_the_examples(made, make_task, data_root):
    splits = made.classification()
    first = load_dataset(make_task("hash", "classification", splits), data_root).sha256
    assert load_dataset(make_task("other", "classification", splits), data_root).sha256 == first
    splits["test"][0]["text"] += "."
    assert load_dataset(make_task("hash", "classification", splits), data_root).sha256 != first


@pytest.mark.corpora
@pytest.mark.skipif("DETOUR_CORPORA" not in os.environ, reason="DETOUR_CORPORA is not set")
@pytest.mark.parametrize("suite", ["english_public", "french_public"])
def test_public_tasks_hold_what_their_makers_counted(suite):
    root = Path(os.environ["DETOUR_CORPORA"]) / "tasks"
    for task in load_suite(suite):
        said = json.loads((root / task.source.options["path"] / "task.json").read_text())
        data = load_dataset(task, root)
        assert data.counts == {split: said["counts"][split] for split in ("train", "dev", "test")}, task.name
        if task.kind == "ner":
            assert {label[2:] for label in data.labels[1:]} == set(said["entity_types"]), task.name


@pytest.mark.parametrize("place", ["id", "text", "label"])
def test_a_lone_surrogate_is_refused_before_training(place, made, write_task, data_root):
    """JSON spells it, and no tokenizer and no file takes it."""
    records = made.classification()
    records["dev"][3][place] = "a\ud800"
    with pytest.raises(DataError, match=r"holds a lone surrogate, U\+D800"):
        load_dataset(load_task(write_task("mine", "classification", records)), data_root)
