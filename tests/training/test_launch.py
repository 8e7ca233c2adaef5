"""What the environment must allow before a run starts. The ranks: tests/faults/test_refusals.py."""

from __future__ import annotations

import os
import tempfile
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from detour.build import find_start
from detour.errors import ConfigError
from detour.train import train
from detour.training.launch import check_temporary_folder


@pytest.fixture
def folder(monkeypatch):
    """A function that makes a folder whose path has a number of bytes the one for temporary files."""
    root = Path(tempfile.mkdtemp(prefix="x", dir="/tmp"))

    def make(length: int) -> Path:
        fill = length - len(os.fsencode(root)) - 1
        path = root / ("é" * (fill // 2) + "x" * (fill % 2))
        path.mkdir()
        assert len(os.fsencode(path)) == length
        monkeypatch.setenv("TMPDIR", str(path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return path

    yield make
    for path in root.iterdir():
        path.rmdir()
    root.rmdir()


@pytest.mark.parametrize(("length", "fits"), [(75, True), (76, False)])
def test_a_folder_is_refused_from_the_length_at_which_a_socket_cannot_be_made(folder, length, fits):
    """The kernel decides; the names are as long as those that multiprocessing draws."""
    within = Path(tempfile.mkdtemp(prefix="pymp-", dir=folder(length)))
    try:
        Listener(tempfile.mktemp(prefix="listener-", dir=within), "AF_UNIX").close()
        made = True
    except OSError:  # "AF_UNIX path too long"
        made = False
    within.rmdir()
    assert made == fits
    if fits:
        check_temporary_folder(2)
    else:
        with pytest.raises(ConfigError, match=r"TMPDIR: /tmp/x.* has 76 bytes, expected at most 75.*data.workers to 0"):
            check_temporary_folder(2)


def test_a_run_with_loader_processes_says_so_at_its_start(tiny_run, folder):
    run = tiny_run(data={"workers": 1})
    folder(100)
    with pytest.raises(ConfigError, match=r"TMPDIR.* has 100 bytes, expected at most 75"):
        train(run)


def test_a_run_without_loader_processes_needs_no_short_folder(tiny_run, folder):
    run = tiny_run()
    folder(100)
    find_start(run)
