"""The smoke experiment: killed at ten random moments and finished by the same command, its results are those of one process."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "yamls" / "experiments" / "smoke.yaml"
KILLS = 10
VARYING = {"device_seconds", "environment"}  # keys of results.json that no two runs have in common

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(3000)]


def kill_all(tag: str) -> None:
    """SIGKILL to every process that inherited the tag, jobs included, as when a machine goes down."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if tag.encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue


def interrupted(folder: str) -> int:
    """Runs the experiment, killed at random moments, then to its end; returns how often it was killed before that."""
    moments, kills = random.Random(11), 0
    while True:
        tag = uuid.uuid4().hex
        environment = {**os.environ, "DETOUR_SMOKE_TAG": tag, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "detour", "experiment", "run", str(FILE), f"folder={folder}"]
        log = Path(f"{folder}-{kills}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            if kills == KILLS:
                assert process.wait(timeout=2000) == 0, log.read_text()[-3000:]
                return kills
            first = wait_for_jobs(process, log, more=0)
            wait_for_jobs(process, log, more=first + moments.randint(0, 1))
            time.sleep(moments.uniform(0, 2))
            assert process.poll() is None, "finished before the last kill"
            kills += 1
        finally:
            kill_all(tag)
            process.wait()


def wait_for_jobs(process: subprocess.Popen[bytes], log: Path, *, more: int) -> int:
    """Waits until so many jobs are done, by what the command says; returns how many are."""
    while True:
        said = [int(number) for number in re.findall(r"^(\d+) of \d+ jobs done", log.read_text(), re.MULTILINE)]
        if said and said[-1] >= more:
            return said[-1]
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.05)


def comparable(value):
    """Results without what differs between any two runs of a program."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in VARYING}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def test_killed_at_ten_random_moments_it_ends_with_equal_results(smoke_experiment, smoke_plan, monkeypatch):
    monkeypatch.chdir(smoke_experiment)
    assert interrupted("killed") == KILLS
    expected, found = smoke_plan("one"), smoke_plan("killed")
    ours, theirs = (json.loads((plan.folder / "page" / "results.json").read_text()) for plan in (expected, found))
    assert comparable(ours) == comparable(theirs)
    assert ours["equal"] == {"17": True, "18": True}
    for node in expected.nodes:  # the weights, too: every export of an arm
        for name in set(node.arms) & {node.run.name}:
            files = [plan.model(name) / "model.safetensors" for plan in (expected, found)]
            assert files[0].read_bytes() == files[1].read_bytes(), name
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "recompute_experiment.py", found.folder],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
