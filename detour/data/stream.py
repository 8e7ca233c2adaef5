"""Rows from shards, in streaming's elastic order, with every failure raised."""

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
REMOTE, LOCAL = 1, 3  # streaming's private marks of a shard that is not in the cache, and of one that is


class RowDataset(StreamingDataset):
    """`StreamingDataset` over folders of packed rows: adds ``sample_id`` and never ends early without an error.

    The order of rows is a function of (seed, epoch, canonical nodes, batch of all ranks), not of ranks or workers, and
    a position in it is one number: that is what makes a resume exact and instant.

    Args:
        streams: One for each folder; they share the epoch by `proportion`, or each comes once if none is given.
        seq_len: T, checked in each row.
        vocab_size: The largest id + 1, as well.
        device_batch_size: Rows of one rank's batch; must be the loader's.
        shuffle: Whether each epoch has its own random order.
        shuffle_seed: Seeds the order and, where a folder is drawn in part, the choice of rows.
        canonical_nodes: Independent paths through the rows. Part of the order, so keep it for the whole run; a
            multiple or divisor of the number of machines.
        cache_bytes: Most that cached shards may take; the ones longest unused are deleted to make room.

    Raises:
        DataError: A shard is missing at open, or later, or a row cannot be read or breaks the column contract; or a
            folder's proportion comes to less than one row of an epoch.
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
    ) -> None:
        self.seq_len, self.vocab_size = seq_len, vocab_size
        self._failure: DataError | None = None
        asked = [getattr(stream, "proportion", None) for stream in streams]  # the parent overwrites them
        super().__init__(
            streams=streams,
            batch_size=device_batch_size,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            num_canonical_nodes=canonical_nodes,
            allow_unsafe_types=False,
            cache_limit=cache_bytes,
        )
        self._check_shares([share for share in asked if share is not None])
        self._check_shards()

    def _check_shares(self, asked: Sequence[float]) -> None:
        """The parent rounds each folder's rows of an epoch down, the same in every epoch: a small share is then none."""
        for stream, share in zip(self.streams, asked, strict=False):
            expected = share / sum(asked) * self.epoch_size
            name = f"{stream.local}: its proportion, {share:g}, comes to {expected:.3g} rows of the {self.epoch_size:,}"
            name += " of an epoch"
            if expected < 1:
                raise DataError(f"{name}, so that none would be read; give it more, or leave it out")
            if abs(stream.choose - expected) > 0.1 * expected:
                log.warning("%s; %d are read in each", name, stream.choose)

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Fetches the shard if it is remote and not in the cache. Raises DataError if that fails, or it is gone.

        The parent's version marks a shard as being fetched before it fails, and the other workers then wait for ever.
        Here it is marked as absent again, and a worker that waited tries for itself. None passes over a shard that
        another one fetches, as the parent's read-ahead does: its own reader would wait for it unwatched.
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
            self._failure = self._failure or failure  # others follow from the first
            raise failure from error

    def _wait_for(self, shard_id: int) -> None:
        """Until a shard that another process or thread fetches is here; fetches it where that one failed.

        The parent's wait has no end: one that is killed while it fetches leaves its mark for ever.
        """
        stream = self.streams[self.stream_per_shard[shard_id]]
        limit_s = 2 * stream.download_timeout
        deadline = time.monotonic() + limit_s
        while (state := self._shard_states[shard_id]) != LOCAL:
            if ENDING.is_set() or (hasattr(self, "_event") and self._event.is_set()):
                raise DataError(f"{self._path_of(shard_id)}: not waited for, since reading ends")
            if state == REMOTE:
                super().prepare_shard(shard_id, False)
                continue
            if time.monotonic() > deadline:
                raise DataError(
                    f"{self._path_of(shard_id)}: another process has been fetching it for {limit_s:g} seconds, and may be gone"
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
                f"{lengths_D.tolist()[:8]}, expected ({self.seq_len},) ids that hold at least one document"
            )
        if (largest := int(ids_T.max())) >= self.vocab_size:
            raise DataError(
                f"row {sample_id} in {self._path_of(self.spanner[sample_id][0])}: id {largest}, expected less than "
                f"{self.vocab_size}, the tokenizer's ids"
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

    def _ready_thread(self, it: Any) -> None:
        """Marks the next rows as ready once their shards are here; one of each worker's two background threads.

        The parent's version waits for ever where a shard arrives and is deleted again to make room before it looks.
        """
        try:
            while not (it.should_exit() or it.ready_index == it.total or self._event.is_set()):
                if self.predownload is not None and self.predownload < it.ready_index - it.yield_index:
                    time.sleep(TICK)
                    continue
                if (sample_id := it.sample_ids[it.ready_index]) != -1:  # -1 fills up the shares of the ranks
                    shard_id = self.spanner[sample_id][0]
                    if self._shard_states[shard_id] != LOCAL:
                        self.prepare_shard(shard_id)
                it.ready_index += 1
        finally:
            it.on_exit()  # the epoch's end waits for two of its three threads, and the other one may have failed too

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """The position. When an epoch has just ended, Composer asks with 0 samples, meaning the beginning of the next.

        The parent takes that for the beginning of the epoch that ended, and a resume would train on it again.
        """
        state = super().state_dict(num_samples, from_beginning)
        if from_beginning and num_samples == 0 and self.next_epoch > state["epoch"]:
            state["epoch"] += 1
        return state

    def _check_shards(self) -> None:
        """Raises what went wrong in a background thread, or DataError for a local shard that is gone."""
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
