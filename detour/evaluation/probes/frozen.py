"""A frozen encoder: states of texts, pooled, and log-probabilities of masked tokens. Plain transformers, no gradients.

Shapes: N texts, T positions, H hidden size, W words of all texts.
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
from detour.errors import ModelError
from detour.evaluation.data.features import Encoded
from detour.evaluation.finetune.finetune import longest_input
from detour.evaluation.models import load_pretrained, takes_types

Pooling = Callable[[Tensor, Tensor], Tensor]  # states [N, T, H], mask [N, T] -> [N, ...]
BATCH_TOKENS = 16_384


def mean_of(states_NTH: Tensor, mask_NT: Tensor) -> Tensor:
    """[N, H]: the mean over a text's tokens, special ones included, as sentence-transformers pools."""
    weights_NT1 = mask_NT[..., None].to(states_NTH.dtype)
    return (states_NTH * weights_NT1).sum(1) / weights_NT1.sum(1)


def first_and_mean_of(states_NTH: Tensor, mask_NT: Tensor) -> Tensor:
    """[N, 2H]: the first token's state beside the mean."""
    return torch.cat([states_NTH[:, 0], mean_of(states_NTH, mask_NT)], -1)


class Frozen:
    """An encoder and its tokenizer.

    Args:
        folder: A Hugging Face folder with safetensors.
        masked_lm: Load it with its head for masked words.

    Raises:
        ModelError: It cannot be loaded, or lacks weights that the probe needs.
        DataError: Its tokenizer cannot be loaded.
    """

    def __init__(self, folder: Path, *, masked_lm: bool = False) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model, missing = load_pretrained(AutoModelForMaskedLM if masked_lm else AutoModel, folder)
        if lost := [key for key in missing if "pooler." not in key]:
            raise ModelError(f"{folder}: {len(lost)} weights are missing, the first is {lost[0]}")
        self.model = model.eval().to(self.device)  # type: ignore[arg-type]
        self.longest = longest_input(self.model, self.tokenizer)

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int, pooling: Pooling = mean_of
    ) -> tuple[np.ndarray, int]:
        """float32 [N, ...]: a vector a text or pair, and how many were cut at ``max_length`` or what the model takes.

        Deterministic: texts are batched by their length.
        """
        limit = min(max_length, self.longest)
        encode: dict[str, Any] = {"return_token_type_ids": takes_types(self.model), "verbose": False}
        lengths = [len(ids) for ids in self.tokenizer(list(texts), pairs and list(pairs), **encode)["input_ids"]]  # type: ignore[arg-type]
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
        for some in _batches([min(length, limit) for length in lengths]):
            inputs: Any = self.tokenizer(
                [texts[i] for i in some],
                [pairs[i] for i in some] if pairs else None,
                truncation=True,
                max_length=limit,
                padding=True,
                return_tensors="pt",
                **encode,
            ).to(self.device)
            states_NTH = self.model(**inputs).last_hidden_state
            pooled = pooling(states_NTH, inputs["attention_mask"]).float().cpu().numpy()
            for i, vector in zip(some, pooled, strict=True):
                vectors[i] = vector
        return np.stack(vectors), sum(length > limit for length in lengths)

    @torch.no_grad()
    def states_of_words(self, encoded: Encoded) -> np.ndarray:
        """float32 [W, H]: the state at each word's first sub-word, example after example; zeros for a word without one."""
        positions_W2 = np.concatenate(encoded.positions_W2)
        states_WH = np.zeros((len(positions_W2), self.model.config.hidden_size), np.float32)
        words_of: list[list[int]] = [[] for _ in encoded.features]
        for w, window in enumerate(positions_W2[:, 0]):
            if window >= 0:
                words_of[window].append(w)
        inputs = [{key: feature[key] for key in ("input_ids", "attention_mask")} for feature in encoded.features]
        padded: Any = DataCollatorWithPadding(self.tokenizer)
        for some in _batches([len(feature["input_ids"]) for feature in inputs]):
            batch = padded([inputs[i] for i in some]).to(self.device)
            states_NTH = self.model(**batch).last_hidden_state.float().cpu().numpy()
            for i, states_TH in zip(some, states_NTH, strict=True):
                states_WH[words_of[i]] = states_TH[positions_W2[words_of[i], 1]]
        return states_WH

    @torch.no_grad()
    def log_probabilities(self, ids_NT: Tensor, at_NT: Tensor) -> Tensor:
        """float32 [K, V]: log-probabilities at the K positions where ``at_NT`` is true, in row order; texts unpadded."""
        logits = self.model(
            input_ids=ids_NT.to(self.device), attention_mask=torch.ones_like(ids_NT).to(self.device)
        ).logits
        return logits[at_NT.to(self.device)].float().log_softmax(-1).cpu()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices by length, in batches of at most so many padded tokens."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[i] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
