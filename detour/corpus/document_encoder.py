"""Texts -> ids, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from detour.corpus.text import Document
from detour.data.literal_specials import literal_counter
from detour.data.manifest import SPECIAL_TOKENS_IN_TEXT, TokenizerInfo
from detour.data.packing import split_document
from detour.data.shards import ids_dtype
from detour.data.tokenizer import encoder_of, load_tokenizer, tokenizer_info
from detour.errors import DataError

BATCH_CHARACTERS = 1 << 21  # tokenized at once: enough to keep every thread busy, and about 300 MB of memory


class DocumentEncoder:
    """A tokenizer with its template, as documents go through it.

    Args:
        name_or_folder: See `load_tokenizer`.
        special_tokens_in_text: What becomes of special tokens that a text spells out, one of SPECIAL_TOKENS_IN_TEXT.

    Raises:
        DataError: Another value than these, or the tokenizer cannot be loaded.
    """

    def __init__(self, name_or_folder: str | Path, special_tokens_in_text: str = "text") -> None:
        if special_tokens_in_text not in SPECIAL_TOKENS_IN_TEXT:
            raise DataError(
                f"special_tokens_in_text: {special_tokens_in_text!r}, expected {' or '.join(SPECIAL_TOKENS_IN_TEXT)}"
            )
        self.tokenizer = load_tokenizer(name_or_folder)
        self.info: TokenizerInfo = tokenizer_info(self.tokenizer)
        self.template_tokens = self.tokenizer.num_special_tokens_to_add(pair=False)
        self.literal_specials = literal_counter(self.tokenizer)
        self._encode = encoder_of(
            self.tokenizer,
            dtype=ids_dtype(self.info.vocab_size),
            literal_specials=special_tokens_in_text == "special",
        )

    def __call__(self, documents: Iterable[Document]) -> Iterator[tuple[Document, np.ndarray | None]]:
        """(document, its ids [n], or None if it comes to no token but the template's)."""
        for batch in _batches(documents):
            for document, ids in zip(batch, self._encode([document.text for document in batch]), strict=True):
                yield document, ids if len(ids) > self.template_tokens else None


def cut(ids: np.ndarray, seq_len: int) -> Iterator[np.ndarray]:
    """A document's pieces of at most a row, see `split_document`."""
    lengths = split_document(len(ids), seq_len)
    yield from np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) > 1 else (ids,)


@cache
def document_encoder_of(name_or_folder: str, special_tokens_in_text: str = "text") -> DocumentEncoder:
    """The same, loaded once in a process."""
    return DocumentEncoder(name_or_folder, special_tokens_in_text)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of about BATCH_CHARACTERS."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
