"""A job, where jobs run, and the interface of what starts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

BUSY = 76  # exit code of a job that another process is running
STOPPED = 75  # exit code of a run that saved and ended early


@dataclass(frozen=True, kw_only=True)
class ExecutorConfig:
    """Where jobs run.

    Attributes:
        cluster: "local" starts processes on this machine; "slurm" submits array jobs (needs the extra ``cluster``).
        parallel: Largest number of jobs that run at the same time.
        threads: CPU threads per job (``OMP_NUM_THREADS``): results are bitwise reproducible only for one number of threads.
        gpus: GPUs per job. Local jobs get different ones; with more than one, training is started by torchrun.
        minutes: Time limit of a SLURM job. A training run saves and is submitted again.
        slurm: Other options of submitit's SLURM executor, without their prefix: ``{partition: gpu, account: abc}``.
    """

    cluster: Literal["local", "slurm"] = "local"
    parallel: int = 1
    threads: int = 1
    gpus: int = 0
    minutes: int = 24 * 60
    slurm: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("parallel", "threads", "minutes"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 1")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected at least 0")
        if self.slurm and self.cluster != "slurm":
            raise ValueError(f"slurm is {self.slurm}, but cluster is '{self.cluster}'")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command.

    Attributes:
        name: Unique, and the name of its log and lock.
        arguments: Of `detour`.
        is_done: Whether its result exists; raises an error if the result is not the one that was asked for.
        needs: Names of the jobs that must be done before.
        kind: Jobs of one kind take a time to start and a time in proportion to ``work``; for the estimate of the time left.
        work: Amount of work, in any unit.
    """

    name: str
    arguments: tuple[str, ...]
    is_done: Callable[[], bool]
    needs: tuple[str, ...] = ()
    kind: str = "job"
    work: float = 1.0


class Running(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """Its exit code, or None while it is pending or running."""

    def stop(self) -> None:
        """Asks it to save and end."""


class Executor(Protocol):
    """Starts jobs."""

    seconds: float  # between two polls

    def start(self, jobs: Sequence[Job]) -> list[Running]:
        """Starts jobs that are all ready."""
        ...


def log_of(folder: Path, name: str) -> Path:
    """The file with everything that a job has printed."""
    return folder / f"{name}.log"
