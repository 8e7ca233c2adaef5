"""From folders of packed rows to clean batches."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from streaming import Stream, StreamingDataLoader

from detour.batch import Batch
from detour.data.manifest import ShardManifest
from detour.data.remote import RemoteStream, fetch_metadata
from detour.data.shards import verify_rows
from detour.data.shared_memory import mark, sweep
from detour.data.stream import RowDataset
from detour.data.stream_spec import StreamSpec
from detour.errors import DataError
from detour.files import naming, try_lock

ATTEMPTS = 10
LOCK_SECONDS = 30.0


def collate(rows: Sequence[dict[str, Any]]) -> Batch:
    """A `Batch` of the rows: D is the largest number of documents among them, shorter lists are filled with zeros."""
    D = max(len(row["doc_lengths"]) for row in rows)
    lengths_BD = np.zeros((len(rows), D), np.int64)
    for lengths_D, row in zip(lengths_BD, rows, strict=True):
        lengths_D[: len(row["doc_lengths"])] = row["doc_lengths"]
    return {
        "input_ids": torch.from_numpy(np.stack([row["input_ids"] for row in rows]).astype(np.int64)),
        "doc_lengths": torch.from_numpy(lengths_BD),
        "sample_id": torch.from_numpy(np.array([row["sample_id"] for row in rows], np.int64)),
    }


def build_loader(
    *,
    streams: Sequence[StreamSpec],
    device_batch_size: int,
    shuffle: bool,
    shuffle_seed: int,
    canonical_nodes: int = 1,
    workers: int = 2,
    prefetch_batches: int = 4,
    timeout_s: float = 300.0,
    drop_last: bool = True,
    verify_hashes: bool = True,
    vocab_fingerprint: str | None = None,
    seq_len: int | None = None,
    cache_bytes: int | None = None,
    verified: Callable[[Path], None] | None = None,
) -> StreamingDataLoader:
    """A loader of clean batches, mixed from several folders, that resumes exactly by `state_dict` / `load_state_dict`.

    Every folder is checked first (`verify_rows`), and all must agree in row length and tokenizer.

    Args:
        streams: The folders.
        device_batch_size: B on each rank.
        shuffle: See `RowDataset`, as for the next two.
        shuffle_seed: As above.
        canonical_nodes: As above.
        workers: Processes that read ahead; 0 reads in this one. The order of batches does not depend on it.
        prefetch_batches: Batches each worker keeps ready.
        timeout_s: Seconds to wait for a worker before its silence is an error.
        drop_last: Leave out the epoch's last batch where it is not full.
        verify_hashes: Read all shards once before the start, on each machine's first rank.
        vocab_fingerprint: `fingerprint` of the run's tokenizer.
        seq_len: The run's T.
        cache_bytes: Most that the cached shards of remote folders may take together; at least four shards.
        verified: Called with the path of each shard whose hash was compared.

    Raises:
        DataError: A folder is missing, damaged or does not fit, the proportions are not all given or all left out, or
            the cache has a limit and one of the folders is local: its shards are no copies that may be deleted.
    """
    _check_proportions(streams)
    if cache_bytes is not None and (local := [spec.path for spec in streams if spec.remote is None]):
        raise DataError(f"streams: the cache has a limit, but {local[0]} has no remote to fetch its shards from again")
    verify_hashes = verify_hashes and os.environ.get("LOCAL_RANK", "0") == "0"
    manifests: list[ShardManifest] = []
    for spec in streams:
        if spec.remote is not None:
            fetch_metadata(spec.remote, spec.path, timeout_s=timeout_s)
        manifest = verify_rows(
            spec.path,
            hashes=verify_hashes,
            seq_len=seq_len,
            vocab_fingerprint=vocab_fingerprint,
            is_cache=spec.remote is not None,
            verified=verified,
        )
        manifests.append(manifest)
        seq_len, vocab_fingerprint = manifest.seq_len, manifest.tokenizer.sha256  # the next must fit the first
    assert seq_len is not None  # there is at least one stream
    length, vocab_size = seq_len, max(manifest.tokenizer.vocab_size for manifest in manifests)
    dataset = _claim_memory(
        lambda: RowDataset(
            streams=[_stream_of(spec, manifest, timeout_s) for spec, manifest in zip(streams, manifests, strict=True)],
            seq_len=length,
            vocab_size=vocab_size,
            device_batch_size=device_batch_size,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            canonical_nodes=canonical_nodes,
            cache_bytes=cache_bytes,
        ),
        [spec.path for spec in streams],
        [os.path.abspath(spec.path) for spec in streams if spec.remote],
    )
    if workers:
        _end_workers_at_exit()
    return StreamingDataLoader(
        dataset,
        batch_size=device_batch_size,
        collate_fn=collate,
        drop_last=drop_last,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_sigterm if workers else None,
        prefetch_factor=prefetch_batches if workers else None,
        timeout=timeout_s if workers else 0,
        # an iterator draws a seed when it starts: from here, so that loading never moves the run's own random numbers
        generator=torch.Generator().manual_seed(shuffle_seed),
    )


def _claim_memory(make: Callable[[], RowDataset], folders: list[str], caches: list[str]) -> RowDataset:
    """Makes the dataset, whose shared memory takes the first free number on this machine.

    Args:
        make: Makes it.
        folders: All its folders, for messages.
        caches: Those that no other run on this machine may use. Each is locked as long as the dataset is; where that
            works, what a killed run left of its claim in shared memory is removed.

    Raises:
        DataError: A cache is claimed already, or other runs took each number first.
    """
    for _ in range(ATTEMPTS):
        try:
            with _in_turn() as has_turn, ExitStack() as locks:
                if has_turn:
                    sweep()
                for cache in caches if os.environ.get("LOCAL_RANK", "0") == "0" else []:
                    _lock_cache(cache, locks)
                dataset = make()
                mark(dataset)
                weakref.finalize(dataset, locks.pop_all().close)
                return dataset
        except FileExistsError as error:  # another run began between looking for a free number and taking it
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the other processes are past that point
                raise DataError(
                    f"another run on this machine started in the same instant ({error}); start again"
                ) from error
        except ValueError as error:
            if "Reused local directory" not in str(error):
                raise
            raise DataError(f"{', '.join(folders)}: another run on this machine uses one of these caches") from error
    raise DataError(f"no free shared memory found {ATTEMPTS} times: too many runs start on this machine at once")


def _lock_cache(cache: str, locks: ExitStack) -> None:
    """Holds a cache for this process and removes what is left of another's claim. If another process holds it, streaming
    will say so.
    """
    file = open(os.path.join(cache, ".lock"), "ab")  # noqa: SIM115
    with naming(cache, DataError):
        held = try_lock(file)
    if not held:
        file.close()
        return
    locks.enter_context(file)
    held = weakref.ref(file)
    # loader processes, which may outlive this one, do not hold it
    os.register_at_fork(after_in_child=lambda: held() and held().close())  # type: ignore[union-attr]
    for claim in Path("/dev/shm").glob("*_locals"):
        with suppress(OSError, ValueError):  # another user's, or gone in the meantime
            claimed = claim.read_bytes()[4:].rstrip(b"\0").decode().split("\0")[:-1]
            if cache in claimed:  # by a process that is gone: it would hold the lock
                for left in claim.parent.glob(claim.name.replace("locals", "*")):
                    left.unlink(missing_ok=True)


@contextmanager
def _in_turn() -> Iterator[bool]:
    """Lets the runs of one user on one machine claim shared memory one after another: streaming looks for a free number
    and takes it in two steps, between which another run's first process may come. Collective where processes are joined.

    After LOCK_SECONDS it goes on without its turn: a run that hangs must not keep others from starting.

    Yields:
        Whether this process is its machine's first and has its turn.
    """
    has_turn = False
    with ExitStack() as stack:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            # others may write there too: a link of theirs is not followed
            descriptor = os.open(f"/dev/shm/detour-{os.getuid()}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            file = stack.enter_context(os.fdopen(descriptor, "w"))
            deadline = time.monotonic() + LOCK_SECONDS
            while not (has_turn := try_lock(file)) and time.monotonic() < deadline:
                time.sleep(0.02)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # the others begin to look when the first process has its turn
        yield has_turn


def _ignore_sigterm(worker: int) -> None:
    """Lets a loader process survive the SIGTERM that a scheduler sends to all processes of a job, so that the one which
    trains can end its step and save. torch would take the loss of a worker for an error at once.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@cache
def _end_workers_at_exit() -> None:
    """Has loader processes killed when this one ends: it would send them SIGTERM, and wait for them."""

    def end() -> None:
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    atexit.register(end)


def _stream_of(spec: StreamSpec, manifest: ShardManifest, timeout_s: float) -> Stream:
    local = os.path.abspath(spec.path)
    if spec.remote is None:
        return Stream(local=local, proportion=spec.proportion)
    return RemoteStream(
        remote=spec.remote, local=local, proportion=spec.proportion, manifest=manifest, timeout_s=timeout_s
    )


def _check_proportions(streams: Sequence[StreamSpec]) -> None:
    if not streams:
        raise DataError("streams: none given, expected at least one folder")
    given = [spec.proportion for spec in streams if spec.proportion is not None]
    if len(given) not in (0, len(streams)):
        raise DataError(f"streams: {len(given)} of {len(streams)} have a proportion, expected all or none")
    if any(not 0 < proportion < float("inf") for proportion in given):
        raise DataError(f"streams: proportions are {given}, expected numbers above 0")
