"""Metrics as JSON lines in the run folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from composer.core import State
from composer.loggers import Logger, LoggerDestination
from composer.utils import dist

from detour.errors import TrainingError
from detour.files import reason, write_text

EVENTS = ("rejected_step", "measurement")


class JsonlLogger(LoggerDestination):
    """Writes one line per batch (loss, learning rate and running totals), per evaluation and per event.

    Every line has ``batch`` and ``token``: the number of batches and tokens trained when it was written. Lines are written
    before the checkpoint of the same batch. A resume drops the lines after the checkpoint, and the events (`write_event`) of
    the batch that follows it, since both will be written again. When a run starts over, the old file is kept as
    ``metrics.before-1.jsonl``, ``metrics.before-2.jsonl`` and so on.

    Args:
        path: The file; only process 0 writes it.
        batches_trained: Number of batches trained at the checkpoint from which the run resumes; 0 at the start.
        trunk: The metrics of the run from which this one branches. Its lines are copied up to the checkpoint if ``path`` does
            not exist yet, so that the file tells the whole history of the weights.

    Raises:
        TrainingError: A line cannot be written, for example because the disk is full.
    """

    def __init__(self, path: Path, *, batches_trained: int, trunk: Path | None = None) -> None:
        self.path = path
        self._history = trunk if trunk is not None and not path.exists() else path
        self._line: dict[str, float] = {}
        self._omit_loss = False
        self._is_writer = dist.get_global_rank() == 0
        if self._is_writer:
            self._drop_after(batches_trained)

    def _drop_after(self, batch: int) -> None:
        kept = []
        if batch and self._history.exists():
            with self._history.open(errors="replace") as file:
                for line in file:
                    try:
                        values = json.loads(line)
                        # an event belongs to the next batch
                        behind = values["batch"] + any(event in values for event in EVENTS) <= batch
                    except (ValueError, LookupError, TypeError):  # cut off when a process was killed
                        continue
                    if behind:
                        kept.append(line.rstrip("\n") + "\n")  # the last line may lack its newline
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not batch and self.path.exists() and self.path.stat().st_size:
                os.replace(self.path, self._free_name())
            write_text(self.path, "".join(kept))
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {reason(error)}") from error

    def _free_name(self) -> Path:
        """Reserves the first unused name for the metrics of an earlier start."""
        for number in count(1):
            name = self.path.with_name(f"{self.path.stem}.before-{number}{self.path.suffix}")
            with suppress(FileExistsError):
                name.touch(exist_ok=False)
                return name
        raise AssertionError("unreachable")

    def write_event(self, state: State, event: dict[str, Any]) -> None:
        """Writes an event as its own line, immediately, since the run may end within the batch.

        Args:
            state: Composer's state.
            event: The name of the event (one of `EVENTS`), with its JSON value.
        """
        assert event.keys() <= set(EVENTS)
        if self._is_writer:
            self._append(state, event)

    def omit_loss(self) -> None:
        """Leaves the training loss out of the current batch's line, for a batch without supervised tokens."""
        self._omit_loss = True

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self._is_writer:
            unwanted = ("time/", "metrics/", "trainer/", *(["loss/train/"] if self._omit_loss else []))
            wanted = {k: v for k, v in metrics.items() if not k.startswith(unwanted)}
            self._line.update({k: v.item() if hasattr(v, "item") else v for k, v in wanted.items()})

    def batch_end(self, state: State, logger: Logger) -> None:
        self._write(state)

    def eval_end(self, state: State, logger: Logger) -> None:
        self._write(state)

    def _write(self, state: State) -> None:
        if self._line:
            self._append(state, self._line)
        self._line, self._omit_loss = {}, False

    def _append(self, state: State, values: dict[str, Any]) -> None:
        line = {"batch": state.timestamp.batch.value, "token": state.timestamp.token.value, **values}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {reason(error)}") from error
