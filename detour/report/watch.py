"""Follows a run in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from detour.report.status import RunStatus, read_status, view


def watch(
    folder: Path,
    *,
    interval: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """Shows the status of a run until it is no longer training, or until Ctrl-C.

    Args:
        folder: A run folder.
        interval: Seconds between two looks.
        console: Where to show it; None for standard output.
        sleep: Waits for a number of seconds.

    Returns:
        The last status.

    Raises:
        DataError: It is not a run folder.
    """
    console = console or Console()
    status = read_status(folder)
    try:
        if not console.is_terminal:
            while True:
                console.print(view(status))
                if status.state != "training":
                    return status
                sleep(interval)
                status = read_status(folder)
        with Live(view(status), console=console, auto_refresh=False) as live:
            while status.state == "training":
                sleep(interval)
                status = read_status(folder)
                live.update(view(status), refresh=True)
    except KeyboardInterrupt:
        pass
    return status
