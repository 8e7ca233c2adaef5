"""Folders of ModernBERTs with random weights, and a file of texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM
from transformers.utils import logging as transformers_logging

from data_prep.synthetic import generate
from detour.analysis.curves import NEEDLE_COLUMNS
from detour.data.tokenizer import load_tokenizer
from detour.evaluation.data.task import load_task
from detour.evaluation.models import Model, resolve
from detour.evaluation.suite import task_record

HITS = {  # model -> tokens -> correct at start, middle, end, of 40
    "one": {512: (30, 20, 10), 1024: (15, 10, 5)},
    "two": {512: (40, 40, 40), 1024: (0, 1, 2)},
}
SCORES = {  # model -> task -> test scores of the seeds 1 and 2
    "twin": {"bc5cdr": (0.50, 0.52), "ncbi_disease": (0.60, 0.62)},
    "detour": {"bc5cdr": (0.60, 0.62), "ncbi_disease": (0.70, 0.72)},
    "frozen": {"bc5cdr": (0.50, 0.56), "ncbi_disease": (0.64, 0.64)},
}


@pytest.fixture(autouse=True)
def _no_talk_of_transformers():
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(before)


@pytest.fixture(scope="session")
def make_folder(corpus, tmp_path_factory) -> Callable[..., Path]:
    """A function that writes a ModernBERT of four layers with the random weights of a seed; keywords change its config."""
    root = tmp_path_factory.mktemp("folders")

    def make(name: str, seed: int, **changes) -> Path:
        tokenizer = load_tokenizer(corpus.tokenizer)
        config = ModernBertConfig(**{
            "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
            "num_attention_heads": 2, "local_attention": 16, "max_position_embeddings": 512,
            "pad_token_id": tokenizer.pad_token_id, "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id, "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id, "reference_compile": False, **changes,
        })  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = ModernBertForMaskedLM(config)
            for parameter in model.parameters():  # norms and biases too, which begin as ones and zeros
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        return root / name

    return make


@pytest.fixture(scope="session")
def folders(make_folder) -> dict[str, Path]:
    """Four models, a to d."""
    return {name: make_folder(name, seed) for seed, name in enumerate("abcd")}


@pytest.fixture(scope="session")
def models(folders) -> dict[str, Model]:
    return {model.name: model for model in resolve([str(folder) for folder in folders.values()])}


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory) -> Path:
    """24 synthetic cases."""
    path = tmp_path_factory.mktemp("texts") / "held_out.jsonl"
    path.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in generate(documents=24, seed=11)))
    return path


@pytest.fixture
def write_records() -> Callable[..., Path]:
    """A function that writes finished cells of `detour eval run`: model -> task -> test scores of the seeds 1, 2, ..."""

    def write(folder: Path, scores: dict[str, dict[str, tuple[float, ...]]]) -> Path:
        for model, tasks in scores.items():
            for name, values in tasks.items():
                task = load_task(name)
                for seed, value in enumerate(values, start=1):
                    outcome = {
                        "test": {task.metric: value}, "validation": {task.metric: 0.5}, "epoch": 1, "seconds": 1.0,
                        "max_length": task.max_length, "truncated": {}, "unreadable": {}, "precision": "fp32",
                    }  # fmt: skip
                    record = {
                        "format": 1, "model": {"name": model, "sha256": f"sha {model}"}, "task": task_record(task),
                        "data": {"sha256": "d", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []},
                        "seed": seed, "outcome": outcome, "environment": {"detour": "0", "commit": None},
                    }  # fmt: skip
                    path = folder / "cells" / model / name / f"seed{seed}.json"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(record))
        return folder

    return write


@pytest.fixture
def write_needle() -> Callable[..., Path]:
    """A function that writes a file of `detour probe needle --out` with correct answers as in HITS."""

    def write(path: Path, hits=HITS, **changes) -> Path:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(NEEDLE_COLUMNS)
            for model, lengths in hits.items():
                for tokens, counts in lengths.items():
                    for place, count in zip(("start", "middle", "end"), counts, strict=True):
                        row = {"model": model, "model_sha256": f"sha {model}", "probe": "needle", "data": "en",
                               "metric": f"accuracy_{place}", "value": count / 40, "examples": 40,
                               "settings": json.dumps({"tokens": tokens, "distractors": 3}), **changes}  # fmt: skip
                        writer.writerow([row[column] for column in NEEDLE_COLUMNS])
        return path

    return write


@pytest.fixture
def hits() -> dict:
    return HITS


@pytest.fixture
def scores() -> dict:
    return SCORES
