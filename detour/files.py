"""Files: written atomically, hashed, locked; and what the system refuses as one sentence."""

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

from detour.errors import DetourError

log = logging.getLogger(__name__)
LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Locks an open file for as long as it stays open, without waiting.

    Network disks may have no locks (Lustre without ``flock``, NFS without its lock service): then a warning says so, and
    the answer is as if the lock had been free.

    Args:
        file: Opened for writing, which NFS demands for an exclusive lock.
        shared: Others may hold it as well, but none exclusively.

    Returns:
        Whether it is held; False means that another process holds it.

    Raises:
        OSError: The disk failed in another way.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:  # EWOULDBLOCK and EAGAIN
        return False
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        log.warning(
            "%s: cannot be locked (%s); this disk has no file locks, so nothing keeps a second process out",
            file.name, os.strerror(error.errno or 0),
        )  # fmt: skip
    return True


def reason(error: OSError) -> str:
    """What the system says, with a way out where the cause is this process's own limit."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{text}; raise the limit (ulimit -n)" if error.errno in DESCRIPTORS else text


@contextmanager
def naming(path: Path | str, kind: type[DetourError] = DetourError) -> Iterator[None]:
    """Turns what the system refuses into one error that names the file, or ``path`` where the system names none.

    The writers of safetensors and tokenizers have their own ways of passing the system's refusal on; both are known by
    the number that they print.

    Raises:
        DetourError: Of the given kind.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{error.filename or path}: {reason(error)}") from error
    except Exception as error:
        if "(os error " not in str(error):
            raise
        raise kind(f"{path}: {str(error).splitlines()[0]}") from error


def starved(error: BaseException | None) -> str | None:
    """The system's words where too few file descriptors are behind an error, however it was passed on; None elsewhere."""
    while error is not None:
        for number in DESCRIPTORS:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return reason(OSError(number, os.strerror(number)))
        if "items of ancdata" in str(error):  # torch, where a descriptor could not be received
            return reason(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file open for writing that takes its name only when the block ends without an error and its bytes are on disk.

    The parent folder is created. An existing file is replaced, and stays as it was if anything fails.
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
    """Forces a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
