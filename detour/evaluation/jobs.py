"""The cells of an evaluation as jobs: one process per cell, on this machine or on a SLURM cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detour.evaluation.suite import Cell, collect, unfinished
from detour.jobs import ExecutorConfig, Job, ProgressLines, run_jobs

JOBS = "jobs"  # folder of logs and locks


def run_as_jobs(cells: Sequence[Cell], out: Path, executor: ExecutorConfig, arguments: Sequence[str]) -> None:
    """`detour.evaluation.suite.run` with a process for each cell. The same call continues an interrupted one.

    Args:
        cells: What to run.
        out: Output folder. Logs of the cells are in its ``jobs``.
        executor: Where the processes run.
        arguments: What names tasks, their overrides and their data, as in `detour eval run`.

    Raises:
        ConfigError: An existing record was made with a different model, data, seed or configuration.
        JobError: Cells failed; all others were run.
        StoppedError: It was asked to end early.
    """
    unfinished(cells, out)
    jobs = [_job(cell, out, arguments) for cell in cells]
    try:
        run_jobs(jobs, executor, out / JOBS, observe=ProgressLines(len(jobs), "cells"))
    finally:
        if any(job.is_done() for job in jobs):
            collect(out)
    unfinished(cells, out)  # what other processes wrote is checked like records of earlier runs


def _job(cell: Cell, out: Path, arguments: Sequence[str]) -> Job:
    chosen = ["--name", cell.task.name, "--seed", str(cell.seed), "--out", str(out)]
    model = f"{cell.model.name}={cell.model.folder}"
    return Job(
        name=f"{cell.model.name}={cell.task.name}-seed{cell.seed}",  # a model's name has no "="
        arguments=("eval", "cell", model, *arguments, *chosen),
        is_done=cell.path(out).is_file,
        kind=cell.task.name,
    )
