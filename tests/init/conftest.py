"""A start model with random weights, and folders of text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM

from data_prep.synthetic import generate
from detour.cli.main import main
from detour.data.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def start_model(corpus, tmp_path_factory) -> Path:
    """A ModernBERT of three layers with the tokenizer of the tiny corpus."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = load_tokenizer(corpus.tokenizer)
    config = ModernBertConfig(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        local_attention=16, pad_token_id=tokenizer.pad_token_id, reference_compile=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cases() -> list[str]:
    """200 different texts of a paragraph."""
    return [f"Case {i}. {document['text']}" for i, document in enumerate(generate(documents=200, seed=5))]


@pytest.fixture
def jsonl(tmp_path) -> Callable[..., Path]:
    """A function that writes texts as JSON lines."""

    def write(texts: list[str], name: str = "text.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    return write


def call(*arguments: object) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return int(exit.value.code or 0)


@pytest.fixture
def detour() -> Callable[..., int]:
    """The command line, in this process."""
    return call
