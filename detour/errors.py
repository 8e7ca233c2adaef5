"""Errors that a user can act on. Each message names the file or key, what was found, and what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DetourError(Exception):
    """Base class of the errors raised by detour; the command line prints them without a traceback."""

    exit_code = 1


class ConfigError(DetourError):
    """The configuration is invalid. The message lists every problem found."""


class DataError(DetourError):
    """A corpus, shard, manifest or tokenizer is missing, damaged or incompatible with the run."""


class UnreachableError(DetourError):
    """A hub or a disk failed while reading. The data itself is intact, so nothing is skipped; run the command again."""


class ModelError(DetourError):
    """Weights, architecture and tokenizer are incompatible."""


class CheckpointError(DetourError):
    """A checkpoint is missing, damaged, or incompatible with the configuration of the resumed run."""


class TrainingError(DetourError):
    """Training cannot continue: non-finite loss, out of memory, disk full. The weights are intact."""


class JobError(DetourError):
    """Some of several jobs failed. The message names them and their logs; the other results are kept."""


class StoppedError(DetourError):
    """The run was stopped early and saved a checkpoint; the same command resumes it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust, such as tokenizers. Its class is no Exception and cannot be imported."""
    return type(error).__name__ == "PanicException"


@contextmanager
def panics_named(what: str) -> Iterator[None]:
    """Context manager that turns a panic of a library in Rust into a DataError that begins with ``what``."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise DataError(f"{what}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for quoting inside another message; its class name if it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
