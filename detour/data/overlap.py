"""Detects validation rows that are also training rows, by hash, while the shards are read for verification."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import xxhash

from detour.data.manifest import ShardManifest
from detour.errors import DataError

TOLERATED = 0.01  # fraction of a folder's rows: repeated short documents may fill equal rows by chance


def refuse_same_shards(training: Mapping[str, ShardManifest], validation: Mapping[str, ShardManifest]) -> None:
    """Compares the hashes of shards in the manifests. Reads no data, so it covers remote folders too.

    Args:
        training: Folder -> manifest of the training folders.
        validation: Folder -> manifest of the validation folders.

    Raises:
        DataError: A validation folder and a training folder have a shard in common.
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
    """uint64 [rows]: a hash of each row of an MDS shard, over its stored ids and document lengths.

    Cost: about that of one xxh64 over the file, which is in the page cache right after verification.
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


class TrainValidationOverlap:
    """Finds validation rows that are also training rows. Add all validation shards first, then the training shards."""

    def __init__(self) -> None:
        self._validation: dict[str, list[np.ndarray]] = {}
        self._known: np.ndarray | None = None  # sorted hashes of all validation rows
        self._found = np.zeros(0, bool)

    def add_validation(self, shard: Path) -> None:
        """Adds the rows of a validation shard."""
        self._validation.setdefault(str(shard.parent), []).append(row_hashes(shard))

    def add_training(self, shard: Path) -> None:
        """Looks up the rows of a training shard among the validation rows."""
        if self._known is None:
            every = [hashes for shards in self._validation.values() for hashes in shards]
            self._known = np.unique(np.concatenate(every)) if every else np.zeros(0, np.uint64)
            self._found = np.zeros(len(self._known), bool)
        if len(self._known):
            hashes = row_hashes(shard)
            at = np.searchsorted(self._known, hashes).clip(max=len(self._known) - 1)
            self._found[at[self._known[at] == hashes]] = True

    def counts(self) -> dict[str, int]:
        """Folder -> number of its rows that were found in training folders, for validation folders with any.

        Raises:
            DataError: More than 1% of the rows of a folder were found.
        """
        found = {}
        shared = self._known[self._found] if self._known is not None else np.zeros(0, np.uint64)
        for folder, shards in self._validation.items():
            hashes = np.concatenate(shards)
            if count := int(np.isin(hashes, shared).sum()):
                found[folder] = count
            if count > TOLERATED * len(hashes):
                raise DataError(
                    f"data.validation: {folder}: {count:,} of {len(hashes):,} rows are also in data.train, expected rows "
                    "that are not trained on"
                )
        return found
