"""Draws the validation rows and assigns them to processes. Pure functions.

A draw depends only on the content of the folders, the number of rows and the seed. So runs that are compared evaluate on
the same rows, whatever their number of processes and batch size.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detour.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ValidationFolder:
    """A validation folder and the rows drawn from it.

    Attributes:
        name: Name of its held-out loss in metrics.
        sha256: `ShardManifest.rows_sha256`, which identifies its rows.
        drawn: int64 [n], indices of the rows to evaluate, ascending.
        total_rows: Rows in the folder.
    """

    name: str
    sha256: str
    drawn: np.ndarray
    total_rows: int

    @property
    def key(self) -> int:
        """Offset added to a row's index to key its masks, so that they do not depend on the other folders."""
        return int(self.sha256[:15], 16)  # below 2**60: the sum stays an int64

    def describe(self) -> dict[str, Any]:
        """A record in plain values; the drawn rows are identified by a hash."""
        digest = hashlib.sha256(self.drawn.astype("<i8").tobytes()).hexdigest()
        return {
            "name": self.name,
            "sha256": self.sha256,
            "rows": len(self.drawn),
            "of": self.total_rows,
            "drawn": digest,
        }


def draw(
    paths: Sequence[str],
    sha256: Sequence[str],
    counts: Sequence[int],
    *,
    rows: int,
    seed: int,
    names: Sequence[str | None] = (),
    key: str = "data.validation",
) -> list[ValidationFolder]:
    """Draws the rows to evaluate on, from all folders in proportion to their size, without replacement.

    Args:
        paths: The folders.
        sha256: `ShardManifest.rows_sha256` of each folder.
        counts: Rows in each folder.
        rows: Total number of rows to draw; all rows if there are fewer.
        seed: Seed of the draw.
        names: Name of each folder; None, or an empty sequence, for those of `names_of`.
        key: Key of the folders, for messages.

    Raises:
        DataError: Two folders have one name, or contain the same rows, or ``rows`` is less than the number of folders.
    """
    for later, identity in enumerate(sha256):
        if (first := sha256.index(identity)) != later:
            raise DataError(f"{key}: {paths[first]} and {paths[later]} contain the same rows; leave one of them out")
    called = [given or derived for given, derived in zip(names or [None] * len(paths), names_of(paths), strict=True)]
    if twice := [name for name in called if called.count(name) > 1]:
        raise DataError(f"{key}: two folders are called '{twice[0]}'; give them names that differ")
    return [
        ValidationFolder(
            name=name, sha256=identity, drawn=draw_from(count, quota, seed=seed, sha256=identity), total_rows=count
        )
        for name, identity, count, quota in zip(called, sha256, counts, quotas(counts, rows), strict=True)
    ]


def quotas(counts: Sequence[int], rows: int) -> list[int]:
    """Apportions ``rows`` among folders in proportion to size, by largest remainders, at least one per folder.

    Args:
        counts: Rows in each folder, each at least 1.
        rows: Total number of rows to draw; all rows if there are fewer.

    Raises:
        DataError: ``rows`` is less than the number of folders.
    """
    total = sum(counts)
    if rows >= total:
        return list(counts)
    if rows < len(counts):
        raise DataError(
            f"evaluation.rows: {rows}, expected at least one for each of the {len(counts)} folders of data.validation"
        )
    given = [rows * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda i: (-(rows * counts[i] % total), i))
    for i in by_remainder[: rows - sum(given)]:
        given[i] += 1
    for i in [i for i, quota in enumerate(given) if not quota]:
        given[given.index(max(given))] -= 1
        given[i] = 1
    return given


def draw_from(count: int, quota: int, *, seed: int, sha256: str) -> np.ndarray:
    """int64 [quota], ascending: a uniformly random subset of the rows of a folder of ``count`` rows.

    ``sha256`` is part of the seed, so the draw does not depend on the folder's position in the list.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, int(sha256[:32], 16)]))
    return np.sort(np.random.Generator(bits).choice(count, size=quota, replace=False, shuffle=False)).astype(np.int64)


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each folder: the parts of its path that differ between folders; of a single folder the last part.

    ``out/medquad/validation`` and ``out/wiki/validation`` become ``medquad`` and ``wiki``.
    """
    parts = [os.path.abspath(path).strip("/").split("/") for path in paths]
    if len(parts) < 2:
        return [each[-1] for each in parts]
    for end in (-1, 0):  # strip common parts at the end, then at the beginning
        while min(map(len, parts)) > 1 and len({each[end] for each in parts}) == 1:
            for each in parts:
                del each[end]
    return ["/".join(each) for each in parts]


RowRange = tuple[int, slice]  # index of a folder, and a range of its drawn rows


def assign_batches(sizes: Sequence[int], *, batch_rows: int, processes: int) -> list[list[RowRange | None]]:
    """Assigns every drawn row to one batch of one process. A batch is from one folder; all processes have equally many.

    Args:
        sizes: Rows drawn from each folder.
        batch_rows: Maximum rows per batch.
        processes: Number of processes.

    Returns:
        The batches of each process. None is a batch without rows, which pads the list: processes evaluate in lockstep.
    """
    batches: list[RowRange | None] = []
    for folder, size in enumerate(sizes):
        step = max(1, min(batch_rows, -(-size // processes)))
        batches += [(folder, slice(start, min(start + step, size))) for start in range(0, size, step)]
    batches += [None] * (-len(batches) % processes)
    return [batches[rank::processes] for rank in range(processes)]
