"""Runs many `detour` commands that depend on one another, on this machine or on a SLURM cluster.

Each job is one command, whose result tells whether it is done; nothing else is remembered. So the same call continues
after a kill, and two calls may work on the same jobs: each running job holds a file lock, which ends with its process.
"""

from detour.jobs.job import BUSY, STOPPED, ExecutorConfig, Job, log_of
from detour.jobs.progress import ProgressLines
from detour.jobs.run import Progress, run_jobs

__all__ = ["BUSY", "STOPPED", "ExecutorConfig", "Job", "Progress", "ProgressLines", "log_of", "run_jobs"]
