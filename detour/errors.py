"""Errors that a user can act on. Each message names the file or key, what was found, and what was expected."""


class DetourError(Exception):
    """Base of every error this library raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(DetourError):
    """A configuration is wrong. The message lists every problem found, not only the first."""


class DataError(DetourError):
    """A corpus, shard, manifest or tokenizer is missing, damaged, or does not fit the run."""


class UnreachableError(DetourError):
    """A hub or a disk failed on the way. Unlike damage in a file, the rest is never left out: a later run reads all of it."""


class ModelError(DetourError):
    """Weights, architecture and tokenizer do not fit together."""


class CheckpointError(DetourError):
    """A checkpoint is absent or damaged, or resuming from it would change the run's past."""


class TrainingError(DetourError):
    """Training cannot go on: a loss is not finite, memory ran out, the disk is full. No weight was spoilt."""


class StoppedError(DetourError):
    """The run was asked to end early and has saved; the same command continues it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for quoting inside another message; its class name if it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
