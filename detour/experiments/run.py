"""Runs an experiment to its end and writes its page."""

from __future__ import annotations

from pathlib import Path

from detour.experiments.cells import Plan
from detour.files import write_text
from detour.jobs import ProgressLines, run_jobs


def run_experiment(plan: Plan) -> Path:
    """Does what is not done yet, and writes the page. Finished work is recognized by its results and not repeated.

    Args:
        plan: The experiment.

    Raises:
        JobError: Some jobs failed; everything that does not need them was done.
        StoppedError: It was asked to end early.
        ConfigError: A finished run was trained with other settings than the experiment's file now gives.
    """
    from detour.experiments.page import write_page

    config = plan.experiment.config
    plan.write_configurations()
    write_text(plan.folder / "experiment.yaml", plan.experiment.file.read_text(encoding="utf-8"))
    run_jobs(plan.jobs, config.executor, plan.folder / "jobs", observe=ProgressLines(len(plan.jobs)))
    return write_page(plan)
