"""Row 25: what the system refuses is one sentence, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detour import files
from detour.cli.main import main
from detour.config.load import to_yaml
from detour.train import train
from detour.training.run_folder import RunFolder
from tests.faults.short_runs import SHORT

pytestmark = pytest.mark.timeout(300)


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
