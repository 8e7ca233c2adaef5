"""A checkpoint is whole or it is not there; damage is seen before anything is loaded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from detour.errors import CheckpointError
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.files import MANIFEST, Checkpoint, listing, newest_valid, prune, write

STATE = {"timestamp": {"token": 5, "wct": 0.1 + 0.2}, "name": "é\n", "list": [1, None, True, 2**60]}


def tensors(seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(3, 4, generator=generator)
    return {
        "model": {
            "a.weight": normal,
            "half": normal.bfloat16(),
            "scalar": torch.tensor(1.5),
            "none": torch.zeros(0, 3),
        },
        "optimizer": {"a.weight/step": torch.tensor(7.0), "a.weight/exp_avg": normal.T},  # not contiguous
        "rng": {"0/torch": torch.randint(0, 256, (16,), generator=generator).byte(), "0/numpy": torch.arange(9)},
    }


def save(folder: Path, tokens: int, seed: int = 0) -> Checkpoint:
    return write(folder, tokens=tokens, tensors=tensors(seed), state=STATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a run's checkpoints lie, and nothing else."""
    return tmp_path / "checkpoints"


def damage(checkpoint: Checkpoint, name: str = "model.safetensors") -> None:
    path = checkpoint.path / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def tokens_of(folder: Path) -> list[int]:
    return [checkpoint.tokens for checkpoint in listing(folder)]


# --- writing and reading --------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back_bit_for_bit(folder):
    special = {"odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])}
    saved = write(folder, tokens=5, tensors={**tensors(), "extra": special}, state=STATE)
    assert saved.validate() is None
    assert saved.state() == STATE
    for name, named in {**tensors(), "extra": special}.items():
        found = saved.tensors(name)
        assert found.keys() == named.keys()
        for key, tensor in named.items():
            assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape)
            raw = [x.contiguous().reshape(-1).view(torch.uint8) for x in (found[key], tensor)]
            assert torch.equal(*raw), key


def test_the_listing_is_in_the_order_of_tokens_and_of_whole_names_only(folder):
    for tokens in (20, 3, 100):
        save(folder, tokens)
    for name in ("tokens-7", "tokens-abc", ".writing-tokens-000000000000009", "tokens-0000000000000001"):
        (folder / name).mkdir()
    assert tokens_of(folder) == [3, 20, 100]
    assert tokens_of(folder / "absent") == []


def test_a_second_write_at_the_same_tokens_replaces_the_first(folder):
    save(folder, 5, seed=0)
    again = save(folder, 5, seed=1)
    assert torch.equal(again.tensors("model")["a.weight"], tensors(1)["model"]["a.weight"])
    assert again.validate() is None
    assert [path.name for path in folder.iterdir()] == [again.path.name]


# --- interrupted writes ---------------------------------------------------------------------------------------------


def calls_of_a_write(folder: Path) -> dict[str, int]:
    """How often a write calls each function that may fail."""
    counts = dict.fromkeys(STEPS, 0)
    with pytest.MonkeyPatch.context() as patch:
        for step in STEPS:
            owner, name = STEPS[step]
            original = getattr(owner, name)

            def counted(*args, _step=step, _original=original, **kwargs):
                counts[_step] += 1
                return _original(*args, **kwargs)

            patch.setattr(owner, name, counted)
        save(folder, 1)
    return counts


STEPS = {
    "save_file": (checkpoints, "save_file"),
    "write_text": (Path, "write_text"),
    "fsync": (os, "fsync"),
    "replace": (os, "replace"),
}
LEAST = {"save_file": 3, "write_text": 2, "fsync": 6, "replace": 1}  # the last fsync is of the parent, after the rename


@pytest.mark.parametrize(
    ("step", "nth"), [(step, nth) for step, least in LEAST.items() for nth in range(least)], ids=lambda x: str(x)
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_a_write_that_fails_anywhere_leaves_no_checkpoint_and_the_old_ones_whole(folder, monkeypatch, step, nth, error):
    assert calls_of_a_write(folder.with_name("counting"))[step] >= LEAST[step]
    old = [save(folder, tokens) for tokens in (1, 2)]
    owner, name = STEPS[step]
    original, left = getattr(owner, name), [nth]

    def failing(*args, **kwargs):
        if not left[0]:
            raise error
        left[0] -= 1
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(type(error)):
            save(folder, 3)
    assert tokens_of(folder) == [1, 2]
    assert [checkpoint.validate() for checkpoint in old] == [None, None]
    assert save(folder, 3).validate() is None  # what was left lying is no obstacle
    assert not list(folder.glob(".*"))


def test_a_checkpoint_is_on_disk_before_it_gets_its_name(folder, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("renamed"), replace(a, b)))
    saved = save(folder, 3)
    before, after = events[: events.index("renamed")], events[events.index("renamed") + 1 :]
    assert {Path(path).name for path in before} == {path.name for path in saved.path.iterdir()} | {
        f".writing-{saved.path.name}"
    }
    assert [Path(path) for path in after] == [folder, folder.parent]


def test_a_checkpoint_is_never_seen_half_deleted(folder, monkeypatch):
    for tokens in (1, 2, 3):
        save(folder, tokens)
    removed = shutil.rmtree

    def dies_half_way(path, *args, **kwargs):
        if Path(path).exists():
            (Path(path) / MANIFEST).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", dies_half_way)
    with pytest.raises(KeyboardInterrupt):
        prune(folder, keep=1, boundaries=[], newest=10**9)
    assert [checkpoint.validate() for checkpoint in listing(folder)] == [None] * 2
    monkeypatch.setattr(shutil, "rmtree", removed)
    prune(folder, keep=1, boundaries=[], newest=10**9)
    assert [path.name for path in folder.iterdir()] == [f"tokens-{3:015d}"]


# --- damage ---------------------------------------------------------------------------------------------------------

FILES = ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", MANIFEST]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_in_any_file_is_detected(folder, name):
    saved = save(folder, 5)
    assert sorted(path.name for path in saved.path.iterdir()) == sorted(FILES)
    path = saved.path / name
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert saved.validate() is not None, f"byte {at} of {name}"
    path.write_bytes(whole)
    assert saved.validate() is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    saved = save(folder, 5)
    (saved.path / name).unlink()
    assert name in (saved.validate() or "")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, -1])
def test_a_truncated_file_is_named(folder, name, length):
    saved = save(folder, 5)
    path = saved.path / name
    path.write_bytes(path.read_bytes()[:length])
    assert name in (saved.validate() or "")


@pytest.mark.parametrize(
    "name", ["../x", "../tokens-000000000000006/model.safetensors", "/etc/hostname", ".", "..", ""]
)
def test_a_manifest_that_names_a_file_elsewhere_is_refused(folder, name):
    save(folder, 6)
    (folder / "x").write_bytes(b"")
    saved = save(folder, 5)
    path = saved.path / MANIFEST
    manifest = json.loads(path.read_text())
    target = saved.path / name
    content = target.read_bytes() if target.is_file() else b""
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))
    assert saved.validate() == f"{name} is missing"


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"files": []}', '{"files": {}}', '{"files": {"state.json": 3}}', "null", "\x00"]
)
def test_a_manifest_of_another_form_is_a_problem_and_no_crash(folder, manifest):
    saved = save(folder, 5)
    (saved.path / MANIFEST).write_text(manifest)
    assert MANIFEST in (saved.validate() or "")


def test_a_manifest_must_list_model_and_state(folder):
    saved = save(folder, 5)
    path = saved.path / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["files"]["model.safetensors"]
    path.write_text(json.dumps(manifest))
    assert saved.validate() == f"{MANIFEST} lists no model or state"


# --- the newest that is whole ---------------------------------------------------------------------------------------


def test_the_newest_valid_checkpoint_is_found_without_a_word(folder):
    save(folder, 1)
    newest = save(folder, 2)
    assert newest_valid(folder) == (newest, [])


def test_damaged_checkpoints_are_passed_over_with_a_line_each(folder):
    first, second, third = (save(folder, tokens) for tokens in (1, 2, 3))
    damage(second)
    (third.path / "state.json").unlink()
    found, lines = newest_valid(folder)
    assert found == first
    assert [line.split(": ")[0] for line in lines] == [str(third.path), str(second.path)]
    assert "state.json is missing" in lines[0]
    assert "model.safetensors differs" in lines[1]


def test_an_older_damaged_checkpoint_is_not_looked_at(folder):
    damage(save(folder, 1))
    newest = save(folder, 2)
    assert newest_valid(folder) == (newest, [])


def test_when_all_are_damaged_it_raises_and_names_each(folder):
    for tokens in (1, 2):
        damage(save(folder, tokens))
    with pytest.raises(CheckpointError, match="all checkpoints of this run are damaged") as caught:
        newest_valid(folder)
    assert all(f"tokens-{tokens:015d}" in str(caught.value) for tokens in (1, 2))


@pytest.mark.parametrize("name", ["absent", "."])
def test_without_checkpoints_there_is_none_and_no_error(tmp_path, name):
    assert newest_valid(tmp_path / name) == (None, [])


# --- pruning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "boundaries", "left"),
    [
        (1, [], [60]),
        (2, [], [50, 60]),
        (99, [], [10, 20, 30, 40, 50, 60]),
        (1, [30], [30, 60]),  # saved at the boundary itself
        (1, [25, 60], [30, 60]),  # the first at or past the boundary ends the phase
        (2, [10, 45, 100], [10, 50, 60]),  # a boundary that is still to come keeps nothing
        (1, [11, 12], [20, 60]),
    ],
)
def test_the_newest_and_the_ends_of_phases_stay(folder, keep, boundaries, left):
    for tokens in range(10, 70, 10):
        save(folder, tokens)
    prune(folder, keep=keep, boundaries=boundaries, newest=10**9)
    assert tokens_of(folder) == left
    assert not list(folder.glob(".*"))


def test_pruning_clears_what_a_killed_process_left(folder):
    save(folder, 1)
    for name in (".writing-tokens-000000000000007", ".removing-tokens-000000000000003"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"half")
    prune(folder, keep=1, boundaries=[], newest=10**9)
    assert [path.name for path in folder.iterdir()] == [f"tokens-{1:015d}"]


def test_pruning_leaves_other_folders_alone(folder):
    (folder / "notes").mkdir(parents=True)
    save(folder, 1)
    save(folder, 2)
    prune(folder, keep=1, boundaries=[], newest=10**9)
    assert sorted(path.name for path in folder.iterdir()) == ["notes", f"tokens-{2:015d}"]


def test_pruning_after_a_fallback_removes_the_damaged_and_keeps_the_whole(tmp_path):
    for tokens in (10, 15, 20, 30):  # 20 and 30 were damaged; the run resumed from 10 and has just written 15
        write(tmp_path, tokens=tokens, tensors={"model": {"w": torch.zeros(1)}}, state={})
    prune(tmp_path, keep=2, boundaries=[], newest=15)
    assert [checkpoint.tokens for checkpoint in listing(tmp_path)] == [10, 15]


def test_a_file_that_the_manifest_does_not_vouch_for_is_not_loaded(folder):
    saved = save(folder, 5)
    manifest = json.loads((saved.path / MANIFEST).read_text())
    del manifest["files"]["optimizer.safetensors"]
    (saved.path / MANIFEST).write_text(json.dumps(manifest))
    assert saved.validate() == f"optimizer.safetensors is not in {MANIFEST}"


def test_a_disk_that_does_not_answer_is_no_damage(folder, monkeypatch):
    save(folder, 5)
    save(folder, 7)

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints, "sha256_of", fail)
    with pytest.raises(CheckpointError, match=r"tokens-0+7: cannot be read .*Input/output error.*nothing was changed"):
        newest_valid(folder)
