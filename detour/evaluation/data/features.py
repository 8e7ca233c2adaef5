"""Examples to model inputs: texts are truncated, and words of long documents are read in overlapping windows.

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
        features: Inputs of a data collator: input_ids, attention_mask, labels.
        truncated: Number of truncated examples.
        places: For nested NER, for each feature the number of its example, and int [T, 2], the characters of each token.
        lost: For nested NER, the number of entities that no span of tokens expresses (`encode_spans`).
        positions_W2: For NER, one int [W, 2] per example: index of the feature and position in it at which each word is
            predicted; -1 for words that the tokenizer maps to no token.
    """

    features: list[dict[str, Any]]
    truncated: int = 0
    places: list[tuple[int, np.ndarray]] = field(default_factory=list)
    lost: int = 0
    positions_W2: list[np.ndarray] = field(default_factory=list)

    @property
    def by_length(self) -> list[int]:
        """Indices of the features, the longest first: batches of similar lengths need little padding."""
        lengths = [len(feature["input_ids"]) for feature in self.features]
        return sorted(range(len(lengths)), key=lambda i: -lengths[i])

    @property
    def sorted_features(self) -> list[dict[str, Any]]:
        """The features in the order of `by_length`."""
        return [self.features[i] for i in self.by_length]

    def in_order(self, outputs: np.ndarray) -> np.ndarray:
        """A model's outputs for `sorted_features`, in the order of the features."""
        return outputs[np.argsort(self.by_length)]

    @property
    def unreadable(self) -> int:
        """Number of words that the tokenizer maps to no token, or of entities that no span of tokens expresses."""
        return self.lost + int(sum((position_W2[:, 0] < 0).sum() for position_W2 in self.positions_W2))


def encode_texts(
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    labels: Sequence[Any],
    *,
    max_length: int,
    types: bool = False,
) -> Encoded:
    """Encodes texts or pairs of texts, truncated to ``max_length`` tokens (of a pair, the longer text first).

    Args:
        tokenizer: The model's tokenizer.
        examples: Examples with one or two texts.
        labels: Training target of each example: a class index, floats [C], or a float.
        max_length: Maximum length in tokens, including special tokens.
        types: Whether the model has an input ``token_type_ids``.
    """
    texts = [example.parts[0] for example in examples]
    pairs = [example.parts[1] for example in examples] if len(examples[0].parts) > 1 else None
    encode: dict[str, Any] = {"return_token_type_ids": types, "return_attention_mask": True, "verbose": False}
    encoded: Any = tokenizer(texts, pairs, **encode)
    long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
    features = [{key: encoded[key][i] for key in encoded} | {"labels": labels[i]} for i in range(len(examples))]
    for i in long:
        features[i].update(tokenizer(texts[i], pairs and pairs[i], **encode, truncation=True, max_length=max_length))
    return Encoded(features=features, truncated=len(long))


def encode_words(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], label_ids: dict[str, int], *, max_length: int
) -> Encoded:
    """Encodes tagged words, joined by spaces, in overlapping windows; nothing is truncated.

    A word is labeled at its first subword, in the one window that maximizes the smaller of its left and right context.
    All other labels are IGNORE. Windows overlap by at least a quarter.

    Args:
        tokenizer: The model's tokenizer.
        examples: Examples with words and IOB2 tags.
        label_ids: Tag -> class index.
        max_length: Maximum length of a window in tokens, including special tokens.

    Raises:
        ConfigError: ``max_length`` leaves fewer than two tokens beside the special tokens.
    """
    features, positions_W2 = [], []
    for example in examples:
        text, starts = " ".join(example.parts), np.cumsum([0, *(len(word) + 1 for word in example.parts)])
        encoded: Any = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
        before = special.index(0) if 0 in special else len(ids)
        after = special[::-1].index(0) if 0 in special else 0
        room = max_length - before - after
        if room < 2:
            raise ConfigError(f"max_length {max_length}: leaves no room for two tokens beside the special ones")
        inner = slice(before, len(ids) - after)
        first_W = _first_tokens(text, encoded["offset_mapping"][inner], starts)
        windows = windows_of(len(ids[inner]), room)
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
        positions_W2.append(position_W2)
    return Encoded(features=features, positions_W2=positions_W2)


def _first_tokens(text: str, offsets: Sequence[tuple[int, int]], starts: np.ndarray) -> np.ndarray:
    """int [W]: the first token of each word, -1 if it has none. ``starts``, int [W + 1], are character offsets of words."""
    first_W = np.full(len(starts) - 1, -1)
    for token, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # byte-level tokens begin with the space before them
            start += 1
        if start < end:
            word = int(np.searchsorted(starts, start, side="right")) - 1
            if first_W[word] < 0:
                first_W[word] = token
    return first_W


def windows_of(tokens: int, room: int) -> list[tuple[int, int]]:
    """[begin, end) of windows that cover all tokens: at most ``room`` tokens each, overlapping by at least a quarter."""
    if tokens <= room:
        return [(0, tokens)]
    step = max(1, room - room // 4)
    begins = [*range(0, tokens - room, step), tokens - room]
    return [(begin, begin + room) for begin in begins]


def _best_windows(first_W: np.ndarray, windows: list[tuple[int, int]], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """int [W] each: the window in which a token is farthest from a cut, and its position there; -1 for no token."""
    margins = []
    for begin, end in windows:
        left = first_W - begin + (tokens if begin == 0 else 0)  # the ends of the document are not cuts
        right = end - 1 - first_W + (tokens if end == tokens else 0)
        inside = (first_W >= begin) & (first_W < end)
        margins.append(np.where(inside, np.minimum(left, right), -1))
    best_W = np.argmax(margins, axis=0)
    begin_W = np.array([begin for begin, _ in windows])[best_W]
    return np.where(first_W >= 0, best_W, -1), np.where(first_W >= 0, first_W - begin_W, -1)
