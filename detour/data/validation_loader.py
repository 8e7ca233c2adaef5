"""Clean batches of the drawn validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from detour.data.loader import collate
from detour.data.stream import RowDataset
from detour.data.validation import RowRange, ValidationFolder, assign_batches


class ValidationLoader:
    """This process's clean batches of the drawn rows, the same in every iteration.

    A batch has three entries beyond those of `Batch`: ``stream``, the index of the folder; ``draw``, the index of the mask
    draw; and ``idle``, true if the batch only keeps this process in lockstep with the others and must not count in the
    loss. ``sample_id`` is `ValidationFolder.key` plus the row's index in its folder.

    Args:
        dataset: All folders, in order.
        folders: The rows drawn from each.
        batch_rows: Maximum rows per batch.
        processes: Number of processes.
        rank: Rank of this process.
        draws: Number of mask draws; the rows are repeated for each.
    """

    def __init__(
        self,
        dataset: RowDataset,
        folders: Sequence[ValidationFolder],
        *,
        batch_rows: int,
        processes: int,
        rank: int,
        draws: int = 1,
    ) -> None:
        self.dataset, self.folders, self.draws = dataset, folders, draws
        self.row_ranges = assign_batches(
            [len(each.drawn) for each in folders], batch_rows=batch_rows, processes=processes
        )[rank]
        self._first = [0, *accumulate(each.total_rows for each in folders)]

    def __len__(self) -> int:
        return self.draws * len(self.row_ranges)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(self.draws):
            for row_range in self.row_ranges:
                yield self._batch(row_range, index)

    def _batch(self, row_range: RowRange | None, draw: int) -> dict[str, Any]:
        stream, which = row_range or (0, slice(0, 1))
        folder = self.folders[stream]
        rows = [
            {**self.dataset[self._first[stream] + int(row)], "sample_id": folder.key + int(row)}
            for row in folder.drawn[which]
        ]
        return {**collate(rows), "stream": stream, "draw": draw, "idle": row_range is None}
