"""Jobs as processes on this machine, or as array jobs on a SLURM cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.errors import ConfigError
from detour.files import write_text
from detour.jobs.job import STOPPED, Executor, ExecutorConfig, Job, Running, log_of

# what limits the CPU threads of a job: of torch, and of the compile workers that importing ModernBERT's classes starts
THREADS = ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")


def executor_of(config: ExecutorConfig, folder: Path) -> Executor:
    return SlurmExecutor(config, folder) if config.cluster == "slurm" else LocalExecutor(config, folder)


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
        environment = {**os.environ, **{name: str(self.config.threads) for name in THREADS}}
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
                setup=[f"export {name}={config.threads}" for name in THREADS],
                **config.slurm,
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"executor.slurm: {error}") from error

    def start(self, jobs: Sequence[Job]) -> list[Running]:
        commands = [
            _Reporting(_command(job, self.config, self.folder), log_of(self.folder, job.name), self._code_of(job))
            for job in jobs
        ]
        for command in commands:
            command.code.unlink(missing_ok=True)  # of an earlier start
        with self.executor.batch():
            submitted = [self.executor.submit(command) for command in commands]
        return [_Slurm(job, command.code) for job, command in zip(submitted, commands, strict=True)]

    def _code_of(self, job: Job) -> Path:
        return self.folder / "slurm" / f"{job.name}.code"


@dataclass(frozen=True)
class _Reporting:
    """Runs a command on the node, with its output in the job's log, and writes its exit code, which SLURM does not report."""

    command: list[str]
    log: Path
    code: Path

    def __call__(self) -> None:
        with self.log.open("ab") as output:
            code = subprocess.call(self.command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        write_text(self.code, str(code))


class _Slurm:
    def __init__(self, job: Any, code: Path) -> None:
        self.job, self.code = job, code

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        if self.job.state in ("TIMEOUT", "PREEMPTED", "NODE_FAIL"):
            return STOPPED
        try:
            return int(self.code.read_text())
        except (OSError, ValueError):  # it was killed before it could write
            return 1

    def stop(self) -> None:
        self.job.cancel(check=False)


def _command(job: Job, config: ExecutorConfig, folder: Path) -> list[str]:
    launcher = ["-m", "detour"]
    if config.gpus > 1 and job.arguments[0] == "train":
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.gpus}", *launcher]
    return [sys.executable, "-m", "detour.jobs", str(folder / f".{job.name}.lock"), *launcher, *job.arguments]
