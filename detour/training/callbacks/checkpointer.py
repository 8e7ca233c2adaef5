"""Saves checkpoints by the token clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer.core import Callback, Event, State
from composer.loggers import Logger
from composer.utils import dist
from safetensors import SafetensorError

from detour.errors import CheckpointError
from detour.training.checkpoints import files
from detour.training.checkpoints.state import Stateful, capture
from detour.training.intervals import EveryTokens
from detour.training.stop import StopRequest

log = logging.getLogger(__name__)


class Checkpointer(Callback):
    """Writes a checkpoint every so many tokens, at the end of each phase, and at the end of the run; early if asked to.

    Args:
        folder: The run's checkpoint folder.
        interval_tokens: Distance between checkpoints.
        boundaries: Token counts at which phases end.
        keep: Newest checkpoints kept; the ends of phases stay.
        record: What the run is (see `detour.build.run_record`), stored with each checkpoint.
        stateful: Callbacks whose state is stored.
        stop: Once the processes agree to stop, it saves and ends the training.
    """

    def __init__(
        self,
        *,
        folder: Path,
        interval_tokens: int,
        boundaries: Sequence[int],
        keep: int,
        record: dict[str, Any],
        stateful: Sequence[Stateful],
        stop: StopRequest,
    ) -> None:
        self.folder, self.boundaries, self.keep = folder, boundaries, keep
        self.record, self.stateful, self.stop = record, stateful, stop
        self._told: set[str] = set()
        self.is_due = EveryTokens(interval_tokens, boundaries)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.stop.agreed or self.is_due(state, Event.BATCH_CHECKPOINT):
            self.save(state)
        if self.stop.agreed:
            state.stop_training()

    def save(self, state: State) -> None:
        """Saves now. Collective; if process 0 cannot write, every process raises CheckpointError."""
        captured = capture(state, self.stateful)
        problem: str | None = None
        cause: Exception | None = None
        if captured is not None:
            tensors, plain = captured
            try:
                saved = files.write(
                    self.folder,
                    tokens=state.timestamp.token.value,
                    tensors=tensors,
                    state={**plain, "run": self.record},
                )
                log.info("saved %s", saved.path)
            # the other processes wait for what comes next; not RuntimeError, as which torch tells of a loader's end anywhere
            except (OSError, SafetensorError, ValueError, TypeError, MemoryError) as error:
                problem, cause = f"{self.folder}: cannot write a checkpoint: {error or type(error).__name__}", error
        problem = dist.all_gather_object(problem)[0]
        if problem:
            raise CheckpointError(problem) from cause
        if captured is not None:
            self._tidy(state.timestamp.token.value)

    def _tidy(self, newest: int) -> None:
        """Deletes what is not kept. What cannot be deleted is tried again after the next save, and told once."""
        try:
            left = files.prune(self.folder, keep=self.keep, boundaries=self.boundaries, newest=newest)
        except OSError as error:  # the folder cannot be listed; if that lasts, the next save says so
            left = [f"{self.folder}: {error}"]
        for line in left:
            if line not in self._told:
                log.warning("cannot delete an old checkpoint now, and will try again after the next save: %s", line)
                self._told.add(line)
