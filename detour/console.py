"""Tables on a terminal and in a log: no word is ever broken, and nothing is cut off."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

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
            needed = Measurement.get(console, console.options.update(width=_UNBOUNDED), part)
            console.width = max(terminal, needed.minimum if console.is_terminal else needed.maximum)
            console.print(part)
        else:
            console.width = terminal
            console.print(part, soft_wrap=True, markup=False, highlight=False)
