"""Running hash of the rows that a run consumed, to check that two runs consumed the same rows in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from detour.batch import Batch
from detour.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

MARKS = 256  # maximum; beyond it every second mark is dropped


def hash_rows(batch: Batch) -> Tensor:
    """int64 [3]: sums of the low and high halves of the rows' 128-bit hashes, modulo 2**64, and the number of rows.

    A row is hashed over its ids and document lengths without padding, and the classes and spans of its documents if it has
    any. Its index is left out, so equal rows in another folder have equal hashes. Sums over micro-batches and ranks
    (`all_reduce`) give the value of the global batch. Call it on clean batches: an objective changes the ids.

    Cost: about 1 GB/s of ids on the host; 30 ms for a step of 3M tokens.
    """
    import torch

    ids_BT, lengths_BD = batch["input_ids"].cpu().numpy(), batch["doc_lengths"].cpu().numpy()
    sums = np.zeros(2, np.uint64)
    labeled = [
        column_BD.cpu().numpy().astype("<i4")
        for column_BD in (batch.get("doc_classes"), batch.get("doc_spans"))
        if column_BD is not None
    ]
    for index, (ids_T, lengths_D) in enumerate(zip(ids_BT.astype("<u4"), lengths_BD.astype("<u4"), strict=True)):
        lengths_D = lengths_D[lengths_D > 0]
        digest = xxhash.xxh3_128(lengths_D.tobytes(), seed=len(lengths_D))
        digest.update(ids_T[: lengths_D.sum()].tobytes())
        for column_BD in labeled:
            digest.update(column_BD[index, : len(lengths_D)].tobytes())
        sums += np.frombuffer(digest.digest(), "<u8")
    return torch.from_numpy(np.concatenate([sums.view(np.int64), [len(ids_BT)]]))


@dataclass
class Fingerprint:
    """Hash of the sequence of global batches, each as a multiset of rows.

    The order within a batch is not included: it depends on the number of ranks, and the gradient does not depend on it.

    Attributes:
        digest: Hexadecimal SHA-256; empty before the first batch.
        batches: Global batches so far.
        rows: Rows so far.
        stride: Batches between marks; doubled whenever there are more than MARKS.
        marks: The digests after 1, 2, ... times ``stride`` batches.
    """

    digest: str = ""
    batches: int = 0
    rows: int = 0
    stride: int = 1
    marks: list[str] = field(default_factory=list)

    def update(self, batch: Batch) -> None:
        """Adds a global batch that is in one piece. With ranks or micro-batches, sum their `hash_rows` and call `add`."""
        self.add(hash_rows(batch))

    def add(self, sums: Tensor) -> None:
        """Adds a global batch, given the sum of `hash_rows` over its micro-batches and ranks, int64 [3]."""
        low, high, rows = sums.tolist()
        self.digest = _chained(self.digest, low, high, rows)
        self.batches, self.rows = self.batches + 1, self.rows + rows
        if self.batches % self.stride == 0:
            self.marks.append(self.digest)
        if len(self.marks) > MARKS:
            self.marks, self.stride = self.marks[1::2], self.stride * 2

    def state_dict(self) -> dict[str, Any]:
        """The state in plain values, serializable as JSON."""
        return {**vars(self), "marks": list(self.marks)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Fingerprint:
        """Restores `state_dict`. Raises DataError if it is invalid."""
        kinds = {"digest": str, "batches": int, "rows": int, "stride": int, "marks": list}
        if not isinstance(state, Mapping) or {key: type(value) for key, value in state.items()} != kinds:
            raise DataError(f"fingerprint: not a record of one: {str(state)[:200]}")
        if not all(isinstance(mark, str) for mark in state["marks"]) or state["stride"] < 1 or state["batches"] < 0:
            raise DataError(f"fingerprint: not a record of one: {str(state)[:200]}")
        found = cls(**{**state, "marks": list(state["marks"])})
        if found.batches // found.stride != len(found.marks):
            raise DataError(f"fingerprint: {len(found.marks)} marks, expected {found.batches // found.stride}")
        return found


@dataclass
class PhaseRowsHash:
    """Hash of the sequence of global batches of one phase, as in `Fingerprint` but without marks."""

    digest: str = ""
    batches: int = 0
    rows: int = 0

    def add(self, sums: Tensor) -> None:
        """Adds a global batch, given the sum of `hash_rows` over its micro-batches and ranks, int64 [3]."""
        low, high, rows = sums.tolist()
        self.digest = _chained(self.digest, low, high, rows)
        self.batches, self.rows = self.batches + 1, self.rows + rows

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PhaseRowsHash:
        """Restores `dataclasses.asdict`. Raises DataError if it is invalid."""
        kinds = {"digest": str, "batches": int, "rows": int}
        if not isinstance(state, Mapping) or {key: type(value) for key, value in state.items()} != kinds:
            raise DataError(f"phase_rows: not a record of rows: {str(state)[:200]}")
        return cls(**state)


def _chained(digest: str, low: int, high: int, rows: int) -> str:
    return hashlib.sha256(f"{digest} {low} {high} {rows}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RowComparison:
    """How long two runs consumed the same rows in the same order.

    Attributes:
        same: Whether the shorter run is a prefix of the longer one, at the resolution of the marks.
        common_batches: Number of batches from the start that are known to be equal.
        text: The result as a sentence.
    """

    same: bool
    common_batches: int
    text: str


def compare_fingerprints(a: Mapping[str, Any], b: Mapping[str, Any]) -> RowComparison:
    """Compares two runs by their `Fingerprint.state_dict`. Raises DataError if one is invalid."""
    first, second = Fingerprint.from_state(a), Fingerprint.from_state(b)
    if (first.batches, first.digest) == (second.batches, second.digest):
        text = f"the same {first.rows:,} rows in the same order ({first.batches:,} batches)"
        return RowComparison(same=True, common_batches=first.batches, text=text)
    known = _digests(first) | {0: ""}, _digests(second) | {0: ""}
    shared = sorted(known[0].keys() & known[1].keys())
    common = max(batch for batch in shared if all(known[0][n] == known[1][n] for n in shared if n <= batch))
    shorter = min(first.batches, second.batches)
    other = next((batch for batch in shared if batch > common), None)
    if other is not None:
        text = f"different rows: the same up to batch {common:,}, no longer at batch {other:,}"
    else:
        lengths = f"{first.batches:,} and {second.batches:,} batches"
        text = f"the same up to batch {common:,}, the last that both runs ({lengths}) have marked"
    return RowComparison(
        same=other is None and common > shorter - max(first.stride, second.stride), common_batches=common, text=text
    )


def _digests(of: Fingerprint) -> dict[int, str]:
    """Number of batches -> digest, for every digest that is kept."""
    return {(i + 1) * of.stride: mark for i, mark in enumerate(of.marks)} | {of.batches: of.digest}
