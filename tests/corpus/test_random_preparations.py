"""Preparations drawn at random, many with sources, files or steps that leave nothing: one clear error, or counts that add up."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from detour.corpus.config import load
from detour.corpus.prepare import prepare
from detour.data.tokenizer import train_bpe
from detour.errors import DataError

WORDS = ["heart", "blood", "the", "患者", "发热", "أُدخل", "fièvre", "[MASK]", "a\u2028b", "<b>", "😀"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([" ".join(WORDS)] * 3, vocab_size=400).save_pretrained(folder)
    return folder


def text_of(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 5, 30])))


def write_source(folder: Path, rng: random.Random, most: int) -> int:
    """Writes one to four files of at most so many records each; returns how many have a text."""
    folder.mkdir(parents=True)
    texts = []
    for n in range(rng.randint(1, 4)):
        scores = [None, 1, 5, "x", [1], float("nan")]
        records = [
            {"text": text_of(rng), "score": rng.choice(scores)} for _ in range(rng.choice([0, 0, min(3, most), most]))
        ]
        (folder / f"{n}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        texts += [record["text"] for record in records]
    return sum(bool(text) for text in texts)


def draw_steps(rng: random.Random, sources: int, items: Path) -> list[dict]:
    options = {
        "normalize": {}, "repair": {}, "exact_dedup": {}, "near_dedup": {},
        "length": {"min_words": rng.choice([3, 100])},
        "score": {"column": "score", "keep": rng.choice([">= 3", "!= x"])},
        "decontaminate": {"paths": [str(items)]},
        "upsample": {"column": "score", "times": {">= 1": rng.choice([2, 50])}},
    }  # fmt: skip
    chosen = rng.sample(sorted(options), rng.randint(0, 5))
    return [
        {
            "kind": kind,
            "options": options[kind],
            "sources": [f"s{rng.randrange(sources)}"] if rng.random() < 0.3 else [],
        }
        for kind in chosen
    ]


@pytest.mark.parametrize("seed", range(6))
def test_counts_add_up_or_one_error_says_that_nothing_is_left(seed, tokenizer, tmp_path):
    rng = random.Random(seed)
    (tmp_path / "items.jsonl").write_text(json.dumps({"text": " ".join(rng.choices(WORDS, k=20))}))
    for n in range(3):  # the first without a document at all
        here = tmp_path / str(n)
        texts = [write_source(here / f"s{s}", rng, most=20 if n else 0) for s in range(rng.randint(1, 3))]
        settings = {
            "out": str(here / "out"), "tokenizer": str(tokenizer), "seq_len": 64,
            "validation_fraction": rng.choice([0, 0.2, 0.9]),
            "sources": [{"name": f"s{s}", "kind": "jsonl", "paths": [str(here / f"s{s}")]} for s in range(len(texts))],
            "steps": draw_steps(rng, len(texts), tmp_path / "items.jsonl"),
        }  # fmt: skip
        (here / "c.yaml").write_text(yaml.safe_dump(settings))
        try:
            record, _ = prepare(load(here / "c.yaml"))
        except DataError as error:
            assert "no document is left to train on" in str(error)  # noqa: PT017
            continue
        assert [record["sources"][f"s{s}"]["documents_read"] for s in range(len(texts))] == texts
        last = dict(enumerate(texts))
        for step in record["steps"]:
            for name, counts in step["by_source"].items():
                assert counts["documents_in"] == last[int(name[1:])]
                last[int(name[1:])] = counts["documents_in"] - sum(counts["dropped"].values())
                assert counts["documents_out"] == last[int(name[1:])]
        assert prepare(load(here / "c.yaml")) == (record, False)
