"""A random encoder of two layers, one whose weights are written by hand, and tasks that are made on the spot."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from detour.data.tokenizer import ROLES, load_tokenizer
from detour.evaluation.data.task import Task, load_task

FILLERS = (
    "the",
    "patient",
    "was",
    "seen",
    "in",
    "clinic",
    "today",
    "and",
    "then",
    "after",
    "days",
    "of",
    "rest",
    "at",
    "home",
)
ANSWERS = ("fever", "pain", "no", "some", "all", "acute")  # the words that decide a label in `made`
SIZES = {"train": 96, "dev": 32, "test": 64}
FAST = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4}


@pytest.fixture(autouse=True)
def _no_talk_of_fresh_heads():
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(before)


@pytest.fixture(scope="session")
def encoder(corpus, tmp_path_factory) -> Path:
    """The folder of a ModernBERT with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = load_tokenizer(corpus.tokenizer)
    config = ModernBertConfig(
        vocab_size=600,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        reference_compile=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """A function that makes a tokenizer with one token for each of the given words."""

    def make(words: list[str], **options) -> PreTrainedTokenizerFast:
        special = [ROLES[role] for role in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")]
        vocabulary = {word: i for i, word in enumerate([*special, *words])}
        made = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[(name, vocabulary[name]) for name in special[1:3]],
        )
        return PreTrainedTokenizerFast(tokenizer_object=made, **ROLES, **options)

    return make


@pytest.fixture(scope="session")
def constructed(word_tokenizer, tmp_path_factory) -> Path:
    """The folder of a ModernBERT whose weights are written by hand: the state of a word names the word and nothing else.

    Embeddings are unit vectors and the layers add nothing, so what `made` plants in a text can be read from the states by
    a linear layer, on every CPU. It pools the mean, since its first token knows nothing.
    """
    folder = tmp_path_factory.mktemp("models") / "constructed"
    tokenizer = word_tokenizer([*FILLERS, *ANSWERS], model_max_length=256)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        classifier_pooling="mean",
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        reference_compile=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ModernBertForMaskedLM(config)
    with torch.no_grad():
        nn.init.eye_(model.model.embeddings.tok_embeddings.weight)
        nn.init.eye_(model.head.dense.weight)
        for layer in model.model.layers:
            nn.init.zeros_(layer.attn.Wo.weight)
            nn.init.zeros_(layer.mlp.Wo.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def data_root(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def write_task(tmp_path, data_root) -> Callable[..., Path]:
    """A function that writes a task's data and YAML and returns the YAML's path; keywords replace the YAML's keys."""

    def write(name: str, kind: str, splits: dict[str, list[dict]], **changes) -> Path:
        folder = data_root / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, records in splits.items():
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        metric = {
            "classification": "accuracy",
            "multilabel": "micro_f1",
            "similarity": "pearson",
            "ner": "span_micro_f1",
            "nested_ner": "exact_micro_f1",
        }
        described = {
            "name": name,
            "language": "en",
            "kind": kind,
            "source": {"kind": "local", "options": {"path": name}},
            "metric": metric[kind],
            "license": "made here",
            "max_length": 64,
            "training": FAST,
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(described))
        return path

    return write


@pytest.fixture
def make_task(write_task) -> Callable[..., Task]:
    """The same, loaded."""
    return lambda *arguments, **changes: load_task(write_task(*arguments, **changes))


@pytest.fixture
def made(test_seed) -> SimpleNamespace:
    """Splits of records whose answer stands in the text: a function for each kind of task."""
    makers = {"classification": _classification, "multilabel": _multilabel, "similarity": _similarity, "ner": _ner}
    return SimpleNamespace(**{kind: partial(make, test_seed) for kind, make in makers.items()})


def _texts(seed: int) -> dict[str, list[tuple[str, str, random.Random]]]:
    """Split -> (id, words that mean nothing, generator for the rest)."""
    rng = random.Random(seed)
    return {
        split: [(f"{split}-{i}", " ".join(rng.choices(FILLERS, k=6)), rng) for i in range(count)]
        for split, count in SIZES.items()
    }


def _classification(seed: int, *, shuffled: bool = False) -> dict[str, list[dict]]:
    """The label is named in the text; shuffled, it is drawn apart from it."""

    def record(id, filler, rng):
        said, drawn = rng.choice(["fever", "pain"]), rng.choice(["fever", "pain"])
        return {"id": id, "text": f"{said} {filler}", "label": drawn if shuffled else said}

    return {split: [record(*item) for item in items] for split, items in _texts(seed).items()}


def _multilabel(seed: int) -> dict[str, list[dict]]:
    def record(id, filler, rng):
        labels = [label for label in ("fever", "pain") if rng.random() < 0.5]
        return {"id": id, "text": f"{' '.join(labels)} {filler}", "labels": labels}

    return {split: [record(*item) for item in items] for split, items in _texts(seed).items()}


def _similarity(seed: int) -> dict[str, list[dict]]:
    def record(id, filler, rng):
        score = rng.randrange(3)
        return {"id": id, "text_a": f"{['no', 'some', 'all'][score]} {filler}", "text_b": filler, "score": score}

    return {split: [record(*item) for item in items] for split, items in _texts(seed).items()}


def _ner(seed: int) -> dict[str, list[dict]]:
    def record(id, filler, rng):
        tokens, tags = [], []
        for word in filler.split():
            if rng.random() < 0.3:
                tokens += ["acute", "pain"]
                tags += ["B-SIGN", "I-SIGN"]
            tokens.append(word)
            tags.append("O")
        return {"id": id, "tokens": tokens, "ner_tags": tags}

    return {split: [record(*item) for item in items] for split, items in _texts(seed).items()}
