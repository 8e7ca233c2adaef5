"""Tokenizes documents in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from detour.corpus.document import Document
from detour.data.literal_specials import literal_counter
from detour.data.manifest import SPECIAL_TOKENS_IN_TEXT, TokenizerInfo
from detour.data.packing import split_document
from detour.data.shards import ids_dtype
from detour.data.tokenizer import encoder_of, load_tokenizer, tokenizer_info
from detour.errors import DataError

BATCH_CHARACTERS = 1 << 21  # per tokenizer call: keeps every thread busy; about 300 MB of memory


class DocumentEncoder:
    """Encodes documents with a tokenizer and its template.

    Args:
        name_or_folder: See `load_tokenizer`.
        special_tokens_in_text: How to encode special tokens that a text spells out, one of SPECIAL_TOKENS_IN_TEXT.

    Raises:
        DataError: ``special_tokens_in_text`` has another value, or the tokenizer cannot be loaded.
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
        """Yields (document, ids [n]), with None for the ids of a document that has no tokens beyond the template's."""
        for batch in _batches(documents):
            for document, ids in zip(batch, self._encode([document.text for document in batch]), strict=True):
                yield document, ids if len(ids) > self.template_tokens else None


def cut(ids: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    """Cuts a document into pieces of at most ``longest`` ids, see `split_document`."""
    lengths = split_document(len(ids), longest)
    yield from np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) > 1 else (ids,)


@cache
def document_encoder_of(name_or_folder: str, special_tokens_in_text: str = "text") -> DocumentEncoder:
    """A `DocumentEncoder`, loaded once per process."""
    return DocumentEncoder(name_or_folder, special_tokens_in_text)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of documents with about BATCH_CHARACTERS in total."""
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
