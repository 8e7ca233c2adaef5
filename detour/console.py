"""Tables for terminals and logs, without broken words or truncated cells; periodic progress lines in a log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

WIDTH = 160  # of tables that are not written to a terminal
_UNBOUNDED = 10_000  # columns; more than any table needs


def show(*parts: RenderableType) -> None:
    """Prints tables and lines of text.

    On a terminal, a table has the width of the terminal, or more if words would be broken. In a file or pipe it is as wide
    as its content, and no cell is wrapped. Strings are printed verbatim, without markup.
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
    """Sets column widths and returns the total width.

    Every column fits its longest word (which rich does not guarantee); the remaining width goes to the columns with the
    longest lines.
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
    """Rate-limited progress lines in the log of a long job. The first line is logged immediately.

    Args:
        log: The logger.
        seconds: Minimum time between two lines.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self, log: logging.Logger, *, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.log, self.seconds, self.clock = log, seconds, clock
        self._next = -math.inf

    def beat(self, text: str, *arguments: object) -> None:
        """Logs a line in `logging`'s format, unless the last one is too recent."""
        now = self.clock()
        if now >= self._next:
            self._next = now + self.seconds
            self.log.info(text, *arguments)
