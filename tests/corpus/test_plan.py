"""The plan of a preparation against the preparation itself."""

from __future__ import annotations

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from detour.corpus.config import load
from detour.corpus.plan import plan_preparation
from detour.corpus.plan_table import lines_of, table_of
from detour.corpus.prepare import prepare
from detour.errors import DataError

STEPS = [
    {"kind": "length", "options": {"min_characters": 20}},
    {"kind": "score", "sources": ["a"], "options": {"column": "grade", "keep": ">= 2"}},
    {"kind": "exact_dedup"},
]


def record(number: int) -> dict:
    """Every fifth document is too short, and two thirds of the others have a grade of at least 2."""
    rng = random.Random(number)
    words = [f"d{number}", *(f"w{rng.randrange(40)}" for _ in range(30))]
    return {"text": "short" if number % 5 == 0 else " ".join(words), "grade": 1 + number % 3}


@pytest.fixture
def write(tmp_path, corpus):
    """A function that writes a preparation over sources of so many documents each, all different; its configuration."""

    def make(**sources):
        listed = []
        for index, (name, (suffix, count)) in enumerate(sources.items()):
            first = 15_000 * index
            path, records = tmp_path / f"{name}{suffix}", [record(i) for i in range(first, first + count)]
            lines = "".join(json.dumps(each) + "\n" for each in records).encode()
            if suffix == ".parquet":
                pq.write_table(pa.Table.from_pylist(records), path)
            else:
                path.write_bytes(gzip.compress(lines) if suffix.endswith(".gz") else lines)
            kind = "parquet" if suffix == ".parquet" else "jsonl"
            listed.append({"name": name, "kind": kind, "paths": [str(path)]})
        values = {
            "out": str(tmp_path / "out"), "tokenizer": str(corpus.tokenizer), "seq_len": 128,
            "validation_fraction": 0.1, "sources": listed, "steps": STEPS,
        }  # fmt: skip
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        return load(tmp_path / "config.yaml")

    return make


def test_a_sample_of_everything_counts_what_the_preparation_counts(write, tmp_path):
    config = write(a=(".jsonl", 60), b=(".parquet", 90))
    found = plan_preparation(config)
    assert not (tmp_path / "out").exists()
    prepared, _ = prepare(config)
    for each, count, kept in zip(found.sources, (60, 90), (32, 72), strict=True):
        folders = prepared["sources"][each.name]["folders"]
        assert (each.files, each.fraction, each.documents, each.kept) == (1, 1.0, count, kept)
        assert each.bytes == next(tmp_path.glob(f"{each.name}.*")).stat().st_size
        assert each.tokens == sum(folder["tokens"] for folder in folders.values())
        rows = [file.stat().st_size for file in (tmp_path / "out").rglob(f"{each.name}/*") if file.is_file()]
        assert each.row_bytes == pytest.approx(sum(rows), rel=0.05)  # manifests name the input files
        assert each.core_seconds > 0
        assert each.work_bytes > 0
    assert found.main_bytes == 100 * 150
    assert found.unknown == []


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_a_part_is_scaled_up(write, suffix):
    (found,) = plan_preparation(write(a=(suffix, 20_000)), megabytes=0.05).sources
    assert found.fraction < 0.5
    assert found.documents == pytest.approx(20_000, rel=0.06)
    assert found.kept == pytest.approx(20_000 * 8 / 15, rel=0.06)


def test_what_has_no_size_is_named(write, tmp_path):
    """A folder of the library datasets stands for a data set of the hub: neither is one file."""
    from datasets import Dataset

    config = write(a=(".jsonl", 20))
    Dataset.from_list([record(i) for i in range(1, 20)]).save_to_disk(tmp_path / "saved")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    values["sources"].append({"name": "hub", "kind": "huggingface", "paths": [str(tmp_path / "saved")]})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    config = load(tmp_path / "config.yaml")
    found = plan_preparation(config)
    assert [each.name for each in found.sources] == ["a"]
    assert "NOT COUNTED, size unknown before it is read: hub" in list(lines_of(found, config))
    assert table_of(found, "out").row_count == 1


def test_a_sample_of_which_nothing_is_left_is_an_error(write, tmp_path):
    config = write(a=(".jsonl", 1))
    with pytest.raises(DataError, match="no document is left to train on"):
        plan_preparation(config)
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="source 'a': "):
        plan_preparation(config)
