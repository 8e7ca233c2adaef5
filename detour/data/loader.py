"""The training data loader: clean batches from folders of packed rows."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from streaming import Stream, StreamingDataLoader

from detour.batch import IGNORE, Batch
from detour.data.manifest import ShardManifest
from detour.data.memory_claim import claim_memory
from detour.data.remote import RemoteStream, fetch_metadata
from detour.data.shared_memory import check_free
from detour.data.stream import RowDataset
from detour.data.stream_spec import StreamSpec, is_scheduled_mixture
from detour.data.verify import verify_rows
from detour.errors import DataError

PREFETCH_BATCHES = 4  # by each worker


def collate(rows: Sequence[dict[str, Any]]) -> Batch:
    """Collates rows to a `Batch`; D is the largest number of documents per row, and shorter rows are padded with zeros."""
    D = max(len(row["doc_lengths"]) for row in rows)
    lengths_BD = np.zeros((len(rows), D), np.int64)
    for lengths_D, row in zip(lengths_BD, rows, strict=True):
        lengths_D[: len(row["doc_lengths"])] = row["doc_lengths"]
    batch: Batch = {
        "input_ids": torch.from_numpy(np.stack([row["input_ids"] for row in rows]).astype(np.int64)),
        "doc_lengths": torch.from_numpy(lengths_BD),
        "sample_id": torch.from_numpy(np.array([row["sample_id"] for row in rows], np.int64)),
    }
    if "doc_spans" in rows[0]:
        classes_BD, spans_BD4 = np.full((len(rows), D), IGNORE), np.zeros((len(rows), D, 4), np.int64)
        for classes_D, spans_D4, row in zip(classes_BD, spans_BD4, rows, strict=True):
            classes_D[: len(row["doc_classes"])], spans_D4[: len(row["doc_spans"])] = (
                row["doc_classes"],
                row["doc_spans"],
            )
        batch["doc_classes"], batch["doc_spans"] = torch.from_numpy(classes_BD), torch.from_numpy(spans_BD4)
    return batch


def join(batches: Sequence[Batch], offsets: Sequence[int]) -> Batch:
    """One batch with the rows of several, in order.

    Args:
        batches: The batches.
        offsets: What to add to the `sample_id` of each, so that rows of different datasets have different ones.
    """
    D, out = max(batch["doc_lengths"].shape[1] for batch in batches), {}
    for key, value in {"input_ids": 0, "sample_id": 0, "doc_lengths": 0, "doc_classes": IGNORE, "doc_spans": 0}.items():
        if key in batches[0]:
            parts: list[Any] = [batch[key] for batch in batches]  # type: ignore[literal-required]
            if key.startswith("doc_"):
                padding = [(0, 0) * (part.ndim - 2) + (0, D - part.shape[1]) for part in parts]
                parts = [
                    torch.nn.functional.pad(part, pad, value=value) for part, pad in zip(parts, padding, strict=True)
                ]
            elif key == "sample_id":
                parts = [part + offset for part, offset in zip(parts, offsets, strict=True)]
            out[key] = torch.cat(parts)
    return cast(Batch, out)


def build_loader(
    *,
    streams: Sequence[StreamSpec],
    device_batch_size: int,
    shuffle: bool,
    shuffle_seed: int,
    canonical_nodes: int = 1,
    workers: int = 2,
    prefetch_batches: int = PREFETCH_BATCHES,
    timeout_s: float = 300.0,
    drop_last: bool = True,
    verify_hashes: bool = True,
    tokenizer_sha256: str | None = None,
    seq_len: int | None = None,
    cache_bytes: int | None = None,
    verified: Callable[[Path], None] | None = None,
) -> StreamingDataLoader:
    """Builds a loader of clean batches over a mixture of folders: `open_rows`, then `loader_of`. Arguments as there."""
    dataset = open_rows(
        streams=streams,
        device_batch_size=device_batch_size,
        shuffle=shuffle,
        shuffle_seed=shuffle_seed,
        canonical_nodes=canonical_nodes,
        ahead=workers * prefetch_batches,
        timeout_s=timeout_s,
        verify_hashes=verify_hashes,
        tokenizer_sha256=tokenizer_sha256,
        seq_len=seq_len,
        cache_bytes=cache_bytes,
        verified=verified,
    )
    return loader_of(
        dataset,
        device_batch_size,
        workers=workers,
        prefetch_batches=prefetch_batches,
        timeout_s=timeout_s,
        drop_last=drop_last,
    )


def open_rows(
    *,
    streams: Sequence[StreamSpec],
    device_batch_size: int,
    shuffle: bool,
    shuffle_seed: int,
    canonical_nodes: int = 1,
    ahead: int = 0,
    timeout_s: float = 300.0,
    verify_hashes: bool = True,
    tokenizer_sha256: str | None = None,
    seq_len: int | None = None,
    cache_bytes: int | None = None,
    verified: Callable[[Path], None] | None = None,
) -> RowDataset:
    """Opens a mixture of folders. Resumes exactly by `state_dict` / `load_state_dict`.

    Every folder is verified first (`verify_rows`); all must have the same row length and tokenizer.

    Args:
        streams: The folders.
        device_batch_size: Rows per batch on each rank, B.
        shuffle: See `RowDataset`.
        shuffle_seed: See `RowDataset`.
        canonical_nodes: See `RowDataset`.
        ahead: Batches that all worker processes of a rank read ahead, for which shared memory must be free.
        timeout_s: Seconds to wait for a remote folder's metadata before raising an error.
        verify_hashes: Read and hash all shards before the start, on local rank 0 of each machine.
        tokenizer_sha256: Required hash of the tokenizer, see `detour.data.tokenizer`.
        seq_len: Required row length, T.
        cache_bytes: Maximum total size of the cached shards of remote folders; at least four shards.
        verified: Called with the path of each shard whose hash was compared.

    Raises:
        DataError: A folder is missing, damaged or incompatible; proportions are given for some streams only; or
            ``cache_bytes`` is set and a folder is local, whose shards must not be evicted.
    """
    _check_proportions(streams)
    if cache_bytes is not None and (local := [spec.path for spec in streams if spec.remote is None]):
        raise DataError(
            f"streams: the cache size is limited, but {local[0]} has no remote from which to fetch evicted shards again"
        )
    manifests = _verified(
        streams,
        hashes=verify_hashes and os.environ.get("LOCAL_RANK", "0") == "0",
        tokenizer_sha256=tokenizer_sha256,
        seq_len=seq_len,
        timeout_s=timeout_s,
        verified=verified,
    )
    return claim_memory(
        lambda: RowDataset(
            streams=[_stream_of(spec, manifest, timeout_s) for spec, manifest in zip(streams, manifests, strict=True)],
            seq_len=manifests[0].seq_len,
            vocab_size=max(manifest.tokenizer.vocab_size for manifest in manifests),
            device_batch_size=device_batch_size,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            canonical_nodes=canonical_nodes,
            cache_bytes=cache_bytes,
            num_classes=len(manifests[0].classes),
        ),
        [spec.path for spec in streams],
        [os.path.abspath(spec.path) for spec in streams if spec.remote],
        lambda: check_free(
            rows=sum(manifest.counts.rows for manifest in manifests),
            seq_len=manifests[0].seq_len,
            batch_rows=device_batch_size,
            batches=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * ahead,
        ),
    )


def loader_of(
    dataset: RowDataset,
    device_batch_size: int,
    *,
    workers: int = 2,
    prefetch_batches: int = PREFETCH_BATCHES,
    timeout_s: float = 300.0,
    drop_last: bool = True,
    keep_workers: bool = True,
) -> StreamingDataLoader:
    """A loader of clean batches.

    Args:
        dataset: From `open_rows`.
        device_batch_size: Rows per batch on each rank, B.
        workers: Worker processes that read ahead; 0 reads in this process. The order of rows does not depend on it.
        prefetch_batches: Batches that each worker reads ahead.
        timeout_s: Seconds to wait for a worker before raising an error.
        drop_last: Drop the incomplete last batch of an epoch.
        keep_workers: Keep the worker processes from one epoch to the next.
    """
    dataset.batch_size = device_batch_size
    if workers:
        _end_workers_at_exit()
    return StreamingDataLoader(
        dataset,
        batch_size=device_batch_size,
        collate_fn=collate,
        drop_last=drop_last,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0 and keep_workers,
        worker_init_fn=_ignore_sigterm if workers else None,
        prefetch_factor=prefetch_batches if workers else None,
        timeout=timeout_s if workers else 0,
        # each iterator draws a seed: from its own generator, so that loading does not advance the global random state
        generator=torch.Generator().manual_seed(dataset.shuffle_seed),
    )


def _verified(
    streams: Sequence[StreamSpec],
    *,
    hashes: bool,
    tokenizer_sha256: str | None,
    seq_len: int | None,
    timeout_s: float,
    verified: Callable[[Path], None] | None,
) -> list[ShardManifest]:
    """Fetches the metadata of remote folders and verifies all folders; returns their manifests."""
    manifests: list[ShardManifest] = []
    for spec in streams:
        if spec.remote is not None:
            fetch_metadata(spec.remote, spec.path, timeout_s=timeout_s)
        manifest = verify_rows(
            spec.path,
            hashes=hashes,
            seq_len=seq_len,
            tokenizer_sha256=tokenizer_sha256,
            is_cache=spec.remote is not None,
            verified=verified,
        )
        manifests.append(manifest)
        if manifest.classes != manifests[0].classes:
            raise DataError(
                f"{spec.path}: rows with the classes {list(manifest.classes)}, expected {list(manifests[0].classes)} as in "
                f"{streams[0].path}"
            )
        seq_len, tokenizer_sha256 = manifest.seq_len, manifest.tokenizer.sha256  # the others must match the first
    return manifests


def _ignore_sigterm(worker: int) -> None:
    """Makes a loader process ignore the SIGTERM that a scheduler sends to all processes of a job.

    The training process can then finish its step and save; torch raises as soon as a worker exits.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@cache
def _end_workers_at_exit() -> None:
    """Kills loader processes when this process exits; by default it sends SIGTERM, which they ignore, and waits."""

    def end() -> None:
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    atexit.register(end)


def _stream_of(spec: StreamSpec, manifest: ShardManifest, timeout_s: float) -> Stream:
    local, proportion = os.path.abspath(spec.path), spec.proportion
    assert not isinstance(proportion, dict)  # see `_check_proportions`
    if spec.remote is None:
        return Stream(local=local, proportion=proportion)
    return RemoteStream(remote=spec.remote, local=local, proportion=proportion, manifest=manifest, timeout_s=timeout_s)


def _check_proportions(streams: Sequence[StreamSpec]) -> None:
    if not streams:
        raise DataError("streams: none given, expected at least one folder")
    if is_scheduled_mixture(streams):
        raise DataError("streams: a proportion is a schedule, which only the phases of a run can follow")
    given = [float(spec.proportion) for spec in streams if spec.proportion is not None]  # type: ignore[arg-type]
    if len(given) not in (0, len(streams)):
        raise DataError(f"streams: {len(given)} of {len(streams)} have a proportion, expected all or none")
    if any(not 0 < proportion < float("inf") for proportion in given):
        raise DataError(f"streams: proportions are {given}, expected numbers above 0")
