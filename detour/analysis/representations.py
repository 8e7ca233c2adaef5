"""Pooled states of every layer of an encoder, over a set of texts that is the same for every model.

Shapes: n texts, T positions, H hidden size, D depths (`depths_of`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detour.corpus.text import find_files, read_documents
from detour.errors import ConfigError, DataError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import Task
from detour.evaluation.models import takes_types
from detour.evaluation.probes.frozen import Frozen, mean_of

log = logging.getLogger(__name__)
EMBEDDINGS, FINAL = "embeddings", "final"


@dataclass(frozen=True)
class TextSet:
    """Different texts in an order that depends on their content only.

    Attributes:
        texts: Sorted by their SHA-256.
        duplicates: Further copies of a text, which were left out.
    """

    texts: tuple[str, ...]
    duplicates: int

    @property
    def sha256(self) -> str:
        """Hash of the set, whatever order and files the texts came in."""
        return hashlib.sha256("".join(map(_digest, self.texts)).encode()).hexdigest()

    @classmethod
    def of(cls, texts: Iterable[str]) -> TextSet:
        """Sorts the texts and drops copies. Raises DataError if there are fewer than 4."""
        found = list(texts)
        unique = sorted(set(found), key=_digest)
        if len(unique) < 4:
            raise DataError(f"texts: {len(unique)} different ones, expected at least 4")
        if copies := len(found) - len(unique):
            log.warning("texts: %d of %d are copies of another text and are left out", copies, len(found))
        return cls(texts=tuple(unique), duplicates=copies)

    def draw(self, size: int, seed: int) -> list[int]:
        """Indices of ``size`` different texts, ascending; the same for every model.

        Raises:
            ConfigError: The set has fewer texts.
        """
        if not 4 <= size <= len(self.texts):
            raise ConfigError(f"subset: {size} texts, expected 4 to {len(self.texts)} (the different texts there are)")
        return sorted(np.random.default_rng(seed).choice(len(self.texts), size, replace=False).tolist())


def read_texts(paths: Iterable[Path], *, column: str = "text") -> list[str]:
    """Texts of files or folders: JSON Lines (``column`` names the text) or .txt, also compressed.

    Raises:
        DataError: No such file, or a damaged or unusable record. Records with an empty text are left out.
    """
    return [document.text for document in read_documents(find_files(list(paths)), text_column=column, strict=True)]


def task_texts(task: Task, data_root: Path) -> list[str]:
    """Texts of all splits of a labeled task: both texts of a pair, and for NER the words joined by a space.

    Raises:
        DataError, ConfigError: See `detour.evaluation.data.dataset.load_dataset`.
    """
    splits = load_dataset(task, data_root).splits
    examples = [example for split in sorted(splits) for example in splits[split]]
    if task.kind == "ner":
        return [" ".join(example.parts) for example in examples]
    return [part for example in examples for part in example.parts]


def depths_of(states: Sequence[Any]) -> list[str]:
    """Names of the D depths: "embeddings", "0" to "L-1" (the output of each layer), and "final"."""
    return [EMBEDDINGS, *map(str, range(len(states) - 2)), FINAL]


@torch.no_grad()
def layer_states(
    encoder: Frozen, texts: Sequence[str], *, max_length: int = 512, batch: int = 16
) -> tuple[list[np.ndarray], int]:
    """float32 [n, H] for each depth, and how many texts were cut to ``max_length`` tokens.

    Depths are the entries of transformers' `hidden_states` (embedding output, then the output of each layer), and the
    last hidden state. For ModernBERT the output of the last layer comes before the final norm and "final" after it; in
    encoders without a final norm, such as BERT, the two are equal. States are means over the tokens of a text, special
    tokens included and padding excluded.

    Texts are batched by length and content, so that their order does not affect their states.

    Args:
        encoder: The model, in float32.
        texts: The texts.
        max_length: Longest input in tokens; at most what the model takes.
        batch: Texts per forward pass.

    Raises:
        ConfigError: ``max_length`` is longer than the model takes, or an option is below 1.

    Memory: n D H floats of 4 bytes.
    """
    if not 1 <= max_length <= encoder.longest or batch < 1:
        raise ConfigError(
            f"max_length {max_length} and batch {batch}: expected 1 to {encoder.longest}, which the model takes, and 1 or more"
        )
    encode: dict[str, Any] = {"return_token_type_ids": takes_types(encoder.model), "verbose": False}
    tokenizer: Any = encoder.tokenizer
    lengths = [len(ids) for ids in tokenizer(list(texts), **encode)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: (min(lengths[i], max_length), texts[i]))
    states: list[np.ndarray] = []
    for begin in range(0, len(order), batch):
        some = order[begin : begin + batch]
        inputs = tokenizer([texts[i] for i in some], truncation=True, max_length=max_length, padding=True,
                           return_tensors="pt", **encode).to(encoder.device)  # fmt: skip
        pooled = _pooled(encoder.model(**inputs, output_hidden_states=True), inputs["attention_mask"])
        if not states:
            states = [np.empty((len(texts), vectors.shape[1]), np.float32) for vectors in pooled]
        for into, vectors in zip(states, pooled, strict=True):
            into[some] = vectors
    return states, sum(length > max_length for length in lengths)


def _pooled(answer: Any, mask_NT: Tensor) -> list[np.ndarray]:
    return [mean_of(h.float(), mask_NT).cpu().numpy() for h in (*answer.hidden_states, answer.last_hidden_state)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
