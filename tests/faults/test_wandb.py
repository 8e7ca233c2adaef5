"""Row 23: Weights & Biases without network, segments of one run, copied run folders."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from detour.train import train
from detour.training.loggers import wandb as wandb_logger
from detour.training.run_folder import RunFolder
from tests.faults.short_runs import LONGER, SHORT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def wandb_key(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("WANDB") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@contextmanager
def deaf_server() -> Iterator[str]:
    """Takes connections and never answers, as a firewall that swallows what is sent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def half_deaf_server() -> Iterator[str]:
    """Answers a look at its front page, and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def do_POST(self):
            time.sleep(100)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.faults(23, "a key for Weights & Biases and no network: offline after a bounded wait, with a warning")
@pytest.mark.parametrize("server", [deaf_server, half_deaf_server])
def test_without_network_the_run_logs_offline(tiny_run, start, left, wandb_key, server):
    run = tiny_run(logging={"wandb_project": "test", "progress_bar": False}, **SHORT)
    limits = {"reach_seconds": 1, "init_seconds": 5}
    with server() as url:
        keys = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
        (child,) = start(run, fault=("impatient_wandb", *limits.values()), **keys)
        assert child.code(250) == 0, child.text()
    assert "logging offline into" in child.text()
    assert list((left(run).folder / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.faults(23, "Weights & Biases falls silent after its first answer")
def test_a_failed_start_of_weights_and_biases_is_followed_by_an_offline_one(tiny_run, wandb_key, monkeypatch, caplog):
    import wandb

    start_wandb, modes = wandb.init, []

    def fail_online(**options):
        modes.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("Run initialization has timed out after 60.0 sec.")
        return start_wandb(**options)

    monkeypatch.setattr(wandb, "init", fail_online)
    monkeypatch.setattr(wandb_logger, "unreachable", lambda *_, **__: None)
    run = tiny_run(logging={"wandb_project": "test", "progress_bar": False}, **SHORT)
    train(run)
    assert modes == ["online", "offline"]
    assert "Run initialization has timed out" in caplog.text
    assert len(list((RunFolder.of(run).path / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_a_name_that_cannot_be_looked_up_is_no_answer(monkeypatch):
    asked = threading.Event()

    def hang(*_, **__):
        asked.set()
        time.sleep(30)

    monkeypatch.setattr("urllib.request.urlopen", hang)
    began = time.monotonic()
    assert wandb_logger.unreachable("https://nowhere.invalid", seconds=0.2) == "no answer within 0.2 seconds"
    assert asked.is_set()
    assert time.monotonic() - began < 10


@pytest.mark.faults(23, "offline segments of one run: each has an id of its own, so that no upload replaces another")
def test_offline_segments_do_not_share_an_id(tiny_run, start, left, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tiny_run(
        checkpoint={"interval_tokens": 1}, logging={"wandb_project": "test", "progress_bar": False}, **LONGER
    )
    for batch in (2, 2):  # it dies twice at the same place
        (child,) = start(run, fault=("signal_at", batch, signal.SIGKILL, 0), WANDB_MODE="offline", WANDB_SILENT="true")
        assert child.code() == -signal.SIGKILL
        shutil.rmtree(left(run).folder / "checkpoints", ignore_errors=True)
    assert start(run, WANDB_MODE="offline", WANDB_SILENT="true")[0].code() == 0
    segments = list((left(run).folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(segments) == 3
    assert len({segment.name for segment in segments}) == 3
    drawn = json.loads((left(run).folder / "wandb_id").read_text())["id"]
    assert all(segment.name.startswith(f"run-{drawn}-0-") for segment in segments)


@pytest.mark.faults(23, "a copied run folder gets an id of its own at Weights & Biases; a moved one keeps it")
def test_a_copy_of_a_run_is_another_run_at_weights_and_biases(tmp_path, caplog):
    first = RunFolder(tmp_path / "first")
    first.path.mkdir()
    drawn = first.wandb_id()
    shutil.copytree(first.path, tmp_path / "copy")
    copy = RunFolder(tmp_path / "copy")
    assert copy.wandb_id() not in (drawn, "")
    assert copy.wandb_id() == copy.wandb_id()
    assert "is a copy of" in caplog.text
    assert first.wandb_id() == drawn
    first.path.rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    assert moved.wandb_id() == drawn
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert RunFolder(tmp_path / "link").wandb_id() == drawn
    (moved.path / "wandb_id").write_text("{")
    assert moved.wandb_id() not in ("", drawn)
