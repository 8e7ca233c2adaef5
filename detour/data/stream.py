"""Rows from local shards, in streaming's elastic order, with every failure raised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import Stream, StreamingDataset

from detour.errors import DataError


class RowDataset(StreamingDataset):
    """`StreamingDataset` over local folders of packed rows: adds ``sample_id`` and never ends early without an error.

    The order of rows is a function of (seed, epoch, canonical nodes, batch of all ranks), not of ranks or workers, and
    a position in it is one number: that is what makes a resume exact and instant.

    Args:
        streams: One for each folder; they share the epoch by `proportion`, or each comes once if none is given.
        row_tokens: T, checked in each row.
        device_batch_rows: Rows of one rank's batch; must be the loader's.
        shuffle: Whether each epoch has its own random order.
        shuffle_seed: Seeds the order and, where a folder is drawn in part, the choice of rows.
        canonical_nodes: Independent paths through the rows. Part of the order, so keep it for the whole run; a
            multiple or divisor of the number of machines.

    Raises:
        DataError: A shard is missing at open, or later, or a row cannot be read or breaks the column contract.
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        row_tokens: int,
        device_batch_rows: int,
        shuffle: bool,
        shuffle_seed: int,
        canonical_nodes: int,
    ) -> None:
        self.row_tokens = row_tokens
        super().__init__(
            streams=streams,
            batch_size=device_batch_rows,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            num_canonical_nodes=canonical_nodes,
            allow_unsafe_types=False,
        )
        for shard_id in range(self.num_shards):
            self.prepare_shard(shard_id)

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Raises DataError if the shard is gone. Shards are local and stay, so there is nothing to fetch or evict.

        The parent's version marks a shard as being fetched before it fails, and the other workers then wait for ever.
        """
        path = self._path_of(shard_id)
        if not path.is_file():
            raise DataError(f"{path}: this shard is missing")

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Any]:
        """Row ``sample_id``: ``input_ids`` [T], ``doc_lengths`` [D] and ``sample_id``, its index over all folders."""
        try:
            row = super().get_item(sample_id, retry)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            self._check_shards()
            raise DataError(f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: {error}") from error
        ids_T, lengths_D = row["input_ids"], row["doc_lengths"]
        if ids_T.shape != (self.row_tokens,) or not len(lengths_D) or int(lengths_D.sum()) > self.row_tokens:
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: {ids_T.shape} ids with documents of "
                f"{lengths_D.tolist()[:8]}, expected ({self.row_tokens},) ids that hold at least one document"
            )
        return {**row, "sample_id": np.int64(sample_id)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """This worker's rows of the epoch. Raises DataError where the parent would end the epoch early."""
        try:
            yield from super().__iter__()
        except Exception:
            if hasattr(self, "_event"):
                self._event.set()  # else the parent's threads would keep waiting for a reader that is gone
            raise
        if hasattr(self, "_event") and self._event.is_set():
            self._check_shards()
            raise DataError(f"{self._path_of(0).parent}: the stream's background thread failed; see its traceback")

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """The position. When an epoch has just ended, Composer asks with 0 samples, meaning the beginning of the next.

        The parent takes that for the beginning of the epoch that ended, and a resume would train on it again.
        """
        state = super().state_dict(num_samples, from_beginning)
        if from_beginning and num_samples == 0 and self.next_epoch > state["epoch"]:
            state["epoch"] += 1
        return state

    def _check_shards(self) -> None:
        for shard_id in range(self.num_shards):
            RowDataset.prepare_shard(self, shard_id)

    def _path_of(self, shard_id: int) -> Path:
        stream = self.streams[self.stream_per_shard[shard_id]]
        return Path(stream.local, stream.split, self.shards[shard_id].raw_data.basename)
