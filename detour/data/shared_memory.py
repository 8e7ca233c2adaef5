"""Removes shared memory left by killed runs. A file lock, released with its last process, shows whether a run is alive.

streaming keeps each dataset's state in ``/dev/shm/NUMBER_NAME`` and removes it when Python ends, which SIGKILL prevents.
These files do not show whether they are still in use. So each process that opens a dataset holds a lock on a file beside
them, which its loader processes inherit. If the lock is free, no process uses the files.
"""

from __future__ import annotations

import fcntl
import os
import re
import weakref
from contextlib import suppress
from pathlib import Path

from streaming import StreamingDataset
from streaming.base.constant import LOCALS, SHM_TO_CLEAN

from detour.errors import DataError
from detour.files import try_lock
from detour.units import short

SHM = Path("/dev/shm")
RESERVE = 1 << 17  # bytes: streaming's small arrays and locks, and what Python and torch keep there


def check_free(*, rows: int, seq_len: int, batch_rows: int, batches: int) -> None:
    """Checks that ``/dev/shm`` has room for the order of an epoch's rows and for the batches of loader processes.

    A process that writes to shared memory beyond its end is killed by SIGBUS, without a message. Containers often have 64 MB.

    Args:
        rows: Rows per epoch; their order takes eight bytes for each.
        seq_len: Row length, T.
        batch_rows: Rows per batch of a process, B.
        batches: Batches that wait in shared memory at once, over all loader processes of the machine.

    Raises:
        DataError: Less is free.
    """
    order = 8 * rows
    waiting = 8 * batches * batch_rows * (seq_len + 2)  # ids, and at least a length and an index per row
    disk = os.statvfs(SHM)
    found, expected = disk.f_bavail * disk.f_frsize, order + waiting + RESERVE
    if found < expected:
        raise DataError(
            f"{SHM}: {short(found)}B free, expected at least {short(expected)}B of shared memory: {short(order)}B for the order "
            f"of {rows:,} rows, {short(waiting)}B for {batches} batches of loader processes. Enlarge it (docker run --shm-size), "
            "or lower data.workers"
        )


def mark(dataset: StreamingDataset) -> None:
    """Marks the dataset's shared memory as in use while this process or one of its loader processes lives."""
    number = f"{dataset._shm_prefix_int:06}"
    path = _mark_of(number)
    # the folder is writable by other users: do not follow their links
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try_lock(file, shared=True)
    content = f"{(SHM / f'{number}_{LOCALS}').stat().st_ino}\n"
    file.truncate()
    file.write(content)
    file.flush()

    def release(owner: int = os.getpid()) -> None:
        if os.getpid() == owner and os.environ.get("LOCAL_RANK", "0") == "0":
            with suppress(OSError):
                if path.read_text() == content:  # otherwise another process owns the number by now
                    path.unlink()
        file.close()

    weakref.finalize(dataset, release)


def sweep() -> None:
    """Removes shared memory of this user's dead processes. Must be called by one process at a time.

    A number may have been reused by a program without marks; its files have other inodes and are kept.
    """
    for path in SHM.glob(_mark_of("*").name):
        number = re.fullmatch(_mark_of(r"(\d{6,})").name, path.name)
        with suppress(OSError), os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while one of them is alive
            first = SHM / f"{number[1] if number else ''}_{LOCALS}"
            if first.exists() and f"{first.stat().st_ino}\n" == file.read():
                for name in SHM_TO_CLEAN:
                    first.with_name(first.name.replace(LOCALS, name)).unlink(missing_ok=True)
            path.unlink()
    _sweep_orphans()


def _sweep_orphans() -> None:
    """Removes this user's files of a number without its first file, which streaming creates first.

    One process of a run that is killed leaves them while the others end in order and take the first file and the mark with
    them. The number could never be claimed again.
    """
    for name in SHM_TO_CLEAN:
        for path in SHM.glob(f"*_{name}"):
            number = re.fullmatch(rf"(\d{{6,}})_{name}", path.name)
            with suppress(OSError):
                if number and not (SHM / f"{number[1]}_{LOCALS}").exists() and path.stat().st_uid == os.getuid():
                    path.unlink()


def _mark_of(number: str) -> Path:
    return SHM / f"detour-{os.getuid()}-{number}.claim"
