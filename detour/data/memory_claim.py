"""Claims of shared memory and of caches by a dataset, among the runs and processes of a machine."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from streaming.base.shared import prefix

from detour.data.shared_memory import mark, sweep
from detour.data.stream import RowDataset
from detour.errors import DataError
from detour.files import naming, try_lock

ATTEMPTS = 10
LOCK_SECONDS = 30.0


def claim_memory(
    make: Callable[[], RowDataset], folders: list[str], caches: list[str], check: Callable[[], None]
) -> RowDataset:
    """Constructs the dataset; streaming assigns it the first free number in this machine's shared memory.

    Args:
        make: Constructs the dataset.
        folders: Its folders, for error messages.
        caches: Folders that no other run on this machine may use. Each is locked for the lifetime of the dataset. When a
            lock is acquired, the claim of a killed run in shared memory is removed.
        check: Called once per machine, after what dead runs left is removed. Raises DataError if too little is free.

    Raises:
        DataError: Too little shared memory is free, another run uses a cache, or other runs took the free number at every
            attempt.
    """
    for _ in range(ATTEMPTS):
        try:
            with _in_turn() as has_turn, ExitStack() as locks:
                if has_turn:
                    sweep()
                    check()
                for cache in caches if os.environ.get("LOCAL_RANK", "0") == "0" else []:
                    _lock_cache(cache, locks)
                with _one_number():
                    dataset = make()
                mark(dataset)
                weakref.finalize(dataset, locks.pop_all().close)
                return dataset
        except FileExistsError as error:  # another run took the number between the search and the claim
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the other processes have passed this point
                raise DataError(
                    f"another run on this machine started at the same time ({error}); start again"
                ) from error
        except ValueError as error:
            if "Reused local directory" not in str(error):
                raise
            raise DataError(f"{', '.join(folders)}: another run on this machine uses one of these caches") from error
    raise DataError(f"no free shared memory found {ATTEMPTS} times: too many runs start on this machine at once")


def _lock_cache(cache: str, locks: ExitStack) -> None:
    """Locks a cache and removes a dead process's claim to it. If another process has the lock, streaming raises later."""
    file = open(os.path.join(cache, ".lock"), "ab")  # noqa: SIM115
    with naming(cache, DataError):
        held = try_lock(file)
    if not held:
        file.close()
        return
    locks.enter_context(file)
    held = weakref.ref(file)
    # loader processes may outlive this one and must not hold the lock
    os.register_at_fork(after_in_child=lambda: held() and held().close())  # type: ignore[union-attr]
    for claim in Path("/dev/shm").glob("*_locals"):
        with suppress(OSError, ValueError):  # another user's, or removed in the meantime
            claimed = claim.read_bytes()[4:].rstrip(b"\0").decode().split("\0")[:-1]
            if cache in claimed:  # by a dead process: a live one would hold the lock
                for left in claim.parent.glob(claim.name.replace("locals", "*")):
                    left.unlink(missing_ok=True)


@contextmanager
def _one_number() -> Iterator[None]:
    """The processes of a machine take the number that the first of them finds. Collective.

    In streaming each searches by itself. If another run ends between two searches, it frees a number, and they differ.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        yield
        return
    search, first = prefix._check_and_find_retrying, torch.distributed.get_rank() - int(os.environ["LOCAL_RANK"])

    def search_once(*arguments: Any, **options: Any) -> int:
        found = [0] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, search(*arguments, **options))
        return found[first]

    prefix._check_and_find_retrying = search_once
    try:
        yield
    finally:
        prefix._check_and_find_retrying = search


@contextmanager
def _in_turn() -> Iterator[bool]:
    """Serializes claims of shared memory by one user's runs on a machine.

    streaming searches for a free number and claims it in two steps, between which another run may claim it. Collective if
    torch.distributed is initialized. After LOCK_SECONDS it continues without the lock, so that a hanging run does not
    block others.

    Yields:
        Whether this process has local rank 0 and holds the lock.
    """
    has_turn = False
    with ExitStack() as stack:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            # the folder is writable by other users: do not follow their links
            descriptor = os.open(f"/dev/shm/detour-{os.getuid()}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            file = stack.enter_context(os.fdopen(descriptor, "w"))
            deadline = time.monotonic() + LOCK_SECONDS
            while not (has_turn := try_lock(file)) and time.monotonic() < deadline:
                time.sleep(0.02)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other ranks begin their search after the first process has the lock
        yield has_turn
