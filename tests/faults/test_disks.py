"""Rows 21 to 26: disks without locks or deletion, edited checkpoints, Weights & Biases without network, refusals."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.server
import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from detour import files
from detour.build import build_trainer, close
from detour.cli.main import main
from detour.config.load import to_yaml
from detour.errors import CheckpointError, DataError, TrainingError
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.loggers import wandb as wandb_logger
from detour.training.run_folder import FORMAT, RunFolder, run_record

pytestmark = pytest.mark.timeout(300)
EACH_STEP = {"interval_tokens": 1, "keep": 1}
SHORT = {
    "phases": [{"name": "p", "objective": "mlm", "tokens": 700}],
    "schedule": {"decay_phase": None, "warmup_tokens": 0},
    "data": {"validation": []},
}
LONGER = {**SHORT, "phases": [{"name": "p", "objective": "mlm", "tokens": 1500}]}


# --- 21: disks without locks ----------------------------------------------------------------------------------------


@pytest.mark.faults(21, "a network disk without file locks (ENOSYS, ENOLCK, ENOTSUP): warned of, and trained on")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_disk_without_locks_is_warned_of_and_used(tiny_run, start, number):
    run = tiny_run(**SHORT)
    (child,) = start(run, fault=("failing_locks", str(RunFolder.of(run).path), number))
    assert child.code() == 0
    assert f"{RunFolder.of(run).path}/.lock: cannot be locked ({os.strerror(number)})" in child.text()


@pytest.mark.faults(21, "a lock that fails otherwise is told as what it is, and a held one as held")
@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EIO, TrainingError, "Input/output error"),
        (errno.EWOULDBLOCK, CheckpointError, "another process is training in this run folder"),
    ],
)
def test_only_a_held_lock_is_told_as_held(tiny_run, monkeypatch, number, error, message):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(error, match=message), RunFolder.of(tiny_run()).lock():
        pass


@pytest.mark.faults(21, "the lock of a preparation and that of a cache")
def test_the_other_locks_go_by_the_same_rule(tmp_path, monkeypatch, caplog):
    from detour.corpus.prepare import _exclusive

    def fail(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    with _exclusive(tmp_path / "out"), (tmp_path / "file").open("w") as file:
        assert files.try_lock(file)
    assert "No locks available" in caplog.text
    monkeypatch.setattr(fcntl, "flock", fail(errno.EAGAIN))
    with pytest.raises(DataError, match="by another process"), _exclusive(tmp_path / "out"):
        pass


@pytest.mark.faults(21, "a disk without hard links: the id at Weights & Biases is kept all the same")
def test_the_id_needs_no_hard_links(tiny_run, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    folder = RunFolder.of(tiny_run())
    folder.path.mkdir(parents=True)
    assert folder.wandb_id() == folder.wandb_id()
    assert [path.name for path in folder.path.iterdir()] == ["wandb_id"]


# --- 22: what cannot be deleted -------------------------------------------------------------------------------------


@pytest.mark.faults(22, "old checkpoints that cannot be deleted for a while (NFS): warned of, tried again, trained on")
def test_an_old_checkpoint_that_cannot_be_deleted_does_not_end_the_run(tiny_run, monkeypatch, caplog):
    remove, refusals = shutil.rmtree, []

    def busy(path, *rest, **options):
        if "tokens-" in str(path) and len(refusals) < 6:  # a file that is open elsewhere gets a name like this one
            refusals.append(path)
            (Path(path) / ".nfs0000001").touch()
            if options.get("ignore_errors"):
                return
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        remove(path, *rest, **options)

    monkeypatch.setattr(shutil, "rmtree", busy)
    run = tiny_run(checkpoint=EACH_STEP, **LONGER)
    with caplog.at_level(logging.WARNING):
        train(run)
    assert len(refusals) == 6
    lines = [
        record.getMessage() for record in caplog.records if "cannot delete an old checkpoint" in record.getMessage()
    ]
    assert lines
    assert len(lines) == len(set(lines)), "each is told once"
    assert "Device or resource busy" in lines[0]
    folder = RunFolder.of(run).checkpoints
    assert [path.name for path in folder.iterdir()] == [checkpoints.listing(folder)[-1].path.name]


def test_what_cannot_be_deleted_is_no_obstacle_to_a_later_save(tmp_path, monkeypatch):
    def save(tokens):
        return checkpoints.write(tmp_path, tokens=tokens, tensors={"model": {"w": torch.zeros(2)}}, state={})

    save(1)
    save(2)
    for name in (".writing-tokens-000000000000003", ".removing-tokens-000000000000001"):
        (tmp_path / name).mkdir()

    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert save(3).validate() is None
    left = checkpoints.prune(tmp_path, keep=1, boundaries=[], newest=3)
    assert len(left) == 4, "two from before, two of now"
    assert [c.tokens for c in checkpoints.listing(tmp_path)] == [3]
    monkeypatch.undo()
    assert checkpoints.prune(tmp_path, keep=1, boundaries=[], newest=3) == []
    assert [path.name for path in tmp_path.glob("*tokens*")] == ["tokens-000000000000003"]


@pytest.mark.faults(22, "a resumed run holds no file of the old checkpoint open, nor mapped")
def test_a_resumed_run_lets_go_of_the_checkpoint(tiny_run):
    train(tiny_run(**SHORT))
    trainer = build_trainer(tiny_run(**LONGER))
    maps = Path("/proc/self/maps").read_text()
    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    close(trainer)
    assert str(RunFolder.of(tiny_run()).checkpoints) not in maps
    assert not [path for path in opened if str(RunFolder.of(tiny_run()).checkpoints) in path]


# --- 23: Weights & Biases -------------------------------------------------------------------------------------------


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


# --- 24: checkpoints whose content does not fit ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of runs that were trained before, by what they train."""
    return tmp_path_factory.mktemp("trained"), {}


@pytest.fixture
def saved(tiny_run, trained):
    """The newest checkpoint of a short run, which `LONGER` continues; a copy where a test has trained the same before."""

    def make(**sections):
        run = tiny_run(**{**SHORT, **sections})
        (root, known), folder = trained, RunFolder.of(run)
        key = json.dumps(sections)
        if key not in known:
            train(run)
            known[key] = shutil.copytree(folder.path, root / str(len(known)), symlinks=True)
        elif not folder.path.exists():
            shutil.copytree(known[key], folder.path, symlinks=True)
        return checkpoints.listing(folder.checkpoints)[-1]

    return make


def rewrite(saved: checkpoints.Checkpoint, file: str, change) -> None:
    """Changes a file's content in place and makes the manifest fit."""
    path = saved.path / file
    if file.endswith(".json"):
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
    else:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(tensors)
        save_file(tensors, path)
    manifest = json.loads((saved.path / "manifest.json").read_text())
    data = path.read_bytes()
    manifest["files"][file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (saved.path / "manifest.json").write_text(json.dumps(manifest))


DENSE = "encoder.head.dense.weight"


def drop_half(moments):
    for name in [name for name in moments if "layers.1" in name or "layers.2" in name]:
        del moments[name]


TAMPERED = {
    "another shape": (lambda m: m.update({f"{DENSE}/exp_avg": torch.zeros(3)}), "is float32 \\[3\\], expected float32"),
    "a shape of as many numbers": (lambda m: m.update({f"{DENSE}/exp_avg": torch.zeros(1024)}), r"expected float32 \[32"),
    "another type": (lambda m: m.update({f"{DENSE}/exp_avg": m[f"{DENSE}/exp_avg"].half()}), "is float16"),
    "one is missing": (lambda m: m.pop(f"{DENSE}/exp_avg_sq"), f"{DENSE}/exp_avg_sq is missing"),
    "all of a parameter are missing": (lambda m: [m.pop(k) for k in list(m) if DENSE in k], f"{DENSE}/exp_avg is missing"),
    "half of them are missing": (drop_half, "is missing; .* more"),
    "none is there": (lambda m: m.clear(), "is missing; .* more"),
    "an unknown name": (lambda m: m.update({"encoder.head.other/exp_avg": torch.zeros(2)}), "other/exp_avg is unknown"),
    "moments of a parameter that never trained": (
        lambda m: m.update({"encoder.model.layers.0.attn.Wqkv.weight/exp_avg": torch.zeros(96, 32)}), "is unknown"
    ),
}  # fmt: skip


@pytest.mark.faults(24, "moments of another name, shape or type, or missing in part, with fitting hashes")
@pytest.mark.parametrize("kind", TAMPERED)
def test_moments_that_do_not_fit_are_refused(tiny_run, saved, kind):
    change, message = TAMPERED[kind]
    frozen = {"phases": [{**SHORT["phases"][0], "freeze": {"layers": "0"}}]}
    rewrite(saved(**frozen), "optimizer.safetensors", change)
    longer = {**LONGER, "phases": [{**LONGER["phases"][0], "freeze": {"layers": "0"}}]}
    with pytest.raises(CheckpointError, match=message):
        train(tiny_run(**longer))


def change_at(path: str, value=None):
    *parents, last = path.split("/")

    def change(state):
        for key in parents:
            state = state[int(key) if key.isdecimal() else key]
        if value is None:
            del state[last]
        else:
            state[last] = value

    return change


STATES = {
    "no ledger": (change_at("callbacks/Ledger"), "Ledger missing"),
    "no switch": (change_at("callbacks/PhaseSwitch"), "PhaseSwitch missing"),
    "no fingerprint": (change_at("callbacks/Ledger/fingerprint"), "fingerprint missing"),
    "a fingerprint without its digest": (change_at("callbacks/Ledger/fingerprint/digest"), "fingerprint: not a record"),
    "no entries": (change_at("callbacks/Ledger/entries"), "entries missing"),
    "an entry without its tokens": (change_at("callbacks/Ledger/entries/0/tokens"), r"entries\[0\]\.tokens: missing"),
    "an entry of text": (
        change_at("callbacks/Ledger/entries/0/flops", "many"),
        r"entries\[0\]\.flops: 'many', expected float",
    ),
    "a ledger of fewer tokens": (change_at("callbacks/Ledger/entries/0/tokens", 7), "counts 7 tokens, but the clock"),
    "a callback of another program": (change_at("callbacks/Other", {}), "Other unknown"),
    "another place in the data": (change_at("dataset/sample_in_epoch", 1), "sample_in_epoch is 1, but the clock has"),
    "no place in the data": (change_at("dataset"), "'dataset'"),
    "another weight decay": (change_at("param_groups/0/weight_decay", 9.0), "weight_decay is 9.0, expected"),
    "losses of text": (change_at("callbacks/StepGuard/losses", {"mlm": ["a"]}), "TypeError"),
    "losses without an objective": (change_at("callbacks/StepGuard/losses", [1.0]), "expected a mapping of objectives"),
    "no clock": (change_at("timestamp"), "'timestamp'"),
}


@pytest.mark.faults(24, "a missing ledger, fingerprint or place in the data; counts that contradict the clock")
@pytest.mark.parametrize("kind", STATES)
def test_states_that_do_not_fit_are_refused(tiny_run, saved, kind):
    change, message = STATES[kind]
    rewrite(saved(), "state.json", change)
    with pytest.raises(CheckpointError, match=message):
        train(tiny_run(**LONGER))


def test_weights_of_another_type_are_refused(tiny_run, saved):
    def halve(weights):
        weights["head.dense.weight"] = weights["head.dense.weight"].bfloat16()

    rewrite(saved(), "model.safetensors", halve)
    with pytest.raises(CheckpointError, match=r"head\.dense\.weight is bfloat16"):
        train(tiny_run(**LONGER))


@pytest.mark.faults(24, "a checkpoint or record of a newer version: said so, and left alone")
def test_a_newer_format_is_refused_and_left_alone(tiny_run, saved):
    newest = saved(checkpoint={"interval_tokens": 1})
    before = checkpoints.listing(newest.path.parent)
    path = newest.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": checkpoints.FORMAT + 1}))
    with pytest.raises(CheckpointError, match=r"format 2, which a newer version of detour wrote"):
        train(tiny_run(**LONGER))
    assert checkpoints.listing(newest.path.parent) == before
    path.write_text(json.dumps(manifest))
    rewrite(newest, "state.json", change_at("run/format", FORMAT + 1))
    with pytest.raises(CheckpointError, match=r"record has format 2, which a newer version"):
        train(tiny_run(**LONGER))
    rewrite(newest, "state.json", change_at("run/format"))  # of before there was a number
    train(tiny_run(**LONGER))


def test_the_record_of_a_run_has_its_format(tiny_run):
    assert run_record(tiny_run(), tokenizer="t")["format"] == FORMAT


def test_what_the_moments_are_compared_with_is_what_torch_says_of_frozen_and_reset_phases(tiny_run):
    """Frozen in every phase since the last reset: no moments. The expected names come from torch's own state."""
    frozen = {"layers": "0", "embeddings": True}
    phases = [
        {"name": "a", "objective": "mlm", "tokens": 600},
        {"name": "b", "objective": "clm", "tokens": 600, "freeze": frozen, "optimizer_state": "reset"},
        {"name": "c", "objective": "mlm", "tokens": 600, "freeze": frozen},
    ]
    run = tiny_run(phases=phases, schedule={"decay_phase": None, "warmup_tokens": 0}, data={"validation": []})
    train(run)
    optimizer = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].tensors("optimizer")
    assert not [name for name in optimizer if "layers.0." in name or "embeddings" in name]
    longer = tiny_run(
        phases=[*phases[:2], {**phases[2], "tokens": 1200}], schedule=vars(run.schedule), data={"validation": []}
    )
    trainer = build_trainer(longer)
    held = {id(parameter) for parameter in trainer.state.optimizers[0].state}
    names = {name for name, parameter in trainer.state.model.named_parameters() if id(parameter) in held}
    close(trainer)
    assert names == {name.rsplit("/", 1)[0] for name in optimizer if not name.startswith("#")}


# --- 25: refusals of the system -------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def to_file(run) -> str:
        path = tmp_path / f"{run.name[:20]}.yaml"
        path.write_text(to_yaml(run))
        return str(path)

    return to_file


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mounts the folder over itself, so that nothing can be written there, not even by root."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def error_of(capsys, *arguments: str) -> str:
    """The one line on stderr that the command ends with; no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert exit.value.code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


READ_ONLY = os.strerror(errno.EROFS)


@pytest.mark.faults(25, "read-only folders: train, export, report, tokenizer; a complete run is complete there too")
def test_read_only_folders_are_one_sentence(tiny_run, write, capsys, caplog, tmp_path):
    run, config = tiny_run(**SHORT), write(tiny_run(**SHORT))
    train(run)
    folder, locked = RunFolder.of(run).path, tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "text.txt").write_text("one case, another case\n" * 30)
    with read_only(Path(run.folder)), read_only(locked):
        capsys.readouterr()
        assert code_of("train", config) == 0
        assert sum(f"{folder} is complete" in record.getMessage() for record in caplog.records) == 1
        line = error_of(capsys, "train", config, "phases.0.tokens=1500")
        assert str(folder) in line
        assert READ_ONLY in line
        line = error_of(capsys, "train", config, "name=other")
        assert READ_ONLY in line
        assert READ_ONLY in error_of(capsys, "report", str(folder))
        assert READ_ONLY in error_of(capsys, "export", str(folder), "--out", str(locked / "out"))
        assert READ_ONLY in error_of(capsys, "export", str(folder), "--out", str(locked))
        line = error_of(
            capsys,
            "data",
            "tokenizer",
            "train",
            str(tmp_path / "text.txt"),
            "--out",
            str(locked / "t"),
            "--vocab-size",
            "300",
        )
        assert READ_ONLY in line


@pytest.mark.faults(25, "a full disk under a report, an export and a tokenizer")
def test_full_disks_are_one_sentence(tiny_run, capsys, tmp_path):
    run = tiny_run(**SHORT)
    train(run)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        (tmp_path / "text.txt").write_text("one case, another case\n" * 30)
        folder, text = str(RunFolder.of(run).path), str(tmp_path / "text.txt")
        for command in (
            ["report", folder, "--out", str(disk / "r")],
            ["export", folder, "--out", str(disk / "e")],
            ["data", "tokenizer", "train", text, "--out", str(disk / "t"), "--vocab-size", "300"],
        ):
            line = error_of(capsys, *command)
            assert str(disk) in line
            assert os.strerror(errno.ENOSPC) in line
            for left in disk.iterdir():
                shutil.rmtree(left)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.faults(25, "a run folder that is a file or a broken link; names of 300 characters; a folder too deep")
def test_a_run_folder_that_cannot_be_one_is_one_sentence(tiny_run, write, capsys, tmp_path):
    config = write(tiny_run(**SHORT))
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "file").write_text("")
    (runs / "broken").symlink_to(tmp_path / "nowhere" / "at" / "all")
    for name in ("file", "broken"):
        assert f"{runs / name}: is not a folder" in error_of(capsys, "train", config, f"name={name}")
    assert "is 300 bytes long, expected at most 200" in error_of(capsys, "train", config, f"name={'x' * 300}")
    line = error_of(capsys, "train", config, f"folder={tmp_path}/{'/'.join(['y' * 200] * 30)}")
    assert os.strerror(errno.ENAMETOOLONG) in line
    assert "holds the character U+0009" in error_of(capsys, "train", config, 'name="a\\tb"')


@pytest.mark.faults(25, "too few file descriptors: an error that says so")
def test_too_few_file_descriptors_are_one_sentence(tiny_run, start):
    (child,) = start(tiny_run(data={"workers": 2, **SHORT["data"]}), fault=("few_descriptors", 40))
    assert child.code() == 1
    assert os.strerror(errno.EMFILE) in child.text()
    assert "ulimit -n" in child.text()
    assert "\nerror: " in f"\n{child.text()}"


def test_a_circular_chain_of_causes_is_followed_once():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert files.starved(one) is None
    other.__cause__ = OSError(errno.EMFILE, "too many")
    assert os.strerror(errno.EMFILE) in (files.starved(one) or "")


@pytest.mark.faults(25, "a launcher's variables that do not fit together")
@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2"},
        {"RANK": "one", "WORLD_SIZE": "2"},
        {"LOCAL_RANK": "1"},
        {"RANK": "0", "WORLD_SIZE": "0"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},  # and no address
    ],
    ids=str,
)
def test_ranks_that_do_not_fit_together_are_refused(tiny_run, write, capsys, monkeypatch, environment):
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    line = error_of(capsys, "train", write(tiny_run(**SHORT)))
    assert "error: environment: " in line
    assert "as a launcher sets them" in line


def test_an_export_into_the_current_empty_folder_works(tiny_run, capsys, tmp_path, monkeypatch):
    run = tiny_run(**SHORT)
    train(run)
    out = tmp_path / "here"
    out.mkdir()
    monkeypatch.chdir(out)
    assert code_of("export", str(RunFolder.of(run).path), "--out", "./") == 0
    assert (Path.cwd() / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.glob(".writing*")] == []


def test_homes_are_expanded_wherever_a_path_is_given(tiny_run, write, capsys, tmp_path, monkeypatch, corpus):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows").symlink_to(corpus.train)
    config = Path(write(tiny_run(**SHORT)))
    config.write_text(config.read_text().replace(str(corpus.train), "~/rows").replace(str(tmp_path / "runs"), "~/runs"))
    assert code_of("train", "~/run.yaml") == 0
    assert (tmp_path / "runs" / "run" / "checkpoints").is_dir()
    assert code_of("train", str(config), "folder=~/more") == 0
    assert (tmp_path / "more" / "run" / "checkpoints").is_dir()
    assert code_of("report", "~/runs/run", "--out=~/page") == 0
    assert (tmp_path / "page" / "index.html").is_file()


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
