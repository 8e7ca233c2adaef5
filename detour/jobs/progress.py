"""Progress of jobs as lines of a log."""

from __future__ import annotations

import sys

from detour.jobs.run import Progress
from detour.units import duration


class ProgressLines:
    """An observer of `run_jobs` that prints one line to stderr after each change: counts, failures, and the time left.

    Args:
        total: Number of all jobs.
        unit: What a job is called, in the plural.
    """

    def __init__(self, total: int, unit: str = "jobs") -> None:
        self.total, self.unit = total, unit

    def __call__(self, progress: Progress) -> None:
        about = "at least" if progress.is_bound else "about"
        left = f"{about} {duration(progress.seconds_left)} left" if progress.seconds_left else ""
        failed = f"{len(progress.failed)} failed ({', '.join(progress.failed)})" if progress.failed else ""
        running = f"running {', '.join(progress.running)}" if progress.running else ""
        parts = [f"{len(progress.done)} of {self.total} {self.unit} done", failed, running, left]
        print("; ".join(filter(None, parts)), file=sys.stderr, flush=True)
