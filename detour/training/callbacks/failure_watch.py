"""Ends a run with a clear error, instead of a hang, when memory runs out or a data loader dies or stalls."""

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
from detour.errors import DataError, TrainingError, first_line


class _StallError(Exception):
    """No batch arrived in time."""


class FailureWatch(Callback):
    """Bounds each wait for a batch, and translates errors of torch into errors that say what to change.

    The timeout of torch's DataLoader covers a slow worker, but neither a frozen one (its batch must be fetched from it) nor
    reading in the main process. Therefore a thread checks the wait once per second; when it is too long, it sends SIGUSR2
    to this process, and the signal handler raises out of any blocking call.

    Args:
        data: The limit is its ``timeout_seconds`` plus one second, so that torch's own timeout fires first.
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
        self._since = None  # Composer asks for one batch beyond the last

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
        """Active during training. A failing process ends; the others fail at their next collective operation.

        Raises:
            TrainingError: A micro-batch does not fit into memory. It is not reduced automatically: all processes would have
                to do so at once, in the middle of their collectives.
            DataError: A loader process died, or no batch arrived in time.
        """
        data = self.data
        try:
            with self._limit():
                yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"data.micro_batch_size: {data.micro_batch_size} rows of {data.seq_len} tokens do not fit into "
                "memory; lower it, or set model.gradient_checkpointing or system.parallelism: fsdp_full_shard. "
                f"{first_line(error)}"
            ) from error
        except (RuntimeError, _StallError) as error:
            if not isinstance(error, _StallError) and not str(error).startswith("DataLoader "):
                raise  # torch raises a plain RuntimeError for a lost worker
            for worker in multiprocessing.active_children():
                worker.kill()  # a frozen worker ignores SIGTERM, and joining it would hang
            raise DataError(
                f"{self._what}: a loader process died, or sent no batch for {data.timeout_seconds} seconds "
                f"(data.timeout_seconds): {error}"
            ) from error

    @contextmanager
    def _limit(self) -> Iterator[None]:
        """Runs the watching thread. No limit outside the main thread, where Python allows no signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        done = threading.Event()
        before = signal.signal(signal.SIGUSR2, self._interrupt)
        thread = threading.Thread(target=self._watch, args=(done, threading.get_ident()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            signal.signal(signal.SIGUSR2, before)

    def _watch(self, done: threading.Event, main: int) -> None:
        while not done.wait(1.0):
            since = self._since
            if since is not None and time.monotonic() - since > self.data.timeout_seconds + 1:
                signal.pthread_kill(main, signal.SIGUSR2)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None:  # otherwise a foreign signal, or the batch has arrived
            self._since = None
            raise _StallError("no batch arrived")
