"""Saves checkpoints on the token clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from composer.core import Callback, Event, State
from composer.loggers import Logger
from composer.utils import dist
from safetensors import SafetensorError
from torch import Tensor

from detour.config.schema import CheckpointConfig
from detour.errors import CheckpointError
from detour.training.checkpoints import files
from detour.training.checkpoints.state import Stateful, capture, snapshot
from detour.training.intervals import EveryTokens
from detour.training.stop import StopRequest

log = logging.getLogger(__name__)
# not RuntimeError, which torch raises anywhere for a dead loader process
_CANNOT_WRITE = (OSError, SafetensorError, ValueError, TypeError, MemoryError)


class Checkpointer(Callback):
    """Saves a checkpoint every ``interval_tokens``, at the end of each phase and of the run, and when the run is to stop.

    With ``settings.background`` training goes on once the state is copied; process 0 writes the copy in a thread. One
    checkpoint is written at a time: the next save, a stop, and the end of the run wait for it. A write that fails makes the
    processes stop after the current step.

    Args:
        folder: Checkpoint folder of the run.
        settings: When to save, how, and what to keep.
        boundaries: Token counts at which phases end.
        record: Identity of the run (`detour.training.run_folder.run_record`), stored in each checkpoint.
        stateful: Callbacks and algorithms whose state is stored.
        stop: Once the processes agree to stop, the run is saved and training ends.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        folder: Path,
        settings: CheckpointConfig,
        boundaries: Sequence[int],
        record: dict[str, Any],
        stateful: Sequence[Stateful],
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.settings, self.boundaries = folder, settings, boundaries
        self.record, self.stateful, self.stop, self.clock = record, stateful, stop, clock
        self._warned: set[str] = set()
        self._is_due = EveryTokens(settings.interval_tokens, boundaries)
        self._ends_a_phase = EveryTokens(1 << 62, boundaries)
        self._last_save = clock()
        self._thread = ThreadPoolExecutor(
            1, "checkpoint"
        )  # starts with the first write; Python ends after the last one
        self._writing = False  # the same on all processes
        self._result: Callable[[], Exception | None] = lambda: None  # of the write, on process 0

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.stop.agreed or self._due(state):
            self.save(state)
        if self.stop.agreed:
            self.wait()
            state.stop_training()

    def fit_end(self, state: State, logger: Logger) -> None:
        self.wait()

    def save(self, state: State) -> None:
        """Saves a checkpoint, or starts to write it in the background. Collective.

        Raises:
            CheckpointError: On every process, if process 0 could not write this checkpoint or the one before.
        """
        began, tokens = self.clock(), state.timestamp.token.value
        self.wait()
        captured = capture(state, self.stateful)
        self._writing = True
        if not self.settings.background:
            if captured is not None:
                error = self._write(tokens, *captured)
                self._result = lambda: error
            self.wait()
        elif captured is not None:
            copied = snapshot(*captured, on_cpu=state.device.name == "cpu")
            self._result = self._thread.submit(self._write, tokens, *copied).result
        self._last_save = self.clock()
        log.info("checkpoint at token %s: training waited %.2f s", f"{tokens:,}", self._last_save - began)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk. Collective. Raises CheckpointError on every process if it is not."""
        if not self._writing:
            return
        error = self._result()
        told = error and f"{self.folder}: cannot write a checkpoint: {str(error) or type(error).__name__}"
        self._writing = False
        problem = dist.all_gather_object(told)[0]
        if problem:
            raise CheckpointError(problem) from error

    def _due(self, state: State) -> bool:
        """Whether a checkpoint is due. Collective if there is a least interval: the clock of process 0 decides."""
        if not self._is_due(state, Event.BATCH_CHECKPOINT):
            return False
        if not self.settings.min_interval_seconds or self._ends_a_phase(state, Event.BATCH_CHECKPOINT):
            return True
        return dist.all_gather_object(self.clock() - self._last_save)[0] >= self.settings.min_interval_seconds

    def _write(
        self, tokens: int, tensors: Mapping[str, Mapping[str, Tensor]], plain: Mapping[str, Any]
    ) -> Exception | None:
        """Writes a checkpoint and deletes old ones, on process 0. Returns why it cannot be written."""
        began = self.clock()
        try:
            saved = files.write(self.folder, tokens=tokens, tensors=tensors, state={**plain, "run": self.record})
        except _CANNOT_WRITE as error:
            self.stop.reason = "a checkpoint could not be written"  # after the current step, if training goes on
            return error
        seconds = self.clock() - began
        if self.settings.background:  # otherwise it is part of the step
            self.stop.saving_seconds = seconds
        log.info("saved %s in %.1f s", saved.path, seconds)
        self._prune(tokens)
        return None

    def _prune(self, newest: int) -> None:
        """Deletes old checkpoints. Retried after the next save where it fails, with one warning per folder."""
        try:
            left = files.prune(self.folder, keep=self.settings.keep, boundaries=self.boundaries, newest=newest)
        except OSError as error:  # the folder cannot be listed; if this persists, the next save fails
            left = [f"{self.folder}: {error}"]
        for line in left:
            if line not in self._warned:
                log.warning("cannot delete an old checkpoint, will retry after the next save: %s", line)
                self._warned.add(line)
