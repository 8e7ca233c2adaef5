"""Memory that runs out and loaders that die or fall silent: the end of a run with an error, never a hang."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from composer.core import Callback, State
from composer.loggers import Logger

from detour.config.schema import DataConfig
from detour.errors import DataError, TrainingError


class _SilenceError(Exception):
    """No batch came in time."""


class FailureWatch(Callback):
    """Limits each wait for a batch, and turns what torch raises into errors that say what to change.

    torch's own time-out covers a worker that reads for too long, and neither one that is frozen (what it sent has to be
    fetched from it) nor reading in this process. So a thread looks once a second at how long the wait has been, and
    where it is too long sends this process SIGUSR2, whose handler raises out of whatever it waits in.

    Args:
        data: The limit is a second more than its ``timeout_seconds``, which torch's time-out goes by.
    """

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self._since: float | None = None
        self._what = "data.train"

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._since, self._what = time.monotonic(), "data.train"

    def after_dataloader(self, state: State, logger: Logger) -> None:
        self._since = None

    def epoch_end(self, state: State, logger: Logger) -> None:
        self._since = None  # Composer asked for one batch more than there was

    def fit_end(self, state: State, logger: Logger) -> None:
        self._since = None

    def eval_start(self, state: State, logger: Logger) -> None:
        self._since, self._what = time.monotonic(), "data.validation"

    def eval_batch_start(self, state: State, logger: Logger) -> None:
        self._since = None

    def eval_batch_end(self, state: State, logger: Logger) -> None:
        self._since = time.monotonic()

    def eval_end(self, state: State, logger: Logger) -> None:
        self._since = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the time of training. The process that fails ends; the others fail at their next exchange with it.

        Raises:
            TrainingError: A micro-batch did not fit into memory. Micro-batches are not made smaller by themselves: that
                would have to happen on all processes at once, in the middle of their exchanges.
            DataError: A loader process died, or no batch came in time.
        """
        data = self.data
        try:
            with self._limit():
                yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"data.micro_batch_size: {data.micro_batch_size} rows of {data.seq_len} tokens do not fit into "
                "memory; lower it, or set model.gradient_checkpointing or system.parallelism: fsdp. "
                f"{str(error).splitlines()[0]}"
            ) from error
        except (RuntimeError, _SilenceError) as error:
            if not isinstance(error, _SilenceError) and not str(error).startswith("DataLoader "):
                raise  # torch has no class of its own for a lost worker
            for worker in multiprocessing.active_children():
                worker.kill()  # a frozen one would ignore a gentler signal, and this process would wait for its end
            raise DataError(
                f"{self._what}: a loader process died, or brought nothing for {data.timeout_seconds} seconds "
                f"(data.timeout_seconds): {error}"
            ) from error

    @contextmanager
    def _limit(self) -> Iterator[None]:
        """Outside the main thread, where Python allows no handlers, there is none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        over = threading.Event()
        before = signal.signal(signal.SIGUSR2, self._interrupt)
        thread = threading.Thread(target=self._watch, args=(over, threading.get_ident()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            signal.signal(signal.SIGUSR2, before)

    def _watch(self, over: threading.Event, main: int) -> None:
        while not over.wait(1.0):
            since = self._since
            if since is not None and time.monotonic() - since > self.data.timeout_seconds + 1:
                signal.pthread_kill(main, signal.SIGUSR2)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None:  # else it came from elsewhere, or the batch came after all
            self._since = None
            raise _SilenceError("no batch came")
