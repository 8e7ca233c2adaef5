"""From drawn held-out rows to clean batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from detour.data.loader import collate
from detour.data.stream import RowDataset
from detour.data.validation import HeldOutFolder, Piece, deal


class HeldOutLoader:
    """Clean batches of the drawn rows, the same ones each time it is iterated; this process's share of them.

    A batch has three entries beyond those of `Batch`: ``stream``, the folder; ``draw``, which mask draw it is for; and
    ``idle``, true where the batch only keeps step with other processes and must carry no loss. Its ``sample_id`` is
    `HeldOutFolder.key` plus the row's index in its folder.

    Args:
        dataset: All folders, in order.
        folders: What is drawn from each.
        batch_rows: Most rows of a batch.
        processes: Number of processes.
        rank: Which one this is.
        draws: How many times the rows come, each time for another draw of the masks.
    """

    def __init__(
        self,
        dataset: RowDataset,
        folders: Sequence[HeldOutFolder],
        *,
        batch_rows: int,
        processes: int,
        rank: int,
        draws: int = 1,
    ) -> None:
        self.dataset, self.folders, self.draws = dataset, folders, draws
        self.pieces = deal([len(each.drawn) for each in folders], batch_rows=batch_rows, processes=processes)[rank]
        self._first = [0, *accumulate(each.of for each in folders)]

    def __len__(self) -> int:
        return self.draws * len(self.pieces)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(self.draws):
            for piece in self.pieces:
                yield self._batch(piece, index)

    def _batch(self, piece: Piece | None, draw: int) -> dict[str, Any]:
        stream, which = piece or (0, slice(0, 1))
        folder = self.folders[stream]
        rows = [
            {**self.dataset[self._first[stream] + int(row)], "sample_id": folder.key + int(row)}
            for row in folder.drawn[which]
        ]
        return {**collate(rows), "stream": stream, "draw": draw, "idle": piece is None}
