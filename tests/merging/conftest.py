"""Encoders of three families with random weights, by transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig, RobertaConfig
from transformers.utils import logging as transformers_logging

from detour.data.tokenizer import load_tokenizer
from detour.evaluation.models import Model, resolve

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "vocab_size": 600,
}
CONFIGS = {
    "modernbert": (
        ModernBertConfig,
        {"local_attention": 16, "max_position_embeddings": 256, "reference_compile": False},
    ),
    "bert": (BertConfig, {"max_position_embeddings": 128}),
    "roberta": (RobertaConfig, {"max_position_embeddings": 130}),
}


@pytest.fixture(autouse=True)
def _no_talk_of_transformers():
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(before)


@pytest.fixture(scope="session")
def make_folder(corpus, tmp_path_factory) -> Callable[..., Path]:
    """A function that writes an encoder of a family with the random weights of a seed; keywords change its config."""
    root = tmp_path_factory.mktemp("encoders")

    def make(name: str, seed: int, family: str = "modernbert", **changes) -> Path:
        tokenizer = load_tokenizer(corpus.tokenizer)
        kind, options = CONFIGS[family]
        special = {"pad_token_id": tokenizer.pad_token_id, "cls_token_id": tokenizer.cls_token_id,
                   "sep_token_id": tokenizer.sep_token_id, "bos_token_id": tokenizer.cls_token_id,
                   "eos_token_id": tokenizer.sep_token_id}  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForMaskedLM.from_config(kind(**{**SMALL, **options, **special, **changes}))
            for parameter in model.parameters():  # norms and biases too, which begin as ones and zeros
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        return root / name

    return make


@pytest.fixture(scope="session")
def models(make_folder) -> dict[str, Model]:
    """Three ModernBERTs, a to c."""
    folders = [make_folder(name, seed) for seed, name in enumerate("abc")]
    return {model.name: model for model in resolve([str(folder) for folder in folders])}
