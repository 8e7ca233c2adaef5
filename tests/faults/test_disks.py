"""Rows 21 and 22: disks without locks, and files that cannot be deleted."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from detour import files
from detour.build import build_trainer, close
from detour.errors import CheckpointError, DataError, TrainingError
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder
from tests.faults.short_runs import EACH_STEP, LONGER, SHORT

pytestmark = pytest.mark.timeout(300)


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
