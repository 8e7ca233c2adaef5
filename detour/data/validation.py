"""The held-out rows: which ones are drawn, and which process evaluates which of them. Pure.

A draw depends on the folders' contents, the number of rows and the seed, and on nothing about the run. So
the arms of a comparison, one process or many, small batches or large ones measure on the same rows.
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
class HeldOutFolder:
    """A validation folder and the rows drawn from it.

    Attributes:
        name: What its curve is called.
        sha256: `ShardManifest.rows_sha256`, the identity of all its rows.
        drawn: int64 [n], indices of the rows that are evaluated, ascending.
        of: Rows in the folder.
    """

    name: str
    sha256: str
    drawn: np.ndarray
    of: int

    @property
    def key(self) -> int:
        """What is added to a row's index to key its masks: so they depend on the folder, and not on what lies beside it."""
        return int(self.sha256[:15], 16)  # below 2**60: the sum stays an int64

    def describe(self) -> dict[str, Any]:
        """Plain values, for records: what was drawn is told by a hash."""
        digest = hashlib.sha256(self.drawn.astype("<i8").tobytes()).hexdigest()
        return {"name": self.name, "sha256": self.sha256, "rows": len(self.drawn), "of": self.of, "drawn": digest}


def draw(
    paths: Sequence[str], sha256: Sequence[str], counts: Sequence[int], *, rows: int, seed: int
) -> list[HeldOutFolder]:
    """The rows to evaluate on, over all folders in proportion to their size, without replacement.

    Args:
        paths: The folders.
        sha256: Identity of the rows of each.
        counts: Rows in each.
        rows: Rows to draw in all; where the folders hold fewer, all are taken.
        seed: Seed of the draw.

    Raises:
        DataError: Two folders hold the same rows, or there are fewer rows to draw than folders.
    """
    for later, identity in enumerate(sha256):
        if (first := sha256.index(identity)) != later:
            raise DataError(
                f"data.validation: {paths[first]} and {paths[later]} hold the same rows; leave one of them out"
            )
    return [
        HeldOutFolder(name=name, sha256=identity, drawn=draw_from(count, quota, seed=seed, sha256=identity), of=count)
        for name, identity, count, quota in zip(names_of(paths), sha256, counts, quotas(counts, rows), strict=True)
    ]


def quotas(counts: Sequence[int], rows: int) -> list[int]:
    """How many of ``rows`` rows come from each folder: in proportion by largest remainders, at least one from each.

    Args:
        counts: Rows in each folder, each at least 1.
        rows: Rows in all; more than there are give all that there are.

    Raises:
        DataError: Fewer rows than folders.
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
    """int64 [quota], ascending: distinct rows of a folder of ``count``, each subset equally likely.

    The folder's identity enters the seed, so its rows are the same wherever it stands in the list.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, int(sha256[:32], 16)]))
    return np.sort(np.random.Generator(bits).choice(count, size=quota, replace=False, shuffle=False)).astype(np.int64)


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each folder: the parts of the paths that tell them apart, or the last one where there is one folder.

    ``out/medquad/validation`` and ``out/wiki/validation`` become ``medquad`` and ``wiki``.
    """
    parts = [os.path.abspath(path).strip("/").split("/") for path in paths]
    if len(parts) < 2:
        return [each[-1] for each in parts]
    for end in (-1, 0):  # what they have in common at the end, then at the beginning
        while min(map(len, parts)) > 1 and len({each[end] for each in parts}) == 1:
            for each in parts:
                del each[end]
    return ["/".join(each) for each in parts]


Piece = tuple[int, slice]  # a folder, and which of its drawn rows


def deal(sizes: Sequence[int], *, batch_rows: int, processes: int) -> list[list[Piece | None]]:
    """Batches for each process: every drawn row once, no batch over two folders, as many batches for each process.

    Args:
        sizes: Rows drawn from each folder.
        batch_rows: Most rows of a batch.
        processes: Their number.

    Returns:
        For each process its batches; None is one without rows, where they do not come out even: the processes evaluate in
        step.
    """
    pieces: list[Piece | None] = []
    for folder, size in enumerate(sizes):
        step = max(1, min(batch_rows, -(-size // processes)))
        pieces += [(folder, slice(start, min(start + step, size))) for start in range(0, size, step)]
    pieces += [None] * (-len(pieces) % processes)
    return [pieces[rank::processes] for rank in range(processes)]
