"""Progress of the cells of an evaluation that run in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from detour.units import counted, duration

if TYPE_CHECKING:
    from detour.evaluation.suite import Cell

    Begin = Callable[[Cell], Callable[[int, int], None]]

log = logging.getLogger(__name__)


@contextmanager
def reported(total: int) -> Iterator[Begin]:
    """Shows progress: bars on a terminal; in a log a line per cell, and one every half minute within a cell.

    Args:
        total: Number of cells to run.

    Yields:
        The argument ``begin`` of `detour.evaluation.suite.run`: called before each cell, it returns a function that is
        called with the steps done and the total number of steps.
    """
    from rich.console import Console

    if Console().is_terminal:
        with _bars(total) as begin:
            yield begin
        return
    from detour.console import Heartbeat

    begun = 0
    started = time.monotonic()

    def begin_line(cell: Cell) -> Callable[[int, int], None]:
        nonlocal begun
        begun += 1
        name = f"cell {begun} of {total}, {cell.task.name}, {cell.model.name}, seed {cell.seed}"
        alive = Heartbeat(log)
        alive.beat("%s: begun, %.0f min after the first", name, (time.monotonic() - started) / 60)
        return lambda done, steps: alive.beat("%s: step %d of %d", name, done, steps)

    yield begin_line
    log.info("%s done in %s", counted(begun, "cell"), duration(time.monotonic() - started))


@contextmanager
def _bars(total: int) -> Iterator[Begin]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        cells = progress.add_task("cells", total=total)

        def begin(cell: Cell) -> Callable[[int, int], None]:
            if progress.tasks[-1].id != cells:
                progress.remove_task(progress.tasks[-1].id)
                progress.advance(cells)
            line = progress.add_task(f"{cell.task.name}, {cell.model.name}, seed {cell.seed}", total=None)
            return lambda done, steps: progress.update(line, completed=done, total=steps)

        yield begin
        progress.update(cells, completed=total)
