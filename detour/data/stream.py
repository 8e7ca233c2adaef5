"""Reads rows from shards in streaming's elastically deterministic order, and raises every failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import Stream, StreamingDataset
from streaming.base.constant import TICK

from detour.data.remote import ENDING
from detour.errors import DataError

log = logging.getLogger(__name__)
REMOTE, LOCAL = 1, 3  # streaming's private shard states: not in the cache, in the cache


class RowDataset(StreamingDataset):
    """`StreamingDataset` over folders of packed rows. Adds ``sample_id``, and never ends an epoch early without an error.

    The order of rows is a function of (seed, epoch, canonical nodes, global batch size), not of the number of ranks or
    workers. A position is a single number, so resuming is exact and instant.

    Args:
        streams: One per folder. An epoch is divided by `proportion`; without proportions it has each row once.
        seq_len: T, checked in each row.
        vocab_size: Largest id + 1, checked in each row.
        device_batch_size: Rows per batch on each rank; must equal the loader's.
        shuffle: Whether each epoch has its own random order.
        shuffle_seed: Seeds the order, and the choice of rows where an epoch has only some of a folder's rows.
        canonical_nodes: Number of independent sequences that the order is made of. Constant during a run; a multiple or
            divisor of the number of machines.
        cache_bytes: Maximum total size of cached shards; the least recently used are evicted.
        num_classes: Number of classes, checked in rows with labeled spans.

    Raises:
        DataError: A shard is missing, a row cannot be read or violates the column contract, or a folder's proportion
            amounts to less than one row per epoch.
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        seq_len: int,
        vocab_size: int,
        device_batch_size: int,
        shuffle: bool,
        shuffle_seed: int,
        canonical_nodes: int,
        cache_bytes: int | None = None,
        num_classes: int = 0,
    ) -> None:
        self.seq_len, self.vocab_size, self.num_classes = seq_len, vocab_size, num_classes
        self._failure: DataError | None = None
        proportions = [getattr(stream, "proportion", None) for stream in streams]  # StreamingDataset overwrites them
        super().__init__(
            streams=streams,
            batch_size=device_batch_size,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            num_canonical_nodes=canonical_nodes,
            allow_unsafe_types=False,
            cache_limit=cache_bytes,
        )
        self._check_proportions([p for p in proportions if p is not None])
        self._check_shards()

    def _check_proportions(self, proportions: Sequence[float]) -> None:
        """Refuses proportions of less than one row per epoch, which `StreamingDataset` silently rounds down to zero."""
        for stream, proportion in zip(self.streams, proportions, strict=False):
            expected = proportion / sum(proportions) * self.epoch_size
            text = f"{stream.local}: its proportion, {proportion:g}, amounts to {expected:.3g} of the {self.epoch_size:,} rows"
            text += " per epoch"
            if expected < 1:
                raise DataError(f"{text}, so none would be read; raise it, or leave the folder out")
            if abs(stream.choose - expected) > 0.1 * expected:
                log.warning("%s; rounded to %d", text, stream.choose)

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Fetches a remote shard that is not in the cache. Raises DataError if that fails or a local shard is missing.

        If `StreamingDataset.prepare_shard` fails, the shard stays marked as being fetched and other workers wait forever.
        Here it is marked as absent again, and a waiting worker tries by itself. A shard that another worker fetches is
        waited for, not skipped as in `StreamingDataset`, whose reader would then wait without a time limit.
        """
        if not self._is_remote(shard_id):
            path = self._path_of(shard_id)
            if not path.is_file():
                raise DataError(f"{path}: this shard is missing")
            return
        try:
            super().prepare_shard(shard_id, False)
            self._wait_for(shard_id)
        except Exception as error:
            if self._cache_filelock.is_locked:
                self._cache_filelock.release()
            self._shard_states[shard_id] = REMOTE
            failure = error if isinstance(error, DataError) else DataError(f"{self._path_of(shard_id)}: {error}")
            self._failure = self._failure or failure  # later failures follow from the first
            if failure is error:
                raise  # not from itself: a chain of causes must end
            raise failure from error

    def _wait_for(self, shard_id: int) -> None:
        """Waits for a shard that another process or thread fetches, and fetches it if that one failed.

        The wait has a time limit, because a process that is killed while fetching leaves its mark.
        """
        stream = self.streams[self.stream_per_shard[shard_id]]
        limit_s = 2 * stream.download_timeout
        deadline = time.monotonic() + limit_s
        while (state := self._shard_states[shard_id]) != LOCAL:
            if ENDING.is_set() or (hasattr(self, "_event") and self._event.is_set()):
                raise DataError(f"{self._path_of(shard_id)}: not waited for, because reading has ended")
            if state == REMOTE:
                super().prepare_shard(shard_id, False)
                continue
            if time.monotonic() > deadline:
                raise DataError(
                    f"{self._path_of(shard_id)}: another process has been fetching it for {limit_s:g} seconds and may have died"
                )
            time.sleep(TICK)

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Any]:
        """Row ``sample_id``: ``input_ids`` [T], ``doc_lengths`` [D] and ``sample_id``, its index over all folders."""
        try:
            row = super().get_item(sample_id, retry)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            self._check_shards()
            raise DataError(f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: {error}") from error
        ids_T, lengths_D = row["input_ids"], row["doc_lengths"]
        if ids_T.shape != (self.seq_len,) or not len(lengths_D) or int(lengths_D.sum()) > self.seq_len:
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: {ids_T.shape} ids with documents of "
                f"{lengths_D.tolist()[:8]}, expected ({self.seq_len},) ids with at least one document"
            )
        if (largest := int(ids_T.max())) >= self.vocab_size:
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: id {largest}, expected less than "
                f"{self.vocab_size}, the vocabulary size"
            )
        if "doc_spans" in row:
            self._check_spans(sample_id, row)
        return {**row, "sample_id": np.int64(sample_id)}

    def _check_spans(self, sample_id: int, row: dict[str, Any]) -> None:
        """Raises DataError unless each document has a class and two spans of its own tokens."""
        ends_D = np.cumsum(row["doc_lengths"], dtype=np.int64)
        starts_D, D = ends_D - row["doc_lengths"], len(ends_D)
        spans_D4 = row["doc_spans"].astype(np.int64)
        if row["doc_classes"].shape != (D,) or spans_D4.shape != (D, 4):
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: {D} documents with classes of shape "
                f"{row['doc_classes'].shape} and spans of shape {spans_D4.shape}, expected ({D},) and ({D}, 4)"
            )
        inside_D4 = (spans_D4 >= starts_D[:, None]) & (spans_D4 <= ends_D[:, None])
        if not inside_D4.all() or (spans_D4[:, 0] >= spans_D4[:, 1]).any() or (spans_D4[:, 2] >= spans_D4[:, 3]).any():
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: spans {spans_D4.tolist()[:4]}, expected two "
                "that are not empty, inside each document"
            )
        if row["doc_classes"].min() < 0 or row["doc_classes"].max() >= self.num_classes:
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: classes {row['doc_classes'].tolist()[:8]}, "
                f"expected 0 to {self.num_classes - 1}"
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """This worker's rows of the epoch. Raises DataError where `StreamingDataset` would end the epoch early."""
        try:
            yield from super().__iter__()
        except Exception:
            if hasattr(self, "_event"):
                self._event.set()  # stops the background threads, which would wait forever
            raise
        if hasattr(self, "_event") and self._event.is_set():
            self._check_shards()
            raise DataError(f"{self._path_of(0).parent}: the stream's background thread failed; see its traceback")

    def _ready_thread(self, it: Any) -> None:
        """Marks the next rows as ready when their shards are cached; one of each worker's two background threads.

        `StreamingDataset` waits forever if a shard is fetched and evicted again before this thread checks it.
        """
        try:
            while not (it.should_exit() or it.ready_index == it.total or self._event.is_set()):
                if self.predownload is not None and self.predownload < it.ready_index - it.yield_index:
                    time.sleep(TICK)
                    continue
                if (sample_id := it.sample_ids[it.ready_index]) != -1:  # -1 pads the ranks to equal lengths
                    shard_id = self.spanner[sample_id][0]
                    if self._shard_states[shard_id] != LOCAL:
                        self.prepare_shard(shard_id)
                it.ready_index += 1
        finally:
            it.on_exit()  # the end of the epoch waits for two of the three threads, and another may have failed too

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """The position in the data. After an epoch has ended, Composer passes 0 samples for the beginning of the next epoch.

        `StreamingDataset` takes that for the beginning of the epoch that ended, so a resumed run would repeat it.
        """
        state = super().state_dict(num_samples, from_beginning)
        if from_beginning and num_samples == 0 and self.next_epoch > state["epoch"]:
            state["epoch"] += 1
        return state

    def _check_shards(self) -> None:
        """Raises the failure of a background thread, or DataError if a local shard is missing."""
        if self._failure is not None:
            raise self._failure
        for shard_id in range(self.num_shards):
            if not self._is_remote(shard_id):
                RowDataset.prepare_shard(self, shard_id)

    def _is_remote(self, shard_id: int) -> bool:
        return self.streams[self.stream_per_shard[shard_id]].remote is not None

    def _path_of(self, shard_id: int) -> Path:
        stream = self.streams[self.stream_per_shard[shard_id]]
        return Path(stream.local, stream.split, self.shards[shard_id].raw_data.basename)
