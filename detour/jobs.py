"""Runs many `detour` commands that depend on one another, on this machine or on a SLURM cluster.

Each job is one command, whose result tells whether it is done; nothing else is remembered. So the same call continues
after a kill, and two calls may work on the same jobs: each running job holds a file lock, which ends with its process.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

from detour.errors import ConfigError, JobError, StoppedError
from detour.files import naming, try_lock

log = logging.getLogger(__name__)
BUSY = 76  # exit code of a job that another process is running
STOPPED = 75  # exit code of a run that saved and ended early
ATTEMPTS = 20  # starts of a job that stops early each time, as a run does at system.max_minutes
LAST_LINES = 15  # of a failed job's log, in the error


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
        kind: Jobs of one kind take a time in proportion to ``work``; for the estimate of the time left.
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


@dataclass
class Progress:
    """What the observer of `run_jobs` is told after each change.

    Attributes:
        done: Names of finished jobs, those of earlier calls included.
        running: Names of running jobs.
        failed: Names of failed jobs.
        left: Names of the jobs that are still to be finished.
        seconds_left: Estimate, from the jobs of each kind that this call has finished; None before the first of them.
        is_bound: Whether kinds without a finished job are not counted, so that it takes longer.
    """

    done: list[str]
    running: list[str]
    failed: list[str]
    left: list[str]
    seconds_left: float | None
    is_bound: bool


def run_jobs(
    jobs: Sequence[Job],
    config: ExecutorConfig,
    folder: Path,
    *,
    observe: Callable[[Progress], None] = lambda progress: None,
    executor: Executor | None = None,
) -> None:
    """Runs all jobs that are not done, each after those that it needs. Continues past failures as far as possible.

    Args:
        jobs: In any order.
        config: Where they run.
        folder: For logs and locks.
        observe: Called after each change.
        executor: Starts the jobs; by default the one of ``config.cluster``.

    Raises:
        JobError: Jobs failed; names them, their logs and the logs' last lines. Jobs that need them were not started.
        StoppedError: SIGTERM or Ctrl-C: the running jobs were asked to save and have ended. The same call continues.
        ConfigError: Two jobs have one name, a job needs an unknown one, or jobs need one another.
    """
    _check(jobs)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    work = _Work(jobs, config, folder, executor or _executor(config, folder), observe)
    with _stop_signals(work):
        work.run()


class _Work:
    def __init__(
        self,
        jobs: Sequence[Job],
        config: ExecutorConfig,
        folder: Path,
        executor: Executor,
        observe: Callable[[Progress], None],
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.parallel, self.folder, self.executor, self.observe = config.parallel, folder, executor, observe
        self.done = {name for name, job in self.jobs.items() if job.is_done()}
        self.running: dict[str, tuple[Running, float]] = {}
        self.failed: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.speeds: dict[str, list[tuple[float, float]]] = {}  # kind -> (work, seconds) of finished jobs
        self.stopping: str | None = None

    def run(self) -> None:
        self._tell()
        while self._start_ready() or self.running:
            changed = self._poll()
            if changed:
                self._tell()
            elif self.running:
                time.sleep(self.executor.seconds)
        if self.stopping:
            raise StoppedError(f"{self.folder.parent}: stopped by {self.stopping}; the same command continues")
        if self.failed:
            raise JobError(self._failures())

    def stop(self, reason: str) -> None:
        self.stopping = reason
        for running, _ in self.running.values():
            running.stop()

    def _start_ready(self) -> bool:
        if self.stopping:
            return False
        ready = [
            job
            for name, job in self.jobs.items()
            if name not in self.done | self.failed.keys() | self.running.keys() and self.done.issuperset(job.needs)
        ][: self.parallel - len(self.running)]
        for job, running in zip(ready, self.executor.start(ready) if ready else [], strict=True):
            self.running[job.name] = (running, time.monotonic())
            self.starts[job.name] = self.starts.get(job.name, 0) + 1
        if ready:
            self._tell()
        return bool(ready)

    def _poll(self) -> bool:
        changed = False
        for name, (running, began) in list(self.running.items()):
            code = running.poll()
            if code is None:
                continue
            changed = True
            del self.running[name]
            job = self.jobs[name]
            if job.is_done():
                self.done.add(name)
                if code == 0:
                    self.speeds.setdefault(job.kind, []).append((job.work, time.monotonic() - began))
            elif code == BUSY:
                self.starts[name] -= 1
                time.sleep(self.executor.seconds)
                if job.is_done():
                    self.done.add(name)
            elif not (code == STOPPED and (self.stopping or self.starts[name] < ATTEMPTS)):
                self.failed[name] = code
        return changed

    def _tell(self) -> None:
        left = [name for name in self.jobs if name not in self.done]
        self.observe(
            Progress(
                done=[name for name in self.jobs if name in self.done],
                running=list(self.running),
                failed=list(self.failed),
                left=left,
                seconds_left=self._estimate(left),
                is_bound=any(self.jobs[name].kind not in self.speeds for name in left),
            )
        )

    def _estimate(self, left: Sequence[str]) -> float | None:
        if not self.speeds:
            return None
        rates = {kind: sum(s for _, s in pairs) / sum(w for w, _ in pairs) for kind, pairs in self.speeds.items()}
        seconds = sum(rates.get(self.jobs[name].kind, 0.0) * self.jobs[name].work for name in left)
        return seconds / min(self.parallel, max(1, len(left)))

    def _failures(self) -> str:
        blocked = [name for name in self.jobs if name not in self.done and name not in self.failed]
        parts = []
        for name, code in self.failed.items():
            path = log_of(self.folder, name)
            lines = path.read_text(errors="replace").splitlines()[-LAST_LINES:] if path.exists() else []
            ended = f"exit code {code}" if code else "exit code 0, but its result is missing"
            parts.append("\n".join([f"{name}: {ended}; its log: {path}", *(f"    {line}" for line in lines)]))
        waiting = f"; not started because of them: {len(blocked)}" if blocked else ""
        return f"{len(self.failed)} of {len(self.jobs)} jobs failed{waiting}\n" + "\n".join(parts)


class LocalExecutor:
    """Processes on this machine."""

    seconds = 0.2

    def __init__(self, config: ExecutorConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.slots: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, jobs: Sequence[Job]) -> list[Running]:
        return [self._start(job) for job in jobs]

    def _start(self, job: Job) -> Running:
        slot = next(i for i in range(self.config.parallel) if i not in self.slots or self.slots[i].poll() is not None)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.config.threads)}
        if self.config.gpus:
            gpus = range(slot * self.config.gpus, (slot + 1) * self.config.gpus)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        with log_of(self.folder, job.name).open("ab") as output:
            process = subprocess.Popen(
                _command(job, self.config, self.folder),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which asks the jobs to save
            )
        self.slots[slot] = process
        return _Local(process)


class _Local:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


class SlurmExecutor:
    """Array jobs on a SLURM cluster, by submitit. Jobs that are ready together become one array."""

    seconds = 10.0

    def __init__(self, config: ExecutorConfig, folder: Path) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ConfigError("executor.cluster: slurm needs submitit: pip install 'causal-detour[cluster]'") from error
        self.config, self.folder = config, folder
        try:
            self.executor = submitit.SlurmExecutor(folder=folder / "slurm")
            self.executor.update_parameters(
                time=config.minutes,
                nodes=1,
                cpus_per_task=config.threads,
                gpus_per_node=config.gpus,
                array_parallelism=config.parallel,
                signal_delay_s=120,
                setup=[f"export OMP_NUM_THREADS={config.threads}"],
                **config.slurm,
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"executor.slurm: {error}") from error
        self.function = submitit.helpers.CommandFunction

    def start(self, jobs: Sequence[Job]) -> list[Running]:
        with self.executor.batch():
            submitted = [self.executor.submit(self.function(_command(job, self.config, self.folder))) for job in jobs]
        return [_Slurm(job) for job in submitted]


class _Slurm:
    def __init__(self, job: Any) -> None:
        self.job = job

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        return {"COMPLETED": 0, "TIMEOUT": STOPPED, "PREEMPTED": STOPPED, "NODE_FAIL": STOPPED}.get(self.job.state, 1)

    def stop(self) -> None:
        self.job.cancel(check=False)


def log_of(folder: Path, name: str) -> Path:
    """The file with everything that a job has printed."""
    return folder / f"{name}.log"


def _executor(config: ExecutorConfig, folder: Path) -> Executor:
    return SlurmExecutor(config, folder) if config.cluster == "slurm" else LocalExecutor(config, folder)


def _command(job: Job, config: ExecutorConfig, folder: Path) -> list[str]:
    launcher = ["-m", "detour"]
    if config.gpus > 1 and job.arguments[0] == "train":
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.gpus}", *launcher]
    return [sys.executable, "-m", "detour.jobs", str(folder / f".{job.name}.lock"), *launcher, *job.arguments]


def _check(jobs: Sequence[Job]) -> None:
    names = [job.name for job in jobs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"jobs: two are called {twice[0]}")
    for job in jobs:
        if unknown := sorted(set(job.needs) - set(names)):
            raise ConfigError(f"jobs: {job.name} needs {unknown[0]}, which does not exist")
    reached: set[str] = set()
    while ready := {job.name for job in jobs if job.name not in reached and reached.issuperset(job.needs)}:
        reached |= ready
    if circle := sorted(set(names) - reached):
        raise ConfigError(f"jobs: {', '.join(circle)} need one another")


@contextmanager
def _stop_signals(work: _Work) -> Iterator[None]:
    def note(number: int, frame: FrameType | None) -> None:
        if work.stopping:
            raise KeyboardInterrupt
        work.stop(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str]) -> None:
    """Takes the lock and becomes the command, so that the lock lasts as long as the command's process."""
    path, *command = arguments
    file = open(path, "ab")  # noqa: SIM115  # kept open through exec
    if not try_lock(file):
        raise SystemExit(BUSY)
    os.set_inheritable(file.fileno(), True)
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(sys.argv[1:])
