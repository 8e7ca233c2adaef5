"""Jobs in the order of their needs, their failures, stops and restarts; with made-up and with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from detour.errors import ConfigError, JobError, StoppedError
from detour.jobs import BUSY, STOPPED, ExecutorConfig, Job, executors, run_jobs
from detour.jobs import run as scheduler


class MadeUp:
    """An executor whose jobs end at the second poll with the next of their exit codes; 0 makes the result."""

    seconds = 0.0

    def __init__(self, codes=None):
        self.codes, self.order, self.at_once, self.results = dict(codes or {}), [], 0, set()
        self.running: set[str] = set()

    def start(self, jobs):
        started = []
        for job in jobs:
            self.order.append(job.name)
            self.running.add(job.name)
            started.append(_Fake(self, job.name))
        self.at_once = max(self.at_once, len(self.running))
        return started

    def job(self, name, *needs, **options):
        return Job(name=name, arguments=("x",), needs=needs, is_done=lambda: name in self.results, **options)


class _Fake:
    def __init__(self, executor, name):
        self.executor, self.name, self.polls, self.stopped = executor, name, 0, False

    def poll(self):
        self.polls += 1
        if self.polls < 2:
            return None
        self.executor.running.discard(self.name)
        codes = self.executor.codes.get(self.name, [])
        code = STOPPED if self.stopped else codes.pop(0) if codes else 0
        if code == 0:
            self.executor.results.add(self.name)
        return code

    def stop(self):
        self.stopped = True


@pytest.fixture
def fake():
    return MadeUp()


def test_jobs_run_after_what_they_need_and_so_many_at_a_time(fake, tmp_path):
    work = [
        fake.job("page", "a2", "b2"),
        *(fake.job(f"{x}2", f"{x}1") for x in "ab"),
        *(fake.job(f"{x}1") for x in "ab"),
    ]
    run_jobs(work, ExecutorConfig(parallel=2), tmp_path, executor=fake)
    at = {name: fake.order.index(name) for name in fake.order}
    assert at["a1"] < at["a2"] < at["page"]
    assert at["b1"] < at["b2"] < at["page"]
    assert fake.at_once == 2
    assert len(fake.order) == 5


def test_what_is_done_is_not_started_again(fake, tmp_path):
    fake.results.add("a")
    run_jobs([fake.job("a"), fake.job("b", "a")], ExecutorConfig(), tmp_path, executor=fake)
    assert fake.order == ["b"]


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path):
    fake = MadeUp({"a": [1]})
    (tmp_path / "a.log").write_text("first\nerror: phases: empty\n")
    work = [fake.job("a"), fake.job("b", "a"), fake.job("c")]
    with pytest.raises(JobError) as error:
        run_jobs(work, ExecutorConfig(), tmp_path, executor=fake)
    assert fake.order == ["a", "c"]
    assert "1 of 3 jobs failed; not started because of them: 1" in str(error.value)
    assert "a: exit code 1" in str(error.value)
    assert "error: phases: empty" in str(error.value)
    assert str(tmp_path / "a.log") in str(error.value)


def test_a_job_without_its_result_has_failed_whatever_it_says(tmp_path):
    fake = MadeUp()
    job = Job(name="a", arguments=("x",), is_done=lambda: False)
    with pytest.raises(JobError, match="exit code 0, but its result is missing"):
        run_jobs([job], ExecutorConfig(), tmp_path, executor=fake)


def test_a_run_that_saved_and_stopped_and_one_that_is_busy_are_started_again(tmp_path):
    fake = MadeUp({"a": [STOPPED, STOPPED], "b": [BUSY]})
    run_jobs([fake.job("a"), fake.job("b")], ExecutorConfig(), tmp_path, executor=fake)
    assert sorted(fake.order) == ["a", "a", "a", "b", "b"]


def test_a_job_that_stops_early_for_ever_is_given_up(tmp_path):
    fake = MadeUp({"a": [STOPPED] * 100})
    with pytest.raises(JobError, match="exit code 75"):
        run_jobs([fake.job("a")], ExecutorConfig(), tmp_path, executor=fake)
    assert len(fake.order) == scheduler.ATTEMPTS


def test_a_signal_asks_the_running_jobs_to_save_and_starts_no_others(fake, tmp_path):
    told, before = [], signal.getsignal(signal.SIGTERM)

    def observe(progress):
        told.append(progress)
        if progress.running:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="stopped by SIGTERM; the same command continues"):
        run_jobs([fake.job("a"), fake.job("b", "a")], ExecutorConfig(), tmp_path, observe=observe, executor=fake)
    assert fake.order == ["a"]
    assert told[-1].left == ["a", "b"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_stop_interrupts_has_not_failed(tmp_path):
    """Ctrl-C of a terminal reaches the jobs, too: one that does not listen ends with the code of the signal."""
    told = []

    class Interrupted(MadeUp):
        def start(self, jobs):
            started = super().start(jobs)
            for running in started:
                running.poll = lambda: -signal.SIGINT
            return started

    def observe(progress):
        told.append(progress)
        if progress.running:
            os.kill(os.getpid(), signal.SIGINT)

    fake = Interrupted()
    with pytest.raises(StoppedError, match="stopped by SIGINT; the same command continues"):
        run_jobs([fake.job("a")], ExecutorConfig(), tmp_path, observe=observe, executor=fake)
    assert told[-1].failed == []
    assert told[-1].left == ["a"]


def test_the_time_left_is_that_of_finished_jobs_of_the_kind(fake, tmp_path, monkeypatch):
    """Jobs of kind x take 10 s per unit of work by a clock that each poll moves on."""
    now = [0.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(scheduler.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 10))
    told = []
    work = [fake.job("a", kind="x", work=1.0), fake.job("b", "a", kind="x", work=3.0), fake.job("c", "b", kind="y")]
    run_jobs(work, ExecutorConfig(), tmp_path, executor=fake, observe=told.append)
    after = {tuple(each.done): (each.seconds_left, each.is_bound) for each in told if not each.running}
    assert after[()] == (None, True)
    assert after[("a",)] == (30.0, True)
    assert after[("a", "b", "c")] == (0.0, False)


@pytest.mark.parametrize(
    ("finished", "start", "rate"),
    [
        ([(2.0, 14.0)], 0.0, 7.0),  # of one job nothing is known of its start
        ([(2.0, 14.0), (2.0, 16.0)], 0.0, 7.5),
        ([(1.0, 9.0), (10.0, 27.0)], 7.0, 2.0),  # 7 s, and 2 s per unit
        ([(1.0, 1.0), (3.0, 9.0)], 0.0, 2.5),  # the line meets 0 below the origin
        ([(1.0, 9.0), (10.0, 7.0)], 8.0, 0.0),  # the longer job was faster
    ],
)
def test_the_start_of_a_job_is_told_from_its_work(finished, start, rate):
    assert scheduler.start_and_rate(finished) == pytest.approx((start, rate))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([("a",), ("a",)], "two are called a"),
        ([("a", "z")], "needs z"),
        ([("a", "b"), ("b", "a")], "a, b need one another"),
    ],
)
def test_jobs_that_cannot_be_run_are_refused(fake, tmp_path, names, message):
    with pytest.raises(ConfigError, match=message):
        run_jobs([fake.job(*each) for each in names], ExecutorConfig(), tmp_path, executor=fake)


# --- real processes -------------------------------------------------------------------------------------------------


def command(monkeypatch, code):
    """Makes every job run a piece of Python."""
    real = executors._command

    def replaced(job, config, folder):
        head = real(job, config, folder)[:4]
        return [*head, "-c", code.format(*job.arguments)]

    monkeypatch.setattr(executors, "_command", replaced)


def test_local_jobs_log_what_they_print_and_have_their_threads_and_gpus(monkeypatch, tmp_path):
    command(
        monkeypatch,
        "import os; open({0!r}, 'w').write(os.environ['OMP_NUM_THREADS'] + os.environ['CUDA_VISIBLE_DEVICES']); print('hello')",
    )
    paths = [tmp_path / f"out{i}" for i in range(2)]
    work = [Job(name=path.name, arguments=(str(path),), is_done=path.is_file) for path in paths]
    run_jobs(work, ExecutorConfig(parallel=2, threads=3, gpus=2), tmp_path / "jobs")
    assert sorted(path.read_text() for path in paths) == ["30,1", "32,3"]
    assert (tmp_path / "jobs" / "out0.log").read_text() == "hello\n"


def test_a_job_that_another_process_runs_is_waited_for(monkeypatch, tmp_path):
    """The lock lasts as long as the command's process, through its exec, and no longer."""
    command(monkeypatch, "import os, time; os.path.exists({0!r}) or (open({0!r}, 'a').write('x'), time.sleep(0.7))")
    out = tmp_path / "out"
    job = Job(name="a", arguments=(str(out),), is_done=lambda: out.exists() and not busy())
    (tmp_path / "jobs").mkdir()
    other = subprocess.Popen(executors._command(job, ExecutorConfig(), tmp_path / "jobs"))

    def busy():
        return other.poll() is None

    while not out.exists():
        time.sleep(0.02)
    run_jobs([job], ExecutorConfig(), tmp_path / "jobs")
    assert out.read_text() == "x"
    assert other.wait() == 0


def test_a_stop_reaches_local_jobs_as_sigterm(monkeypatch, tmp_path):
    command(
        monkeypatch,
        "import signal, sys, time; signal.signal(15, lambda *a: (open({0!r} + '.saved', 'w'), sys.exit(75))); "
        "open({0!r} + '.began', 'w'); time.sleep(60)",
    )
    out = tmp_path / "out"
    job = Job(name="a", arguments=(str(out),), is_done=lambda: False)

    def interrupt():
        while not out.with_suffix(".began").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StoppedError):
        run_jobs([job], ExecutorConfig(), tmp_path / "jobs")
    thread.join()
    assert out.with_suffix(".saved").exists()


def test_training_on_several_gpus_is_started_by_torchrun(tmp_path):
    job = Job(name="a", arguments=("train", "x.yaml"), is_done=lambda: False)
    words = executors._command(job, ExecutorConfig(gpus=4), tmp_path)
    assert words[:4] == [sys.executable, "-m", "detour.jobs", str(tmp_path / ".a.lock")]
    assert words[4:] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=4",
        "-m",
        "detour",
        "train",
        "x.yaml",
    ]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"parallel": 0}, "parallel"),
        ({"threads": 0}, "threads"),
        ({"gpus": -1}, "gpus"),
        ({"slurm": {"a": 1}}, "slurm"),
    ],
)
def test_executors_that_make_no_sense_are_refused(options, key):
    with pytest.raises(ValueError, match=key):
        ExecutorConfig(**options)


def test_slurm_gets_an_array_with_the_limits(monkeypatch, tmp_path):
    """A stand-in for sbatch keeps the script that submitit writes."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script.sh\necho Submitted batch job 42\n')
    (tools / "sbatch").chmod(0o755)
    (tools / "srun").symlink_to(tools / "sbatch")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    config = ExecutorConfig(cluster="slurm", parallel=2, threads=8, gpus=1, minutes=90, slurm={"partition": "gpu"})
    executor = executors.SlurmExecutor(config, tmp_path / "jobs")
    executor.start([Job(name=n, arguments=("train", "x.yaml"), is_done=lambda: False) for n in "ab"])
    script = (tmp_path / "script.sh").read_text()
    for line in ("--array=0-1%2", "--time=90", "--cpus-per-task=8", "--gpus-per-node=1", "--partition=gpu"):
        assert f"#SBATCH {line}\n" in script
    assert "export OMP_NUM_THREADS=8" in script


def test_a_slurm_job_that_stops_early_is_started_again_and_one_that_fails_is_told_from_it(slurm, tmp_path, monkeypatch):
    """SLURM says FAILED of any exit code but 0: that of the job says what to do."""
    done = tmp_path / "done"
    script = (
        "import sys; from pathlib import Path; p = Path(sys.argv[1]); starts = Path(str(p) + '.starts');"
        "n = len(starts.read_text()) if starts.exists() else 0; starts.write_text('x' * (n + 1)); print('start', n);"
        "sys.exit(int(sys.argv[2])) if sys.argv[2] != '75' or n < 2 else p.write_text('')"
    )
    monkeypatch.setattr(
        executors, "_command", lambda job, config, folder: [sys.executable, "-c", script, *job.arguments]
    )
    jobs = [
        Job(name="stops", arguments=(str(done), "75"), is_done=done.exists),
        Job(name="fails", arguments=(str(tmp_path / "never"), "3"), is_done=lambda: False),
    ]
    with pytest.raises(JobError, match=r"1 of 2 jobs failed\nfails: exit code 3; its log: .*fails.log\n    start 0"):
        run_jobs(jobs, ExecutorConfig(cluster="slurm", parallel=2), tmp_path / "jobs")
    assert (tmp_path / "done.starts").read_text() == "xxx"


def test_an_option_that_slurm_does_not_have_is_refused(monkeypatch, tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ConfigError, match=r"executor\.slurm: .*partitoin"):
        executors.SlurmExecutor(ExecutorConfig(cluster="slurm", slurm={"partitoin": "gpu"}), tmp_path / "jobs")


def test_the_local_executor_gives_freed_gpus_again(tmp_path, monkeypatch):
    command(monkeypatch, "import os; open({0!r}, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])")
    (tmp_path / "jobs").mkdir()
    executor = executors.LocalExecutor(ExecutorConfig(gpus=1), tmp_path / "jobs")
    for index in range(2):
        out = Path(tmp_path / f"out{index}")
        (running,) = executor.start([Job(name=out.name, arguments=(str(out),), is_done=out.exists)])
        while running.poll() is None:
            time.sleep(0.02)
        assert out.read_text() == "0"
