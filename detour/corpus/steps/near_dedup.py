"""Near-duplicate removal by MinHash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import xxhash
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detour.corpus.document import Document
from detour.corpus.shingles import shingles, word_hashes
from detour.corpus.steps.base import CorpusStep, Signatures, register

NEIGHBORS = 4  # in each band, documents with equal keys are compared with this many predecessors and with the first
BLOCK = 4096  # shingles hashed at once; memory: x permutations x 8 bytes


@register("near_dedup")
@dataclass(frozen=True, kw_only=True)
class NearDedup(CorpusStep):
    """Keeps the first of each group of near duplicates, across all sources in corpus order.

    MinHash signatures with banding (Broder 1997; datasketch). Each pair that shares a band is then checked by the Jaccard
    similarity estimated from the full signatures. Groups are connected components of the similar pairs.

    Cost: about 3 MB/s for signatures; disk: 4 x permutations bytes per document; memory: 60 bytes per document. At 128
    permutations the estimate has a standard error of 0.04 around 0.8. Banding misses one pair in eight at 0.8 and one in
    a thousand at 0.9, so pairs near the threshold may be decided either way.

    Attributes:
        threshold: Minimum Jaccard similarity of the sets of shingles of near duplicates, in (0, 1).
        ngram_size: Words per shingle. A shorter text is one shingle.
        permutations: Length of a signature; even.
        seed: Seed of the permutations.
    """

    threshold: float = 0.8
    ngram_size: int = 5
    permutations: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, expected a similarity between 0 and 1")
        if self.ngram_size < 1 or self.permutations < 16 or self.permutations % 2:
            raise ValueError("expected ngram_size of at least 1 and an even number of permutations of at least 16")

    def sign(self, document: Document) -> np.ndarray:
        """uint64 [bands + permutations / 2]: the hashes of the bands, then the signature, two 32-bit values per uint64."""
        words = word_hashes(document.text)
        hashes = shingles(words, min(self.ngram_size, max(len(words), 1)))
        sketch = MinHash(num_perm=self.permutations, seed=self.seed, hashfunc=int, scheme="affine32")
        low = np.unique((hashes >> np.uint64(32)).astype(np.uint32)).tolist()
        for start in range(0, len(low), BLOCK):
            sketch.update_batch(low[start : start + BLOCK])
        values = np.ascontiguousarray(sketch.hashvalues, np.uint32)
        bands, rows = _bands(self.threshold, self.permutations)
        keys = [xxhash.xxh64_intdigest(values[i * rows : (i + 1) * rows].tobytes(), seed=i) for i in range(bands)]
        return np.concatenate([np.array(keys, np.uint64), values.view(np.uint64)])

    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        n, index = len(signatures), np.flatnonzero(alive)
        leader = np.arange(n)  # for each document, the lowest index in its group
        bands, _ = _bands(self.threshold, self.permutations)
        for band in range(bands):
            keys = signatures.column(band)[index]
            order = np.lexsort((index, keys))
            keys, position = keys[order], np.arange(len(order))
            opens = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(order)]
            start = np.maximum.accumulate(np.where(opens, position, 0))  # start of the run of equal keys
            for back in range(1, NEIGHBORS + 1):
                linked = position - back >= start
                pairs = np.stack([index[order[position[linked] - back]], index[order[linked]]], axis=1)
                leader = self._merged(signatures, leader, pairs)
            linked = position - start > NEIGHBORS
            leader = self._merged(
                signatures, leader, np.stack([index[order[start[linked]]], index[order[linked]]], axis=1)
            )
        return np.where((leader != np.arange(n)) & alive, leader, -1)

    def _merged(self, signatures: Signatures, leader: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``leader`` after the groups of each similar pair have been merged."""
        pairs = pairs[leader[pairs[:, 0]] != leader[pairs[:, 1]]]
        links = leader[pairs[self._similar(signatures, pairs)]]
        if not len(links):
            return leader
        n = len(leader)
        graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(n, n))
        count, group = connected_components(graph, directed=False)
        lowest = np.full(count, n)
        np.minimum.at(lowest, group, leader)
        return lowest[group[leader]]

    def _similar(self, signatures: Signatures, pairs: np.ndarray) -> np.ndarray:
        bands, _ = _bands(self.threshold, self.permutations)
        similar = np.zeros(len(pairs), bool)
        for start in range(0, len(pairs), BLOCK):
            block = slice(start, start + BLOCK)
            a, b = (
                np.ascontiguousarray(signatures.rows(pairs[block, side])[:, bands:]).view(np.uint32) for side in (0, 1)
            )
            similar[block] = (a == b).mean(axis=1) >= self.threshold
        return similar


@cache
def _bands(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, values per band). Weighted for recall, since each pair that shares a band is checked afterwards."""
    index = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    return index.b, index.r
