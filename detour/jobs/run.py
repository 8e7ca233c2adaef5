"""The scheduler: starts each job after those that it needs, and reports failures, stops and the time left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression
from types import FrameType

from detour.errors import ConfigError, JobError, StoppedError
from detour.files import naming
from detour.jobs.executors import executor_of
from detour.jobs.job import BUSY, STOPPED, Executor, ExecutorConfig, Job, Running, log_of

ATTEMPTS = 20  # starts of a job that stops early each time, as a run does at system.max_minutes
LAST_LINES = 15  # of a failed job's log, in the error


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
    work = _Work(jobs, config, folder, executor or executor_of(config, folder), observe)
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
        self.busy: dict[str, float] = {}  # job that another process was running -> when that was seen last
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
        ]
        ready.sort(key=lambda job: self.busy.get(job.name, 0.0))  # what another process runs is asked for last
        ready = ready[: self.parallel - len(self.running)]
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
                self.busy[name] = time.monotonic()
                time.sleep(self.executor.seconds)
                if job.is_done():
                    self.done.add(name)
            elif not self.stopping and not (code == STOPPED and self.starts[name] < ATTEMPTS):
                self.failed[name] = (
                    code  # what a stop interrupted has not failed, whatever its code: Ctrl-C reaches it, too
                )
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
        times = {kind: start_and_rate(pairs) for kind, pairs in self.speeds.items()}
        seconds = 0.0
        for job in (self.jobs[name] for name in left):
            start, rate = times.get(job.kind, (0.0, 0.0))
            seconds += start + rate * job.work
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


def start_and_rate(finished: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds that a job of a kind takes to start, and seconds per unit of work, neither below 0.

    By least squares; from jobs of one size only, whose start cannot be told apart, all is taken for work.

    Args:
        finished: Work and seconds of at least one finished job.
    """
    work, seconds = zip(*finished, strict=True)
    if len(set(work)) > 1:
        rate, start = linear_regression(work, seconds)
        if rate < 0:
            return fmean(seconds), 0.0
        if start > 0:
            return start, rate
    return 0.0, sum(seconds) / sum(work)


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
