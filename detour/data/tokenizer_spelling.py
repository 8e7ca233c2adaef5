"""How a tokenizer's model spells text in its tokens: the same text is "Ġfever", "fever" or "▁fever"."""

from __future__ import annotations

import json
from typing import NamedTuple

from tokenizers import decoders, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BYTE_LEVEL, WORDPIECE, UNIGRAM = "byte-level BPE", "WordPiece", "Unigram"
SPACE = "▁"  # of SentencePiece
_TO_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_FROM_BYTES = decoders.ByteLevel()
_ALPHABET = frozenset(pre_tokenizers.ByteLevel.alphabet())


class Spelling(NamedTuple):
    """What a token stands for, whatever the tokenizer.

    Attributes:
        starts_word: Whether white space or the text's beginning precedes it.
        text: The text itself.
    """

    starts_word: bool
    text: str


def kind_of(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Which of the three kinds of models a tokenizer has; None for any other, SentencePiece's BPE among them."""
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    model = spec["model"]["type"]
    if model == "BPE":
        return BYTE_LEVEL if '"ByteLevel"' in json.dumps(spec["pre_tokenizer"]) else None
    return {"WordPiece": WORDPIECE, "Unigram": UNIGRAM}.get(model)


def text_of(kind: str, token: str, *, prefix: str = "##") -> Spelling | None:
    """The text of a token of a model; None if it is part of a character.

    Args:
        kind: From `kind_of`.
        token: As in the model's vocabulary.
        prefix: WordPiece's mark of a token inside a word.
    """
    if kind == WORDPIECE:
        return Spelling(not token.startswith(prefix), token.removeprefix(prefix))
    if kind == UNIGRAM:
        return Spelling(token.startswith(SPACE), token.removeprefix(SPACE))
    if not _ALPHABET.issuperset(token):  # an added token, which is written as it is
        return Spelling(False, token)
    text = _FROM_BYTES.decode([token])
    return None if "\ufffd" in text else Spelling(text.startswith(" "), text.removeprefix(" "))


def pieces_of(tokenizer: PreTrainedTokenizerFast, kind: str, spelling: Spelling) -> list[int]:
    """The ids that a tokenizer of a kind (`kind_of`) gives for a text in its place in a word, without unknown tokens."""
    backend = tokenizer.backend_tokenizer
    starts, text = spelling
    if backend.normalizer:
        text = backend.normalizer.normalize_str(text).strip(f" {SPACE}")
    if kind == WORDPIECE:
        return _word_pieces(tokenizer, text, starts=starts)
    if kind == UNIGRAM:
        symbols = SPACE * starts + text
    else:
        symbols = "".join(word for word, _ in _TO_BYTES.pre_tokenize_str(" " * starts + text))
    pieces = [piece for piece in backend.model.tokenize(symbols) if piece.id != tokenizer.unk_token_id]
    only_space = all(piece.value in (SPACE, "Ġ") for piece in pieces)  # what followed it is unknown
    return [] if only_space else [piece.id for piece in pieces]


def _word_pieces(tokenizer: PreTrainedTokenizerFast, text: str, *, starts: bool) -> list[int]:
    """WordPiece from any place in a word: the longest token that fits, from the left; nothing if none fits."""
    model = tokenizer.backend_tokenizer.model
    prefix, ids, at = model.continuing_subword_prefix, [], 0  # type: ignore[attr-defined]
    while at < len(text):
        mark = "" if starts and at == 0 else prefix
        fitting = (
            (id, end) for end in range(len(text), at, -1) if (id := model.token_to_id(mark + text[at:end])) is not None
        )
        id, at = next(fitting, (None, at))
        if id is None:
            return []
        ids.append(id)
    return ids
