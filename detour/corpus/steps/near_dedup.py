"""Removal of documents that say nearly the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import xxhash
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detour.corpus.shingles import shingles, word_hashes
from detour.corpus.steps.base import CorpusStep, Signatures, register
from detour.corpus.text import Document

NEIGHBOURS = 4  # those that share a band are compared with so many before them and with the first of them
BLOCK = 4096  # shingles hashed at once: x permutations x 8 bytes of memory


@register("near_dedup")
@dataclass(frozen=True, kw_only=True)
class NearDedup(CorpusStep):
    """Keeps the first of each group of near duplicates, over all sources in the order of the config.

    MinHash signatures and their bands (Broder 1997; datasketch), then a check of each pair that shares a band by the
    Jaccard similarity that the whole signatures estimate. Groups are chains: A is like B and B like C.

    Cost: about 3 MB/s to sign; 4 x permutations bytes of disk a document; memory 60 bytes a document. An estimate from
    128 permutations has a standard error of 0.04 around 0.8, and bands miss one pair in eight there and one in a thousand
    at 0.9: pairs near the threshold go either way.

    Attributes:
        threshold: Jaccard similarity of the sets of shingles from which two documents count as the same, in (0, 1).
        words: Words of a shingle. A text shorter than that is compared as a whole.
        permutations: Length of a signature; even.
        seed: Of the permutations.
    """

    threshold: float = 0.8
    words: int = 5
    permutations: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, expected a similarity between 0 and 1")
        if self.words < 1 or self.permutations < 16 or self.permutations % 2:
            raise ValueError("expected words of at least 1 and an even number of permutations of at least 16")

    def sign(self, document: Document) -> np.ndarray:
        """The bands' hashes, then the signature, two 32-bit values in each uint64."""
        words = word_hashes(document.text)
        parts = shingles(words, min(self.words, max(len(words), 1)))
        sketch = MinHash(num_perm=self.permutations, seed=self.seed, hashfunc=int, scheme="affine32")
        low = np.unique((parts >> np.uint64(32)).astype(np.uint32)).tolist()
        for start in range(0, len(low), BLOCK):
            sketch.update_batch(low[start : start + BLOCK])
        values = np.ascontiguousarray(sketch.hashvalues, np.uint32)
        bands, rows = _bands(self.threshold, self.permutations)
        keys = [xxhash.xxh64_intdigest(values[i * rows : (i + 1) * rows].tobytes(), seed=i) for i in range(bands)]
        return np.concatenate([np.array(keys, np.uint64), values.view(np.uint64)])

    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        n, index = len(signatures), np.flatnonzero(alive)
        leader = np.arange(n)  # the lowest index of each document's group
        bands, _ = _bands(self.threshold, self.permutations)
        for band in range(bands):
            keys = signatures.column(band)[index]
            order = np.lexsort((index, keys))
            keys, place = keys[order], np.arange(len(order))
            opens = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(order)]
            start = np.maximum.accumulate(np.where(opens, place, 0))  # of the stretch of equal keys
            for back in range(1, NEIGHBOURS + 1):
                linked = place - back >= start
                pairs = np.stack([index[order[place[linked] - back]], index[order[linked]]], axis=1)
                leader = self._joined(signatures, leader, pairs)
            linked = place - start > NEIGHBOURS
            leader = self._joined(
                signatures, leader, np.stack([index[order[start[linked]]], index[order[linked]]], axis=1)
            )
        return np.where((leader != np.arange(n)) & alive, leader, -1)

    def _joined(self, signatures: Signatures, leader: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``leader`` once the groups of each pair that is alike are one."""
        pairs = pairs[leader[pairs[:, 0]] != leader[pairs[:, 1]]]
        links = leader[pairs[self._alike(signatures, pairs)]]
        if not len(links):
            return leader
        n = len(leader)
        graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(n, n))
        count, group = connected_components(graph, directed=False)
        lowest = np.full(count, n)
        np.minimum.at(lowest, group, leader)
        return lowest[group[leader]]

    def _alike(self, signatures: Signatures, pairs: np.ndarray) -> np.ndarray:
        bands, _ = _bands(self.threshold, self.permutations)
        alike = np.zeros(len(pairs), bool)
        for start in range(0, len(pairs), BLOCK):
            block = slice(start, start + BLOCK)
            a, b = (
                np.ascontiguousarray(signatures.rows(pairs[block, side])[:, bands:]).view(np.uint32) for side in (0, 1)
            )
            alike[block] = (a == b).mean(axis=1) >= self.threshold
        return alike


@cache
def _bands(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many values: nine in ten pairs at the threshold share one; each pair is checked besides."""
    index = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    return index.b, index.r
