"""Tables on a terminal and in a log: no word is ever broken, and nothing is cut off. And signs of life in a log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

WIDTH = 160  # of tables where no terminal says: in a file they must not lose digits
_UNBOUNDED = 10_000  # columns; more than any table needs


def show(*parts: RenderableType) -> None:
    """Prints tables and lines of text.

    On a terminal a table is as wide as the terminal, or wider where its words would have to be broken. In a file or a pipe
    it is as wide as its content, so that no cell is wrapped. Plain strings are printed as they are, without markup.
    """
    console = Console()
    terminal = console.width
    for part in parts:
        if isinstance(part, Table):
            console.width = max(terminal, _fit(console, part, terminal if console.is_terminal else _UNBOUNDED))
            console.print(part)
        else:
            console.width = terminal
            console.print(part, soft_wrap=True, markup=False, highlight=False)


def _fit(console: Console, table: Table, room: int) -> int:
    """Gives each column its longest word at least, and what is left of the room where lines are longest; the whole width.

    rich would narrow the widest columns below their longest word.
    """
    roomy = console.options.update(width=_UNBOUNDED)
    needs = [
        [Measurement.get(console, roomy, cell) for cell in (column.header, *column.cells)] for column in table.columns
    ]
    least = [max(need.minimum for need in column) for column in needs]
    most = [max(need.maximum for need in column) for column in needs]
    frame = Measurement.get(console, roomy, table).maximum - sum(most)
    wanted, spare = sum(most) - sum(least), max(0, room - frame - sum(least))
    for column, low, high in zip(table.columns, least, most, strict=True):
        column.width = low + min(high - low, (high - low) * spare // wanted if wanted else 0)
    return frame + sum(column.width or 0 for column in table.columns)


class Heartbeat:
    """Lines in the log that show that a long job is alive: the first at once, then at most one in so many seconds.

    Args:
        log: Where they go.
        seconds: Least time between two lines.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self, log: logging.Logger, *, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.log, self.seconds, self.clock = log, seconds, clock
        self._next = -math.inf

    def beat(self, text: str, *arguments: object) -> None:
        """Logs the line, in `logging`'s format, if it is time for one."""
        now = self.clock()
        if now >= self._next:
            self._next = now + self.seconds
            self.log.info(text, *arguments)
