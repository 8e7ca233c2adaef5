"""The general suite, read from Parquet files with the layout, columns, and classes of the hub's repositories."""

from __future__ import annotations

import datasets
import pytest
import yaml

from detour.errors import DataError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import load_suite, load_task

TEXT, NUMBER = datasets.Value("string"), datasets.Value("float32")
PAIR = {"sentence1": TEXT, "sentence2": TEXT}
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
SPLITS = ("train", "validation", "test")
REPOSITORIES = {  # task without language -> splits, features, rows, and what an example of test is to be
    "xnli": (
        SPLITS,
        {"premise": TEXT, "hypothesis": TEXT, "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])},
        {"premise": ["It rains.", "He ran.", "A cat."], "hypothesis": ["It is wet.", "He sat.", "A pet."], "label": [0, 2, 1]},
        (("He ran.", "He sat."), "contradiction"),
    ),
    "pawsx": (
        SPLITS,
        {"id": datasets.Value("int32"), **PAIR, "label": datasets.ClassLabel(names=["0", "1"])},
        {"id": [1, 2], "sentence1": ["a to b", "x"], "sentence2": ["b to a", "x"], "label": [0, 1]},
        (("x", "x"), "1"),
    ),
    "stsb": (
        ("train", "test", "dev"),
        {**PAIR, "similarity_score": NUMBER},
        {"sentence1": ["a plane", "a cat"], "sentence2": ["an aircraft", "a dog"], "similarity_score": [5.0, 1.75]},
        (("a cat", "a dog"), 1.75),
    ),
    "wikiann": (
        SPLITS,
        {"tokens": datasets.Sequence(TEXT), "ner_tags": datasets.Sequence(datasets.ClassLabel(names=TAGS)),
         "langs": datasets.Sequence(TEXT), "spans": datasets.Sequence(TEXT)},
        {"tokens": [["Paris"], ["Marie", "Curie", "lived"]], "ner_tags": [[5], [1, 2, 0]], "langs": [["en"], ["en"] * 3],
         "spans": [["LOC: Paris"], ["PER: Marie Curie"]]},
        (("Marie", "Curie", "lived"), ("B-PER", "I-PER", "O")),
    ),
    "sst2": (
        SPLITS,
        {"idx": datasets.Value("int32"), "sentence": TEXT, "label": datasets.ClassLabel(names=["negative", "positive"])},
        {"idx": list(range(60)), "sentence": [f"film {i}" for i in range(60)], "label": [i % 2 for i in range(60)]},
        (("film 1",), "positive"),
    ),
    "allocine": (
        SPLITS,
        {"review": TEXT, "label": datasets.ClassLabel(names=["neg", "pos"])},
        {"review": ["Nul.", "Très beau."], "label": [0, 1]},
        (("Très beau.",), "pos"),
    ),
}  # fmt: skip


def write_repository(root, task, splits, features, rows):
    """A repository as on the hub: a folder of Parquet files for each subset, named in the header of its README."""
    options, first = task.source.options, task.source.options.get("subset") or "default"
    folder = root / options["name"]
    for split in splits:
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        (folder / first).mkdir(parents=True, exist_ok=True)
        made.to_parquet(folder / first / f"{split}-00000-of-00001.parquet")
    files = [{"split": split, "path": f"{first}/{split}-*"} for split in splits]
    header = yaml.safe_dump({"configs": [{"config_name": first, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{header}---\n")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("name", [task.name for task in load_suite("general")])
def test_a_general_task_is_read_from_its_repository(name, tmp_path):
    task = load_task(name)
    splits, features, rows, expected = REPOSITORIES[name.split("_")[0]]
    write_repository(tmp_path, task, splits, features, rows)
    data = load_dataset(task, tmp_path)
    assert set(data.splits) == {"train", "dev", "test"}
    example = data.splits["test"][1]
    assert (example.parts, example.target) == expected


def test_both_languages_have_the_same_kinds_of_task():
    kinds = [[(task.kind, task.metric) for task in load_suite(f"general_{language}")] for language in ("en", "fr")]
    assert kinds[0] == kinds[1]
    assert {task.language for task in load_suite("general_fr")} == {"fr"}
    assert not [task.name for task in load_suite("general") if task.credentials]


def test_a_split_whose_labels_are_hidden_is_refused(tmp_path):
    """As the test split of SST-2: every label is -1, which must not become the name of the last class."""
    from detour.evaluation.data import readers

    splits, features, rows, _ = REPOSITORIES["sst2"]
    task = load_task("sst2")
    write_repository(tmp_path, task, splits, features, {**rows, "label": [-1] * 60})
    reader = readers.build("hub", {"name": "stanfordnlp/sst2", "columns": {"text": "sentence"}})
    with pytest.raises(DataError, match=r"stanfordnlp/sst2 train: 'label' is -1, which stands for a hidden label"):
        reader.read(tmp_path, "classification")
