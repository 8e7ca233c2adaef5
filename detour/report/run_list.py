"""All runs below a folder, one line each: for a look at several runs at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Column, Table

from detour.errors import DataError, first_line
from detour.report.status import RunStatus, read_status
from detour.training.run_folder import METRICS, RECORD
from detour.units import duration, part_of

DEPTH = 4  # folders: experiments/NAME/runs/RUN, work/demo/runs/RUN


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run of a list.

    Attributes:
        folder: The run folder, relative to the folder that was searched.
        written: When the run last wrote a metric, or began, in seconds since the epoch.
        status: The run at this moment; None before its first batch, or if the folder cannot be read.
        problem: Why there is no status; empty if there is one.
    """

    folder: Path
    written: float
    status: RunStatus | None
    problem: str


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, trained or about to train its first batch."""
    return (folder / "config.yaml").is_file() and any((folder / name).is_file() for name in (METRICS, RECORD))


def list_runs(folder: Path, *, now: float | None = None) -> list[ListedRun]:
    """The runs in a folder and up to `DEPTH` folders below it, those that wrote last first.

    Hidden folders and links to folders are not searched. Cost: reads all metrics of each run.

    Args:
        folder: Where to search.
        now: Time of the look, in seconds since the epoch; None for the present.

    Raises:
        DataError: There is no folder, or no run in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a run folder, or one with runs below it")
    found = [_listed(run, run.relative_to(folder), now) for run in _run_folders(folder)]
    if not found:
        raise DataError(
            f"{folder}: neither a run folder (config.yaml and {METRICS}) nor one with runs up to {DEPTH} folders below it; "
            "a run appears here when it trains, not while its text is prepared"
        )
    return sorted(found, key=lambda run: run.written, reverse=True)


def table_of(runs: list[ListedRun], *, now: float | None = None) -> Table:
    """The runs as a table, one line each.

    Args:
        runs: From `list_runs`.
        now: Time of the look, in seconds since the epoch; None for the present.
    """
    right = [Column(heading, justify="right") for heading in ("tokens", "training loss")]
    table = Table("run", "state", "phase", *right, "held-out loss", Column("written", justify="right"))
    for run in runs:
        age = f"{duration(max((now or time.time()) - run.written, 0.0))} ago"
        s = run.status
        if s is None:
            table.add_row(run.folder.as_posix(), run.problem, "", "", "", "", age)
            continue
        loss = ", ".join(f"{name} {loss:.4f}".strip() for name, loss in s.losses.items())
        held_out = ", ".join(f"{name} {value:.4f}" for name, (_, value) in s.held_out.items())
        table.add_row(run.folder.as_posix(), s.state, s.phase, part_of(s.tokens, s.planned), loss, held_out, age)
    return table


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, _ in os.walk(folder):
        here = Path(path)
        if is_run(here):
            yield here
            folders.clear()  # a run has no runs below it
        elif len(here.relative_to(folder).parts) == DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _listed(run: Path, name: Path, now: float | None) -> ListedRun:
    metrics = run / METRICS
    begun = metrics.is_file()
    written = (metrics if begun else run / RECORD).stat().st_mtime
    if not begun:
        return ListedRun(folder=name, written=written, status=None, problem="no batch yet")
    try:
        return ListedRun(folder=name, written=written, status=read_status(run, now=now), problem="")
    except DataError as error:  # the others are shown all the same
        problem = first_line(error).removeprefix(f"{run}{os.sep}")
        return ListedRun(folder=name, written=written, status=None, problem=f"cannot be read: {problem}")
