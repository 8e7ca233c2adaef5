"""Rows 26 and 27: what killed runs leave in shared memory, and a shared memory that is too small."""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from detour.errors import DataError
from detour.train import train
from tests.faults.short_runs import SHORT

pytestmark = pytest.mark.timeout(300)


# --- 26: shared memory ----------------------------------------------------------------------------------------------


def claims_of(folder: Path) -> list[Path]:
    """Shared memory of datasets over this folder of rows."""
    found = []
    for claim in Path("/dev/shm").glob("*_locals"):
        try:
            if str(folder).encode() in claim.read_bytes():
                found.append(claim)
        except OSError:  # another test's, gone in the meantime
            continue
    return found


def in_use(claim: Path) -> bool:
    """Whether a process holds the lock on what marks it, by util-linux's own tool."""
    mark = claim.with_name(f"detour-{os.getuid()}-{claim.name.split('_')[0]}.claim")
    return bool(subprocess.run(["flock", "--nonblock", mark, "true"]).returncode)


def holders(claims: list[Path]) -> list[str]:
    """The processes that have the mark of a claim open, with their parents."""
    marks = {str(claim.with_name(f"detour-{os.getuid()}-{claim.name.split('_')[0]}.claim")) for claim in claims}
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) in marks:
                process = link.parents[1]
                parent = re.search(r"^PPid:\t(.*)$", (process / "status").read_text(), re.MULTILINE)
                found.append(f"{process.name}: {(process / 'cmdline').read_text()!r}, parent {parent and parent[1]}")
    return found


@pytest.mark.alone  # the start of any other run would remove it
@pytest.mark.faults(
    26, "shared memory of runs on local rows that were killed: removed at the next start, none in use touched"
)
def test_shared_memory_of_killed_runs_is_removed_and_that_of_living_ones_is_not(tiny_run, start, corpus, tmp_path):
    def rows_of(name: str) -> Path:
        shutil.copytree(corpus.train, tmp_path / name)
        return tmp_path / name

    dead, living, last = (rows_of(name) for name in ("dead", "living", "last"))
    data = {"validation": [], "workers": 1}
    endless = {**SHORT, "phases": [{"name": "p", "objective": "mlm", "tokens": 10**12}]}
    (lives,) = start(tiny_run("living", **{**endless, "data": {**data, "train": [{"path": str(living)}]}}))
    wait_until(lambda: claims_of(living))
    for attempt in range(2):
        run = tiny_run("dead", **{**SHORT, "data": {**data, "train": [{"path": str(dead)}]}})
        (child,) = start(run, fault=("kill_all", 1))
        assert child.code() == -signal.SIGKILL
        try:
            wait_until(lambda: not any(in_use(claim) for claim in claims_of(dead)), 60)  # its loader process dies too
        except AssertionError:
            pytest.fail(f"still in use: {claims_of(dead)}, by {holders(claims_of(dead))}")
        assert len(claims_of(dead)) == 1, f"after {attempt + 1}: the one before was removed"
    (stays,) = claims_of(living)
    (left,) = claims_of(dead)
    beside = list(left.parent.glob(left.name.replace("locals", "*")))
    assert len(beside) > 3
    (child,) = start(tiny_run("last", **{**SHORT, "data": {**data, "train": [{"path": str(last)}]}}))
    assert child.code() == 0
    assert not [path for path in beside if path.exists()]
    assert claims_of(living) == [stays]
    assert lives.wait(0.01) is None
    os.kill(lives.pid, signal.SIGTERM)
    assert lives.code() == 75
    assert claims_of(living) == claims_of(last) == []


def test_shared_memory_that_another_program_took_over_is_not_touched(tmp_path):
    """It has the number of a dead run, whose files something else removed, and marks nothing."""
    from detour.data.shared_memory import _mark_of, sweep

    number = f"{random.Random(os.getpid()).randrange(700_000, 900_000):06}"
    theirs, mark = Path("/dev/shm") / f"{number}_locals", _mark_of(number)
    try:
        theirs.write_bytes(b"theirs")
        mark.write_text(f"{theirs.stat().st_ino + 1}\n")
        sweep()
        assert theirs.read_bytes() == b"theirs"
        assert not mark.exists()
        mark.write_text(f"{theirs.stat().st_ino}\n")
        with mark.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            sweep()
            assert theirs.exists()
        sweep()
        assert not theirs.exists()
    finally:
        for path in (theirs, mark):
            path.unlink(missing_ok=True)


@pytest.mark.faults(26, "a file that one killed process of several left, when the first file and the mark are gone")
def test_shared_memory_without_its_first_file_is_removed_and_the_number_is_free_again():
    from detour.data.shared_memory import SHM, sweep

    orphan, own = SHM / "987654_resume", [SHM / "987653_locals", SHM / "987653_resume"]
    try:
        for path in (orphan, *own):
            path.write_bytes(b"{}")
        sweep()
        assert not orphan.exists()
        assert all(path.exists() for path in own)  # of another program, which may be alive
    finally:
        for path in (orphan, *own):
            path.unlink(missing_ok=True)


@pytest.mark.faults(
    26, "a run ends while two processes of another look for a free number of shared memory: they take one"
)
def test_processes_that_find_different_numbers_take_that_of_the_first(tiny_run, start):
    children = start(tiny_run(**SHORT), fault=("another_number", 1), processes=2)
    assert [child.code() for child in children] == [0, 0], children[1].text()[-3000:]


def wait_until(condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- 27: shared memory ----------------------------------------------------------------------------------------------


@pytest.mark.faults(27, "a /dev/shm that is too small or full: refused at the start with what is free and needed")
@pytest.mark.parametrize("size", ["64k", "1m"])
def test_a_small_shared_memory_is_refused_before_it_kills_the_run(tiny_run, tmp_path, monkeypatch, size):
    """Beyond its end the kernel sends SIGBUS. Here a real disk of that size is asked; a full one for the second size."""
    disk = tmp_path / "shm"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        if size == "1m":
            (disk / "of-another").write_bytes(bytes(1 << 20))
        monkeypatch.setattr("detour.data.shared_memory.SHM", disk)
        free = "65.5kB" if size == "64k" else "0B"
        with pytest.raises(DataError, match=rf"shm: {free} free, expected at least .*--shm-size"):
            train(tiny_run(**SHORT))
    finally:
        subprocess.run(["umount", disk], check=True)
