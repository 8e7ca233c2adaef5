"""Texts with entities to inputs of the span head: sub-tokens, and entities as spans of sub-tokens.

Shapes: B windows, T tokens, K tokens of the longest span.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from detour.batch import IGNORE
from detour.errors import ConfigError
from detour.evaluation.data.examples import Example, Span
from detour.evaluation.data.features import Encoded, windows_of

LONGEST = 40  # tokens of the longest span
FIRST_NEGATIVES, MOST_SPANS = 500, 512  # of the published code


def encode_spans(
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    max_length: int,
    first_negatives: bool = False,
) -> Encoded:
    """Encodes texts in overlapping windows; nothing is truncated.

    An entity reaches from the first token that shares a character with it to the last. It is trained in windows with all of it.

    Args:
        tokenizer: The model's tokenizer.
        examples: Examples of a nested NER task.
        labels: Entity types in the order of the model's outputs.
        max_length: Maximum length of a window in tokens, including special tokens.
        first_negatives: Whether the loss takes the first negatives of a window only (`scored_spans`).

    Returns:
        Features of `SpanCollator`, and in ``lost`` the number of entities that cannot be found: those of more than `LONGEST`
        tokens, those whose boundary lies inside a token, and those cut by every window.

    Raises:
        ConfigError: ``max_length`` leaves fewer than two tokens beside the special tokens.
    """
    features: list[dict[str, Any]] = []
    places: list[tuple[int, np.ndarray]] = []
    lost = 0
    for number, example in enumerate(examples):
        encoded: Any = tokenizer(
            example.parts[0], return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
        )
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
        before = special.index(0) if 0 in special else len(ids)
        after = special[::-1].index(0) if 0 in special else 0
        room = max_length - before - after
        if room < 2:
            raise ConfigError(f"max_length {max_length}: leaves no room for two tokens beside the special ones")
        inner = slice(before, len(ids) - after)
        offsets_N2 = _bare_offsets(example.parts[0], encoded["offset_mapping"][inner])
        spans = [(*_tokens_of(span.start, span.end, offsets_N2), span) for span in example.target]  # type: ignore[union-attr]
        found = set()
        for begin, end in windows_of(len(offsets_N2), room):
            held = [each for each in spans if begin <= each[0] <= each[1] < min(end, each[0] + LONGEST)]
            found |= {span for first, last, span in held if _exactly(span, offsets_N2[first, 0], offsets_N2[last, 1])}
            window = [*ids[:before], *ids[inner][begin:end], *ids[len(ids) - after :]]
            shift = before - begin
            features.append({
                "input_ids": window,
                "attention_mask": [1] * len(window),
                "entities": [[first + shift, last + shift, labels.index(span.type)] for first, last, span in held],
                "inner": (before, end + shift),
                "first_negatives": first_negatives,
            })  # fmt: skip
            characters = np.zeros((len(window), 2), dtype=int)
            characters[before : end + shift] = offsets_N2[begin:end]
            places.append((number, characters))
        lost += len(spans) - len(found)
    return Encoded(features=features, places=places, lost=lost)


class SpanCollator:
    """Pads features of `encode_spans`, and says which spans the loss is over.

    The batch has ``input_ids`` and ``attention_mask`` [B, T]; ``labels``, int8 [B, T, K], for the span from t to t + k: 1 for
    an entity, 0 for a negative, IGNORE for a span that does not exist or is left out; and ``entities``, int64 [B, G, 3]: first
    token, last token, and type of each entity, -1 behind the last.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        inputs = [{key: feature[key] for key in ("input_ids", "attention_mask")} for feature in features]
        batch: dict[str, Any] = dict(self.tokenizer.pad(inputs, return_tensors="pt"))
        most = max(1, *(len(feature["entities"]) for feature in features))
        padded = [feature["entities"] + [[-1] * 3] * (most - len(feature["entities"])) for feature in features]
        batch["entities"] = torch.tensor(padded)
        batch["labels"] = torch.full((*batch["input_ids"].shape, LONGEST), IGNORE, dtype=torch.int8)
        for row_TK, feature in zip(batch["labels"], features, strict=True):
            row_TK[: len(feature["input_ids"])] = scored_spans(feature)
        return batch


def scored_spans(feature: dict[str, Any]) -> Tensor:
    """int8 [T, K]: the part of ``labels`` (`SpanCollator`) that belongs to one feature.

    All spans inside the window, or, with ``first_negatives``, as the authors' code has it: the first 500 negatives in
    order of their first token, and if that makes more than 512 spans, 512 of them drawn at random, once per window.
    """
    begin, end = feature["inner"]
    scored_TK = torch.full((len(feature["input_ids"]), LONGEST), IGNORE, dtype=torch.int8)
    exists_NK = torch.arange(end - begin)[:, None] + torch.arange(LONGEST) < end - begin
    scored_TK[begin:end][exists_NK] = 0
    for first, last, _ in feature["entities"]:
        scored_TK[first, last - first] = 1
    if feature["first_negatives"]:
        negatives = (scored_TK == 0).nonzero()
        scored_TK[tuple(negatives[FIRST_NEGATIVES:].T)] = IGNORE
        left = (scored_TK != IGNORE).nonzero()
        if (surplus := len(left) - MOST_SPANS) > 0:
            drawn = np.random.default_rng(zlib.crc32(str(feature["input_ids"]).encode())).permutation(len(left))
            scored_TK[tuple(left[torch.from_numpy(drawn[:surplus])].T)] = IGNORE
    return scored_TK


def _bare_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """int [N, 2]: the characters of each token without white space at either end."""
    bare = np.zeros((len(offsets), 2), dtype=int)
    for token, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        bare[token] = start, end
    return bare


def _tokens_of(start: int, end: int, offsets_N2: np.ndarray) -> tuple[int, int]:
    """The first and the last token that share a character with [start, end); (0, -1) if none does."""
    within = np.flatnonzero(
        (offsets_N2[:, 1] > start) & (offsets_N2[:, 0] < end) & (offsets_N2[:, 0] < offsets_N2[:, 1])
    )
    return (int(within[0]), int(within[-1])) if len(within) else (0, -1)


def _exactly(span: Span, start: int, end: int) -> bool:
    return span.start == start and span.end == end
