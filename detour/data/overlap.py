"""Held-out rows that are training rows too: found by hash while the shards are verified, which reads them anyway."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import xxhash

from detour.data.manifest import ShardManifest
from detour.errors import DataError

TOLERATED = 0.01  # of a folder's rows: short documents may recur, and then whole rows of them


def refuse_same_shards(training: Mapping[str, ShardManifest], validation: Mapping[str, ShardManifest]) -> None:
    """Compares the shards' hashes in the manifests: no data is read, so it holds for remote folders too.

    Args:
        training: Path to manifest.
        validation: As well.

    Raises:
        DataError: A shard of a validation folder is a shard of a training folder.
    """
    known = {shard.sha256: (path, shard.file) for path, manifest in training.items() for shard in manifest.shards}
    for path, manifest in validation.items():
        for shard in manifest.shards:
            if shard.sha256 in known:
                where, file = known[shard.sha256]
                raise DataError(
                    f"data.validation: {path}: {shard.file} is {file} of {where} in data.train, expected rows that are not "
                    "trained on"
                )


def row_hashes(shard: Path) -> np.ndarray:
    """uint64 [rows]: a hash of each row of an MDS shard, of its ids and document lengths as they are stored.

    Cost: about that of the xxh64 of a file in memory, where this one is just after it was verified.
    """
    with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        rows = int(np.frombuffer(content[:4], "<u4")[0])
        edges = np.frombuffer(content[4 : 4 * (rows + 2)], "<u4").tolist()
        with memoryview(content) as view:
            hashes = [_hash(view, start, end) for start, end in pairwise(edges)]
    return np.array(hashes, np.uint64)


def _hash(view: memoryview, start: int, end: int) -> int:
    with view[start:end] as row:
        return xxhash.xxh3_64_intdigest(row)


class SharedRows:
    """Which rows of the validation folders are in the training folders. Shards of the former first, then of the latter."""

    def __init__(self) -> None:
        self._held_out: dict[str, list[np.ndarray]] = {}
        self._known: np.ndarray | None = None  # every held-out row's hash, ascending
        self._found = np.zeros(0, bool)

    def add_validation(self, shard: Path) -> None:
        """Remembers the rows of a validation shard."""
        self._held_out.setdefault(str(shard.parent), []).append(row_hashes(shard))

    def add_training(self, shard: Path) -> None:
        """Looks for the rows of a training shard among those that are remembered."""
        if self._known is None:
            every = [hashes for shards in self._held_out.values() for hashes in shards]
            self._known = np.unique(np.concatenate(every)) if every else np.zeros(0, np.uint64)
            self._found = np.zeros(len(self._known), bool)
        if len(self._known):
            hashes = row_hashes(shard)
            at = np.searchsorted(self._known, hashes).clip(max=len(self._known) - 1)
            self._found[at[self._known[at] == hashes]] = True

    def counts(self) -> dict[str, int]:
        """Rows of each validation folder that were found in training folders, where there are any.

        Raises:
            DataError: They are more than a hundredth of a folder.
        """
        found = {}
        shared = self._known[self._found] if self._known is not None else np.zeros(0, np.uint64)
        for folder, shards in self._held_out.items():
            hashes = np.concatenate(shards)
            if count := int(np.isin(hashes, shared).sum()):
                found[folder] = count
            if count > TOLERATED * len(hashes):
                raise DataError(
                    f"data.validation: {folder}: {count:,} of {len(hashes):,} rows are also in data.train, expected rows "
                    "that are not trained on"
                )
        return found
