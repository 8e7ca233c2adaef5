"""Saves checkpoints on the token clock."""

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
    """Saves a checkpoint every ``interval_tokens``, at the end of each phase and of the run, and when the run is to stop.

    Args:
        folder: Checkpoint folder of the run.
        interval_tokens: Tokens between checkpoints.
        boundaries: Token counts at which phases end.
        keep: Number of latest checkpoints to keep; those at the ends of phases are kept in addition.
        record: Identity of the run (`detour.training.run_folder.run_record`), stored in each checkpoint.
        stateful: Callbacks and algorithms whose state is stored.
        stop: Once the processes agree to stop, the run is saved and training ends.
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
        self._warned: set[str] = set()
        self.is_due = EveryTokens(interval_tokens, boundaries)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.stop.agreed or self.is_due(state, Event.BATCH_CHECKPOINT):
            self.save(state)
        if self.stop.agreed:
            state.stop_training()

    def save(self, state: State) -> None:
        """Saves a checkpoint now. Collective. Raises CheckpointError on every process if process 0 cannot write."""
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
            # reported below, since the others wait; not RuntimeError, which torch raises anywhere for a dead loader process
            except (OSError, SafetensorError, ValueError, TypeError, MemoryError) as error:
                problem, cause = (
                    f"{self.folder}: cannot write a checkpoint: {str(error) or type(error).__name__}",
                    error,
                )
        problem = dist.all_gather_object(problem)[0]
        if problem:
            raise CheckpointError(problem) from cause
        if captured is not None:
            self._prune(state.timestamp.token.value)

    def _prune(self, newest: int) -> None:
        """Deletes old checkpoints. Retried after the next save where it fails, with one warning per folder."""
        try:
            left = files.prune(self.folder, keep=self.keep, boundaries=self.boundaries, newest=newest)
        except OSError as error:  # the folder cannot be listed; if this persists, the next save fails
            left = [f"{self.folder}: {error}"]
        for line in left:
            if line not in self._warned:
                log.warning("cannot delete an old checkpoint, will retry after the next save: %s", line)
                self._warned.add(line)
