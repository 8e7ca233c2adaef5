"""Stopping a run early, by a signal or a time limit."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """A request to save the run and stop.

    Each process has its own wish (`wanted`). Once per step the processes agree (`detour.training.callbacks.step_guard`), so
    that all of them save after the same batch; the result is in `agreed`.

    Args:
        max_minutes: Wall-clock limit from now, or None.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, max_minutes: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.deadline = None if max_minutes is None else clock() + 60 * max_minutes
        self.reason: str | None = None
        self.agreed = False
        self.saving_seconds = 0.0  # duration of the last write of a checkpoint, which may run beside the steps
        self._last: float | None = None
        self._longest = 0.0

    def wanted(self) -> bool:
        """Whether this process wants to stop. Call once per step: the calls also measure the duration of a step.

        The time limit counts as reached when two more steps as long as the longest so far (with evaluation and saving), one
        to train and one to save, and the last write of a checkpoint would exceed it.
        """
        now = self.clock()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        if (
            self.reason is None
            and self.deadline is not None
            and now + 2 * self._longest + self.saving_seconds >= self.deadline
        ):
            self.reason = "system.max_minutes is reached"
        return self.reason is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns SIGTERM and SIGINT into a wish to stop; a second SIGINT raises KeyboardInterrupt.

        After an agreed stop the handlers stay installed: launchers terminate the remaining processes as soon as the first one
        ends, which must not change their exit codes. Does nothing outside the main thread, where Python allows no handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            if not self.agreed:
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT and self.reason == name:
            raise KeyboardInterrupt
        # launchers forward Ctrl-C as SIGTERM too, so only a second SIGINT interrupts
        if self.reason is None or number == signal.SIGINT:
            self.reason = name
