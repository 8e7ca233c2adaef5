"""Row 16: a loader process that dies, raises or falls silent ends the run within its time-out."""

from __future__ import annotations

import http.server
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(200)


@pytest.mark.faults(16, "a loader process is killed, or stopped for good: an error in time, and the command goes on")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_loader_process_that_dies_or_falls_silent_ends_the_run_in_time(tiny_run, start, left, number):
    run = tiny_run(data={"workers": 2, "timeout_seconds": 2}, checkpoint={"interval_tokens": 1})
    (child,) = start(run, fault=("signal_workers", 1, number))
    assert child.code(30) == 1
    assert "error: data.train: a loader process died, or sent no batch for 2 seconds" in child.text()
    assert left(run).saved
    assert start(run)[0].code() == 0


@pytest.mark.faults(16, "reading falls silent, in a loader process or in the training process itself")
@pytest.mark.parametrize("workers", [0, 2])
def test_reading_that_falls_silent_ends_the_run_in_time(tiny_run, start, workers):
    run = tiny_run(data={"workers": workers, "timeout_seconds": 1})
    (child,) = start(run, fault=("silent_rows", 10))
    assert child.code(30) == 1
    assert "error: data.train: a loader process died, or sent no batch for 1 seconds" in child.text()


@pytest.mark.faults(16, "reading of held-out rows falls silent, at the start and in mid-run")
@pytest.mark.parametrize("rows", [1, 9])
def test_an_evaluation_that_falls_silent_ends_the_run_in_time(tiny_run, start, rows):
    run = tiny_run(data={"workers": 1, "timeout_seconds": 2}, evaluation={"rows": 4, "interval_tokens": 1})
    (child,) = start(run, fault=("silent_rows", rows, False))
    assert child.code(60) == 1
    assert "error: data.validation: a loader process died, or sent no batch for 2 seconds" in child.text()


@pytest.mark.faults(16, "a remote that stalls: at the start, and at a shard in mid-run; it sends a byte now and then")
@pytest.mark.parametrize("name", ["manifest.json", "index.json", "shard.00000.mds"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_remote_that_stalls_ends_the_run_in_time(tiny_run, start, corpus, tmp_path, name, workers):
    with stalling(corpus.train, name) as address:
        train = [{"path": str(tmp_path / "cache"), "remote": address}]
        (child,) = start(tiny_run(data={"workers": workers, "timeout_seconds": 2, "train": train}))
        assert child.code(60) == 1
    text = child.text()
    silent = "data.train: a loader process died, or sent no batch for 2 seconds" in text and "shard" in name
    assert silent or f"error: {address}/{name}: cannot be fetched: not complete after 2 seconds" in text


@contextmanager
def stalling(folder: Path, name: str) -> Iterator[str]:
    """The address of a server of the folder that sends one of its files a byte a second."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            if self.path.endswith(name):
                for _ in range(60):
                    outputfile.write(source.read(1))
                    outputfile.flush()
                    time.sleep(1)
            super().copyfile(source, outputfile)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.daemon_threads = True
        server.block_on_close = False
        server.handle_error = lambda *_: None  # the client hangs up
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.faults(16, "on one of two processes: both end")
def test_the_other_process_ends_too(tiny_run, start):
    run = tiny_run(data={"workers": 1, "timeout_seconds": 2})
    children = start(run, fault=("signal_workers", 1, signal.SIGKILL), processes=2)
    assert [child.code(60) for child in children] == [1, 1]


@pytest.mark.faults(16, "a shard vanishes while a loader process reads")
def test_an_error_of_a_loader_process_names_its_file(tiny_run, start, corpus, tmp_path):
    rows = tmp_path / "rows"
    shutil.copytree(corpus.train, rows)
    run = tiny_run(data={"workers": 1, "train": [{"path": str(rows)}]})
    (child,) = start(run, fault=("lose_shards", 1, str(rows)))
    assert child.code(60) == 1
    assert "shard.00000.mds" in child.text()


@pytest.mark.faults(16, "SIGKILL of the run while its loader processes live: the same command starts at once")
def test_loader_processes_that_outlive_a_killed_run_do_not_hold_its_folder(tiny_run, start):
    run = tiny_run(data={"workers": 1}, checkpoint={"interval_tokens": 1})
    (child,) = start(run, fault=("signal_at", 6, signal.SIGKILL, 0))
    assert child.code() == -signal.SIGKILL
    assert start(run)[0].code() == 0
