"""Folders of ModernBERTs with random weights, and a file of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM
from transformers.utils import logging as transformers_logging

from data_prep.synthetic import generate
from detour.data.tokenizer import load_tokenizer
from detour.evaluation.models import Model, resolve


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
