"""Ending a run before its last token: a signal came, or its time is nearly up."""

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
    """Whether the run should save and end, and why.

    `wanted` is this process's own opinion. The processes agree once a step
    (`detour.training.callbacks.step_guard`), so that all save after the same batch; `agreed` is what came out.

    Args:
        max_minutes: Wall-clock time from now after which the run should have ended, or None.
        clock: Seconds that only grow.
    """

    def __init__(self, max_minutes: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.deadline = None if max_minutes is None else clock() + 60 * max_minutes
        self.reason: str | None = None
        self.agreed = False
        self._last: float | None = None
        self._longest = 0.0

    def wanted(self) -> bool:
        """Whether this process wants to stop; to be asked once a step, which is how it learns how long one takes.

        Time is up when two more of the longest steps so far, each with its saving and evaluation, would not fit: one to
        train and one to save.
        """
        now = self.clock()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        if self.reason is None and self.deadline is not None and now + 2 * self._longest >= self.deadline:
            self.reason = "system.max_minutes are over"
        return self.reason is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM and SIGINT as a wish to stop; a second SIGINT interrupts at once, by KeyboardInterrupt.

        Once a stop was agreed on, signals stay harmless afterwards too: the process is about to end, and launchers
        terminate those that end a little later than the first, which must not change their exit code. Outside the main
        thread, where Python allows no handlers, nothing is listened to.
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
        # a launcher passes Ctrl-C on as SIGTERM: only the same key twice means "at once"
        if self.reason is None or number == signal.SIGINT:
            self.reason = name
