"""Metrics as lines of JSON in the run folder: readable with nothing but a text editor."""

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

EVENTS = ("bad_batch", "measurement")


class JsonlLogger(LoggerDestination):
    """A line for each batch (its loss and rate, and the totals after it), each evaluation and each bad batch.

    Every line has ``batch`` and ``token``: what had been trained when it was written. A line is on disk before a
    checkpoint of that moment is begun; on a resume the lines past the checkpoint are dropped, for they come again. So do
    the events (`write_event`) of the batch that was under way at the checkpoint. The file of a run that starts over is
    kept as ``metrics.before-1.jsonl``, ``metrics.before-2.jsonl`` and so on.

    Args:
        path: The file; process 0 writes it.
        batches_trained: Number of batches behind the checkpoint that this process continues from.

    Raises:
        TrainingError: A line cannot be written, as on a full disk.
    """

    def __init__(self, path: Path, *, batches_trained: int) -> None:
        self.path = path
        self._line: dict[str, float] = {}
        self._without_loss = False
        self._is_writer = dist.get_global_rank() == 0
        if self._is_writer:
            self._drop_after(batches_trained)

    def _drop_after(self, batch: int) -> None:
        kept = []
        if batch and self.path.exists():
            with self.path.open(errors="replace") as file:
                for line in file:
                    try:
                        values = json.loads(line)
                        # an event belongs to the batch that comes next
                        behind = values["batch"] + any(event in values for event in EVENTS) <= batch
                    except (ValueError, LookupError, TypeError):  # of a process that was killed while writing
                        continue
                    if behind:
                        kept.append(line.rstrip("\n") + "\n")  # the last one may lack its end
        aside = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not batch and self.path.exists() and self.path.stat().st_size:
                os.replace(self.path, self._free_name())
            aside.write_text("".join(kept))
            os.replace(aside, self.path)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error}") from error

    def _free_name(self) -> Path:
        """The first name for an earlier file that no other file has; it is taken at once."""
        for number in count(1):
            name = self.path.with_name(f"{self.path.stem}.before-{number}{self.path.suffix}")
            with suppress(FileExistsError):
                name.touch(exist_ok=False)
                return name
        raise AssertionError("unreachable")

    def write_event(self, state: State, event: dict[str, Any]) -> None:
        """Writes a line of its own at once: the run may end before the batch does.

        Args:
            state: Composer's.
            event: One of `EVENTS` to what is to be known of it.
        """
        assert event.keys() <= set(EVENTS)
        if self._is_writer:
            self._append(state, event)

    def leave_out_loss(self) -> None:
        """For a batch in which nothing carried loss: its line will have no training loss, where there would be a 0."""
        self._without_loss = True

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self._is_writer:
            unwanted = ("time/", "metrics/", "trainer/", *(["loss/train/"] if self._without_loss else []))
            wanted = {k: v for k, v in metrics.items() if not k.startswith(unwanted)}
            self._line.update({k: v.item() if hasattr(v, "item") else v for k, v in wanted.items()})

    def batch_end(self, state: State, logger: Logger) -> None:
        self._write(state)

    def eval_end(self, state: State, logger: Logger) -> None:
        self._write(state)

    def _write(self, state: State) -> None:
        if self._line:
            self._append(state, self._line)
        self._line, self._without_loss = {}, False

    def _append(self, state: State, values: dict[str, Any]) -> None:
        line = {"batch": state.timestamp.batch.value, "token": state.timestamp.token.value, **values}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error}") from error
