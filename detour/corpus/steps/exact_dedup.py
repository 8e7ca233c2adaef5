"""Removal of documents that say the same, letter for letter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xxhash

from detour.corpus.steps.base import CorpusStep, Signatures, register
from detour.corpus.text import Document


@register("exact_dedup")
@dataclass(frozen=True, kw_only=True)
class ExactDedup(CorpusStep):
    """Keeps the first of equal documents, over all sources in the order of the config. Compares 128-bit hashes.

    Cost: 60 bytes of memory a document.

    Attributes:
        loose: Take texts for equal that differ only in case and white space.
    """

    loose: bool = True

    def sign(self, document: Document) -> np.ndarray:
        text = " ".join(document.text.lower().split()) if self.loose else document.text
        return np.frombuffer(xxhash.xxh3_128_digest(text.encode()), np.uint64)

    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        repeats = np.full(len(signatures), -1, np.int64)
        index = np.flatnonzero(alive)
        high, low = (signatures.column(j)[index] for j in (0, 1))
        order = np.lexsort((index, low, high))  # equal ones together, the first of them first
        new = np.ones(len(order), bool)
        new[1:] = (high[order[1:]] != high[order[:-1]]) | (low[order[1:]] != low[order[:-1]])
        first = index[order[np.flatnonzero(new)]][np.cumsum(new) - 1]
        repeats[index[order[~new]]] = first[~new]
        return repeats
