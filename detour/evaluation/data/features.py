"""Examples as the inputs of a model: texts cut at a length and counted, words of long documents in windows.

Shapes: W words of an example, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from detour.batch import IGNORE
from detour.errors import ConfigError
from detour.evaluation.data.examples import Example


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Inputs of one split.

    Attributes:
        features: What a data collator takes: input_ids, attention_mask, labels.
        truncated: Texts that were cut at the greatest length.
        positions_W2: NER: for each example int [W, 2], the feature and the position in it that each word is read at; -1
            where the tokenizer leaves nothing of a word.
    """

    features: list[dict[str, Any]]
    truncated: int = 0
    positions_W2: list[np.ndarray] = field(default_factory=list)

    @property
    def unreadable(self) -> int:
        """Words that no token stands for."""
        return int(sum((places[:, 0] < 0).sum() for places in self.positions_W2))


def encode_texts(
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    labels: Sequence[Any],
    *,
    max_length: int,
    types: bool = False,
) -> Encoded:
    """Texts and pairs of texts, cut at ``max_length`` tokens where they are longer (of a pair, the longer one first).

    Args:
        labels: What each example's ``labels`` become: a class number, floats [C], or a float.
        types: Whether the model takes ``token_type_ids``.
    """
    texts = [example.parts[0] for example in examples]
    pairs = [example.parts[1] for example in examples] if len(examples[0].parts) > 1 else None
    encode: dict[str, Any] = {"return_token_type_ids": types, "return_attention_mask": True, "verbose": False}
    whole: Any = tokenizer(texts, pairs, **encode)
    long = [i for i, ids in enumerate(whole["input_ids"]) if len(ids) > max_length]
    features = [{key: whole[key][i] for key in whole} | {"labels": labels[i]} for i in range(len(examples))]
    for i in long:
        cut = tokenizer(texts[i], pairs and pairs[i], **encode, truncation=True, max_length=max_length)
        features[i].update(cut)
    return Encoded(features=features, truncated=len(long))


def encode_words(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], label_ids: dict[str, int], *, max_length: int
) -> Encoded:
    """Tagged words, joined by spaces, in as many overlapping windows as they need: nothing is cut off.

    A word's label stands at its first sub-word, in the one window where that has most context on its shorter side;
    everywhere else the label is IGNORE. Windows overlap by a quarter.

    Raises:
        ConfigError: ``max_length`` leaves no room beside the tokenizer's special tokens.
    """
    features, places = [], []
    for example in examples:
        text, starts = " ".join(example.parts), np.cumsum([0, *(len(word) + 1 for word in example.parts)])
        whole: Any = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids, special = whole["input_ids"], whole["special_tokens_mask"]
        before = special.index(0) if 0 in special else len(ids)
        after = special[::-1].index(0) if 0 in special else 0
        room = max_length - before - after
        if room < 2:
            raise ConfigError(f"max_length {max_length}: leaves no room for two tokens beside the special ones")
        inner = slice(before, len(ids) - after)
        first_W = _first_tokens(text, whole["offset_mapping"][inner], starts)
        windows = _windows(len(ids[inner]), room)
        window_W, token_W = _best_windows(first_W, windows, len(ids[inner]))
        labels = [[IGNORE] * (before + end - begin + after) for begin, end in windows]
        position_W2 = np.full((len(example.parts), 2), -1)
        for w, tag in enumerate(example.target):  # type: ignore[arg-type]
            if window_W[w] >= 0:
                labels[window_W[w]][before + token_W[w]] = label_ids[tag]
                position_W2[w] = len(features) + window_W[w], before + token_W[w]
        for (begin, end), window_labels in zip(windows, labels, strict=True):
            window = [*ids[:before], *ids[inner][begin:end], *ids[len(ids) - after :]]
            features.append({"input_ids": window, "attention_mask": [1] * len(window), "labels": window_labels})
        places.append(position_W2)
    return Encoded(features=features, positions_W2=places)


def _first_tokens(text: str, offsets: Sequence[tuple[int, int]], starts: np.ndarray) -> np.ndarray:
    """int [W]: the first token that has a character of each word, -1 if none; ``starts`` [W + 1] of words in the text."""
    first_W = np.full(len(starts) - 1, -1)
    for token, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # byte-level tokens begin with the space before them
            start += 1
        if start < end:
            word = int(np.searchsorted(starts, start, side="right")) - 1
            if first_W[word] < 0:
                first_W[word] = token
    return first_W


def _windows(tokens: int, room: int) -> list[tuple[int, int]]:
    """[begin, end) of windows of at most ``room`` tokens that overlap by at least a quarter and hold every token."""
    if tokens <= room:
        return [(0, tokens)]
    step = max(1, room - room // 4)
    begins = [*range(0, tokens - room, step), tokens - room]
    return [(begin, begin + room) for begin in begins]


def _best_windows(first_W: np.ndarray, windows: list[tuple[int, int]], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """int [W] each: the window in which a token stands farthest from a cut, and where in it; -1 for no token."""
    margins = []
    for begin, end in windows:
        left = first_W - begin + (tokens if begin == 0 else 0)  # the document's own ends are no cuts
        right = end - 1 - first_W + (tokens if end == tokens else 0)
        inside = (first_W >= begin) & (first_W < end)
        margins.append(np.where(inside, np.minimum(left, right), -1))
    best_W = np.argmax(margins, axis=0)
    begin_W = np.array([begin for begin, _ in windows])[best_W]
    return np.where(first_W >= 0, best_W, -1), np.where(first_W >= 0, first_W - begin_W, -1)
