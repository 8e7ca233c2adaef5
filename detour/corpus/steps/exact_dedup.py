"""Exact deduplication by hash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xxhash

from detour.corpus.document import Document
from detour.corpus.steps.base import CorpusStep, Signatures, register


@register("exact_dedup")
@dataclass(frozen=True, kw_only=True)
class ExactDedup(CorpusStep):
    """Keeps the first of each group of equal documents, across all sources in corpus order. Compares 128-bit hashes.

    Memory: 60 bytes per document.

    Attributes:
        loose: Ignore differences in case and white space.
    """

    loose: bool = True

    def sign(self, document: Document) -> np.ndarray:
        text = " ".join(document.text.lower().split()) if self.loose else document.text
        return np.frombuffer(xxhash.xxh3_128_digest(text.encode()), np.uint64)

    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        duplicate_of = np.full(len(signatures), -1, np.int64)
        index = np.flatnonzero(alive)
        high, low = (signatures.column(j)[index] for j in (0, 1))
        order = np.lexsort((index, low, high))  # groups equal documents, in corpus order within a group
        new = np.ones(len(order), bool)
        new[1:] = (high[order[1:]] != high[order[:-1]]) | (low[order[1:]] != low[order[:-1]])
        first = index[order[np.flatnonzero(new)]][np.cumsum(new) - 1]
        duplicate_of[index[order[~new]]] = first[~new]
        return duplicate_of
