"""Runs an experiment to its end and writes its page."""

from __future__ import annotations

import sys
from pathlib import Path

from detour.experiments.cells import Plan
from detour.files import write_text
from detour.jobs import Progress, run_jobs
from detour.units import duration

def run_experiment(plan: Plan) -> Path:
    """Does what is not done yet, and writes the page. Finished work is recognized by its results and not repeated.

    Raises:
        JobError: Some jobs failed; everything that does not need them was done.
        StoppedError: It was asked to end early.
        ConfigError: A finished run was trained with other settings than the experiment's file now gives.
    """
    from detour.experiments.page import write_page

    config = plan.experiment.config
    plan.write_configurations()
    write_text(plan.folder / "experiment.yaml", plan.experiment.file.read_text(encoding="utf-8"))
    run_jobs(plan.jobs, config.executor, plan.folder / "jobs", observe=_Observer(len(plan.jobs)))
    return write_page(plan)


class _Observer:
    """Logs one line per finished job."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __call__(self, progress: Progress) -> None:
        left = f"about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
        failed = f"{len(progress.failed)} failed ({', '.join(progress.failed)})" if progress.failed else ""
        running = f"running {', '.join(progress.running)}" if progress.running else ""
        parts = [f"{len(progress.done)} of {self.total} jobs done", failed, running, left]
        print("; ".join(filter(None, parts)), file=sys.stderr, flush=True)
