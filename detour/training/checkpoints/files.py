"""Checkpoints on disk: safetensors and JSON, nothing pickled, complete or invisible, hashed.

A checkpoint is a folder named after its place on the token clock. It is written aside, flushed, and renamed into
place last, so a folder that bears such a name is whole; its manifest holds the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from detour.errors import CheckpointError, ConfigError, DataError
from detour.training.run_folder import check_record

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # of a checkpoint's files; raised whenever an older version would misread them
_NAME = re.compile(r"tokens-(\d{15})")
MANIFEST = "manifest.json"
STATE = "state.json"


def load_file(path: Path) -> dict[str, Tensor]:
    """`safetensors.torch.load_file`, imported when it is called: the plain values alone are read without torch."""
    from safetensors import torch as safetensors_torch

    return safetensors_torch.load_file(path)


def save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """`safetensors.torch.save_file`, imported when it is called."""
    from safetensors import torch as safetensors_torch

    safetensors_torch.save_file(tensors, path)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk.

    Attributes:
        path: Its folder.
        tokens: Tokens seen when it was written.
    """

    path: Path
    tokens: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        """One of its tensor files (``model``, ``optimizer``, ``rng``), on the CPU. Raises CheckpointError.

        The tensors have memory of their own: as a mapping of the file they would keep a deleted checkpoint on the disk,
        and on a network disk its folder could not be deleted. Cost: the file's size once more while it is read.
        """
        path = self.path / f"{name}.safetensors"
        try:
            return {key: tensor.clone() for key, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error

    def state(self) -> dict[str, Any]:
        """Its plain values. Raises CheckpointError if they are unreadable or a newer version's."""
        try:
            state = json.loads((self.path / STATE).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path / STATE}: cannot be read ({error})") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.path / STATE}: expected a mapping")
        if "run" in state:
            check_record(state["run"], self.path / STATE)
        return state

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """For code that takes its content apart, which is whole but may be another version's, or made up.

        Raises:
            CheckpointError: In place of whatever that code raises when the content is not what it expects.
        """
        try:
            yield
        except CheckpointError:
            raise
        except (
            LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, DataError, ConfigError,
        ) as error:  # fmt: skip
            raise CheckpointError(
                f"{self.path}: does not hold what a checkpoint of this version holds ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:600]})"
            ) from error

    def problem(self) -> str | None:
        """What is wrong with it, hashing every file; None if nothing.

        Raises:
            CheckpointError: The disk refuses to read it, or a newer version wrote it. That is no damage: passing it over
                would let a later save delete it.
        """
        try:
            manifest = json.loads((self.path / MANIFEST).read_text())
            if unknown := manifest.keys() - {"format", "files"}:
                return f"{MANIFEST} has an unknown key, {min(unknown)!r}"
            found = manifest.get("format", 1)  # there was no number at first
            if type(found) is not int or found < 1:
                return f"{MANIFEST} has format {found!r}"
            if found > FORMAT:
                raise CheckpointError(
                    f"{self.path}: has format {found}, which a newer version of detour wrote; this one reads up to {FORMAT}"
                )
            files: dict[str, dict[str, Any]] = manifest["files"]
            for name, expected in files.items():
                path = self.path / name
                if path.parent != self.path or not path.is_file():
                    return f"{name} is missing"
                if path.stat().st_size != expected["bytes"] or _sha256(path) != expected["sha256"]:
                    return f"{name} differs from its SHA-256 in {MANIFEST}"
            unhashed = {path.name for path in self.path.glob("*.safetensors")} - files.keys()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be read ({error}); nothing was changed, try again when the disk answers"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        if not {"model.safetensors", STATE} <= files.keys():
            return f"{MANIFEST} lists no model or state"
        return f"{min(unhashed)} is not in {MANIFEST}" if unhashed else None


def write(
    folder: Path, *, tokens: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Checkpoint:
    """Writes a checkpoint under ``folder``; if anything fails, no folder with a checkpoint's name appears.

    Args:
        folder: Holds all checkpoints of a run.
        tokens: PhaseSpan on the clock; names the folder. One that is already there is replaced.
        tensors: File name (without suffix) to named tensors.
        state: Plain values, JSON.
    """
    final = folder / f"tokens-{tokens:015d}"
    aside = _free(final, "writing")
    aside.mkdir(parents=True)
    for name, named in tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in named.items()}, aside / f"{name}.safetensors")
    (aside / STATE).write_text(json.dumps(state, indent=1))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(aside.iterdir())}
    (aside / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    for path in [*aside.iterdir(), aside]:
        _flush(path)
    replaced = _set_aside(final)
    os.replace(aside, final)
    for changed in (folder, folder.parent):  # the folder itself may be new
        _flush(changed)
    if replaced is not None:
        _delete(replaced)
    return Checkpoint(final, tokens)


def listing(folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run, oldest first; what was left half-written is not among them."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("tokens-*"))
    return sorted((Checkpoint(path, int(match[1])) for match, path in found if match), key=lambda c: c.tokens)


def newest_valid(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose hashes are right, and a line for each newer one that had to be passed over.

    Raises:
        CheckpointError: There are checkpoints and all are damaged; starting over silently would lose the run.
    """
    passed_over: list[str] = []
    for checkpoint in reversed(listing(folder)):
        problem = checkpoint.problem()
        if problem is None:
            return checkpoint, passed_over
        passed_over.append(f"{checkpoint.path}: {problem}")
    if passed_over:
        raise CheckpointError("no checkpoint of this run is whole:\n  " + "\n  ".join(passed_over))
    return None, []


def prune(folder: Path, *, keep: int, boundaries: Sequence[int], newest: int) -> list[str]:
    """Removes all but the newest ``keep`` checkpoints and the first one at or past each phase boundary.

    What an earlier process left half-written or half-deleted goes too. This is tidying: what cannot be deleted, such as
    a file that another machine holds open on a network disk, is tried again by the next call.

    Returns:
        A line for each folder that could not be deleted.
    """
    everything = listing(folder)
    found = [c for c in everything if c.tokens <= newest]
    unwanted = everything[len(found) :]  # damaged ones that a resume passed over
    ends = {next((c.tokens for c in found if c.tokens >= boundary), None) for boundary in boundaries}
    unwanted += [checkpoint for checkpoint in found[:-keep] if checkpoint.tokens not in ends]
    problems = []
    for checkpoint in unwanted:
        try:
            if (aside := _set_aside(checkpoint.path)) is not None:
                _delete(aside)
        except OSError as error:
            problems.append(f"{checkpoint.path}: {error.strerror or error}")
    problems += [problem for left in sorted(folder.glob(".*-tokens-*")) if (problem := _delete(left))]
    return problems


def _free(path: Path, doing: str) -> Path:
    """A hidden name beside a checkpoint that is not taken; what has it from an earlier process is deleted, if it can be."""
    aside = path.with_name(f".{doing}-{path.name}")
    number = 0
    while os.path.lexists(aside):
        if _delete(aside) is not None:
            number += 1
            aside = path.with_name(f".{doing}-{path.name}.{number}")
    return aside


def _set_aside(path: Path) -> Path | None:
    """Hides a checkpoint, if it is there, before it is deleted, so that none is ever seen half-deleted."""
    if not path.exists():
        return None
    aside = _free(path, "removing")
    os.replace(path, aside)
    return aside


def _delete(path: Path) -> str | None:
    """Deletes a hidden folder as far as it can be; a line if something of it is left."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)  # the rest of it
        return f"{path}: {error.strerror or error}" if os.path.lexists(path) else None
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Has the system put a file or a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
