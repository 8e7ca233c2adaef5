"""Checkpoints on disk: atomic, hashed, in safetensors and JSON; nothing is pickled.

A checkpoint is a folder named after its token count. It is written under a hidden name, flushed to disk, and renamed last,
so a folder with the name of a checkpoint is complete. Its manifest holds the SHA-256 of every file.
"""

from __future__ import annotations

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
from detour.files import flush, reason, sha256_of
from detour.training.run_folder import check_record

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # of the files of a checkpoint; raised when an older version would misread them
_NAME = re.compile(r"tokens-(\d{15})")
MANIFEST = "manifest.json"
STATE = "state.json"


def load_file(path: Path) -> dict[str, Tensor]:
    """`safetensors.torch.load_file`, imported lazily: reading only the plain values does not load torch."""
    from safetensors import torch as safetensors_torch

    return safetensors_torch.load_file(path)


def save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """`safetensors.torch.save_file`, imported lazily."""
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
        """The tensors of one file (``model``, ``objectives``, ``optimizer`` or ``rng``), on the CPU. Raises CheckpointError.

        They are copies: memory-mapped tensors would keep a deleted checkpoint on disk, and on a network disk would prevent
        its deletion. Cost: twice the size of the file while it is read.
        """
        path = self.path / f"{name}.safetensors"
        try:
            return {key: tensor.clone() for key, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error

    def state(self) -> dict[str, Any]:
        """The plain values. Raises CheckpointError if they cannot be read or were written by a newer version."""
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
        """Wraps code that uses the contents, which may be valid files of another version or program.

        Raises:
            CheckpointError: Instead of any error that unexpected contents cause in that code.
        """
        try:
            yield
        except CheckpointError:
            raise
        except (
            LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, DataError, ConfigError,
        ) as error:  # fmt: skip
            raise CheckpointError(
                f"{self.path}: the contents are not those of a checkpoint of this version ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:600]})"
            ) from error

    def validate(self) -> str | None:
        """Describes the damage to this checkpoint, or returns None if it is intact. Hashes every file.

        Raises:
            CheckpointError: The disk cannot be read, or a newer version wrote the checkpoint. Neither is damage; skipping
                the checkpoint would let a later save delete it.
        """
        try:
            manifest = json.loads((self.path / MANIFEST).read_text())
            if unknown := manifest.keys() - {"format", "files"}:
                return f"{MANIFEST} has an unknown key, {min(unknown)!r}"
            found = manifest.get("format", 1)  # the first drafts had no format number
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
                if path.stat().st_size != expected["bytes"] or sha256_of(path) != expected["sha256"]:
                    return f"{name} differs from its SHA-256 in {MANIFEST}"
            unhashed = {path.name for path in self.path.glob("*.safetensors")} - files.keys()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be read ({error}); nothing was changed, try again once the disk can be read"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        if not {"model.safetensors", STATE} <= files.keys():
            return f"{MANIFEST} lists no model or state"
        return f"{min(unhashed)} is not in {MANIFEST}" if unhashed else None


def write(
    folder: Path, *, tokens: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Checkpoint:
    """Writes a checkpoint atomically: if anything fails, no checkpoint appears.

    Args:
        folder: Checkpoint folder of the run.
        tokens: Tokens seen, which name the checkpoint. An existing checkpoint of that name is replaced.
        tensors: File name (without suffix) to named tensors.
        state: Plain values, as JSON.
    """
    final = folder / f"tokens-{tokens:015d}"
    hidden = _free(final, "writing")
    hidden.mkdir(parents=True)
    for name, named in tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in named.items()}, hidden / f"{name}.safetensors")
    (hidden / STATE).write_text(json.dumps(state, indent=1))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(hidden.iterdir())}
    (hidden / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    for path in [*hidden.iterdir(), hidden]:
        flush(path)
    replaced = _hide(final)
    os.replace(hidden, final)
    for changed in (folder, folder.parent):  # the checkpoint folder itself may be new
        flush(changed)
    if replaced is not None:
        _delete(replaced)
    return Checkpoint(final, tokens)


def listing(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints of a run, oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("tokens-*"))
    return sorted((Checkpoint(path, int(match[1])) for match, path in found if match), key=lambda c: c.tokens)


def newest_valid(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint, or None if there are no checkpoints, and one line per newer, damaged one.

    Raises:
        CheckpointError: All checkpoints are damaged; starting over silently would lose the run.
    """
    damaged: list[str] = []
    for checkpoint in reversed(listing(folder)):
        problem = checkpoint.validate()
        if problem is None:
            return checkpoint, damaged
        damaged.append(f"{checkpoint.path}: {problem}")
    if damaged:
        raise CheckpointError("all checkpoints of this run are damaged:\n  " + "\n  ".join(damaged))
    return None, []


def prune(folder: Path, *, keep: int, boundaries: Sequence[int], newest: int) -> list[str]:
    """Deletes all but the newest ``keep`` checkpoints and the first one at or past each phase boundary.

    Incomplete folders of earlier processes are deleted too. What cannot be deleted, such as a file that another machine
    holds open on a network disk, is left for the next call.

    Args:
        folder: Checkpoint folder of the run.
        keep: Number of newest checkpoints to keep.
        boundaries: Token counts at which phases end.
        newest: Tokens of the checkpoint just written. Later ones are damaged, since the resume skipped them; deleted.

    Returns:
        One line per folder that could not be deleted.
    """
    everything = listing(folder)
    found = [c for c in everything if c.tokens <= newest]
    unwanted = everything[len(found) :]  # damaged checkpoints that the resume skipped
    ends = {next((c.tokens for c in found if c.tokens >= boundary), None) for boundary in boundaries}
    unwanted += [checkpoint for checkpoint in found[:-keep] if checkpoint.tokens not in ends]
    problems = []
    for checkpoint in unwanted:
        try:
            if (hidden := _hide(checkpoint.path)) is not None:
                _delete(hidden)
        except OSError as error:
            problems.append(f"{checkpoint.path}: {reason(error)}")
    problems += [problem for leftover in sorted(folder.glob(".*-tokens-*")) if (problem := _delete(leftover))]
    return problems


def _free(path: Path, doing: str) -> Path:
    """An unused hidden name beside a checkpoint. A leftover of that name is deleted if possible."""
    hidden = path.with_name(f".{doing}-{path.name}")
    number = 0
    while os.path.lexists(hidden):
        if _delete(hidden) is not None:
            number += 1
            hidden = path.with_name(f".{doing}-{path.name}.{number}")
    return hidden


def _hide(path: Path) -> Path | None:
    """Renames a checkpoint, if it exists, to a hidden name, so that a partly deleted one is never visible."""
    if not path.exists():
        return None
    hidden = _free(path, "removing")
    os.replace(path, hidden)
    return hidden


def _delete(path: Path) -> str | None:
    """Deletes a hidden folder as far as possible. Returns one line if something is left."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)  # whatever else can be deleted
        return f"{path}: {reason(error)}" if os.path.lexists(path) else None
    return None
