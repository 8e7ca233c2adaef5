"""Frozen encoders: pooled hidden states of texts, states of words, and log-probabilities of masked tokens.

Plain transformers, without gradients. Shapes: N texts, T positions, H hidden size, W words of all texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM, DataCollatorWithPadding

from detour.data.tokenizer import load_tokenizer
from detour.evaluation.data.features import Encoded
from detour.evaluation.finetune.finetune import longest_input
from detour.evaluation.models import load_complete, takes_types

Pooling = Callable[[Tensor, Tensor], Tensor]  # states [N, T, H], mask [N, T] -> [N, ...]
BATCH_TOKENS = 16_384


def mean_of(states_NTH: Tensor, mask_NT: Tensor) -> Tensor:
    """[N, H]: mean over the tokens of a text, including special tokens (mean pooling of sentence-transformers)."""
    weights_NT1 = mask_NT[..., None].to(states_NTH.dtype)
    return (states_NTH * weights_NT1).sum(1) / weights_NT1.sum(1)


def first_and_mean_of(states_NTH: Tensor, mask_NT: Tensor) -> Tensor:
    """[N, 2H]: state of the first token, concatenated with the mean."""
    return torch.cat([states_NTH[:, 0], mean_of(states_NTH, mask_NT)], -1)


class Frozen:
    """An encoder with frozen weights, and its tokenizer.

    Args:
        folder: Hugging Face folder with safetensors.
        masked_lm: Whether to load the masked-LM head.

    Raises:
        ModelError: The model cannot be loaded, or weights are missing.
        DataError: The tokenizer cannot be loaded.
    """

    def __init__(self, folder: Path, *, masked_lm: bool = False) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_complete(AutoModelForMaskedLM if masked_lm else AutoModel, folder)
        self.model = model.to(self.device)  # type: ignore[arg-type]
        self.longest = longest_input(self.model, self.tokenizer)

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int, pooling: Pooling = mean_of
    ) -> tuple[np.ndarray, int]:
        """Pooled states of texts or pairs, float32 [N, ...], and the number of truncated ones.

        Deterministic: texts are batched by length.

        Args:
            texts: The texts, or the first text of each pair.
            pairs: The second text of each pair.
            max_length: Maximum length in tokens; at most the maximum input length of the model.
            pooling: Maps states [N, T, H] and mask [N, T] to vectors [N, ...].
        """
        limit = min(max_length, self.longest)
        encode: dict[str, Any] = {"return_token_type_ids": takes_types(self.model), "verbose": False}
        lengths = [len(ids) for ids in self.tokenizer(list(texts), pairs and list(pairs), **encode)["input_ids"]]  # type: ignore[arg-type]
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
        for batch in _batches([min(length, limit) for length in lengths]):
            inputs: Any = self.tokenizer(
                [texts[i] for i in batch],
                [pairs[i] for i in batch] if pairs else None,
                truncation=True,
                max_length=limit,
                padding=True,
                return_tensors="pt",
                **encode,
            ).to(self.device)
            states_NTH = self.model(**inputs).last_hidden_state
            pooled = pooling(states_NTH, inputs["attention_mask"]).float().cpu().numpy()
            for i, vector in zip(batch, pooled, strict=True):
                vectors[i] = vector
        return np.stack(vectors), sum(length > limit for length in lengths)

    @torch.no_grad()
    def states_of_words(self, encoded: Encoded) -> np.ndarray:
        """float32 [W, H]: state at the first subword of each word, in order; zeros for words without a token."""
        positions_W2 = np.concatenate(encoded.positions_W2)
        states_WH = np.zeros((len(positions_W2), self.model.config.hidden_size), np.float32)
        words_of: list[list[int]] = [[] for _ in encoded.features]
        for w, window in enumerate(positions_W2[:, 0]):
            if window >= 0:
                words_of[window].append(w)
        inputs = [{key: feature[key] for key in ("input_ids", "attention_mask")} for feature in encoded.features]
        padded: Any = DataCollatorWithPadding(self.tokenizer)
        for batch in _batches([len(feature["input_ids"]) for feature in inputs]):
            tensors = padded([inputs[i] for i in batch]).to(self.device)
            states_NTH = self.model(**tensors).last_hidden_state.float().cpu().numpy()
            for i, states_TH in zip(batch, states_NTH, strict=True):
                states_WH[words_of[i]] = states_TH[positions_W2[words_of[i], 1]]
        return states_WH

    @torch.no_grad()
    def log_probabilities(self, ids_NT: Tensor, at_NT: Tensor) -> Tensor:
        """float32 [K, V]: log-probabilities at the K positions where ``at_NT`` is true, in row order.

        Args:
            ids_NT: int64 [N, T], token ids without padding.
            at_NT: bool [N, T].
        """
        logits = self.model(
            input_ids=ids_NT.to(self.device), attention_mask=torch.ones_like(ids_NT).to(self.device)
        ).logits
        return logits[at_NT.to(self.device)].float().log_softmax(-1).cpu()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices sorted by length, in batches of at most `BATCH_TOKENS` tokens including padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[i] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
