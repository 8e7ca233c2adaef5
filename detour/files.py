"""Files: atomic writes, hashes, locks, and system errors as one sentence."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from detour.errors import DetourError, first_line

log = logging.getLogger(__name__)
LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Locks an open file until it is closed, without waiting for the lock.

    Some network file systems have no locks (Lustre without ``flock``, NFS without its lock service). The lock then counts
    as acquired, and a warning is logged.

    Args:
        file: File opened for writing, as NFS requires for an exclusive lock.
        shared: Whether to take a shared lock, which only excludes exclusive ones.

    Returns:
        Whether the lock was acquired; False if another process holds it.

    Raises:
        OSError: Any other failure.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:  # EWOULDBLOCK and EAGAIN
        return False
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        log.warning(
            "%s: cannot be locked (%s); this file system has no locks, so a second process is not kept out",
            file.name, os.strerror(error.errno or 0),
        )  # fmt: skip
    return True


def reason(error: OSError) -> str:
    """The system's error message, with a remedy if too many files are open."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{text}; raise the limit (ulimit -n)" if error.errno in DESCRIPTORS else text


@contextmanager
def naming(path: Path | str, kind: type[DetourError] = DetourError) -> Iterator[None]:
    """Context manager that turns a system error into an error that names the file.

    The file is the one named by the system, or else ``path``. Errors of the safetensors and tokenizers libraries that
    wrap a system error are translated too.

    Raises:
        DetourError: A system error occurred; of class ``kind``.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{error.filename or path}: {reason(error)}") from error
    except Exception as error:
        if "(os error " not in str(error):
            raise
        raise kind(f"{path}: {first_line(error)}") from error


def starved(error: BaseException | None) -> str | None:
    """The message for an error that was caused by too many open files, directly or through its causes; None otherwise."""
    seen: set[int] = set()  # chains of causes may be circular
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for number in DESCRIPTORS:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return reason(OSError(number, os.strerror(number)))
        if "items of ancdata" in str(error):  # torch, when a descriptor could not be received
            return reason(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Context manager for writing a file atomically: temporary file, fsync, rename.

    The parent folder is created. If the block raises, an existing file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, record: Any) -> None:
    """Writes JSON atomically."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
