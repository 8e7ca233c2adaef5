"""The run folder, and what a run remembers of itself: configuration, data, tokenizer, code and versions."""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import detour
from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.data.manifest import ShardManifest
from detour.errors import CheckpointError, TrainingError
from detour.files import naming, reason, try_lock
from detour.redact import redacted

log = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
FORMAT = 1  # of a run's record; raised whenever an older version would misread it


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its things: ``config.yaml``, ``environment.json``, ``metrics.jsonl``, ``checkpoints/``."""

    path: Path

    @staticmethod
    def of(run: RunConfig) -> RunFolder:
        return RunFolder(Path(run.folder) / run.name)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / METRICS

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; a second run in it would write over the first one's files.

        A disk without file locks is warned of and used all the same.

        Raises:
            CheckpointError: Another process holds it.
            TrainingError: There can be no such folder, or nothing can be written into it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        except OSError as error:
            odd = os.path.lexists(self.path) and not self.path.is_dir()
            raise TrainingError(
                f"{self.path}: {'is no folder' if odd else 'cannot be written'} ({reason(error)}), expected a run folder"
            ) from error
        with file:
            with naming(self.path, TrainingError):
                held = try_lock(file)
            if not held:
                raise CheckpointError(f"{self.path}: another process is training in this run folder")
            os.register_at_fork(
                after_in_child=file.close
            )  # loader processes, which may outlive this one, do not hold it
            yield

    def wandb_id(self) -> str:
        """The run's id at Weights & Biases: drawn once, kept in the folder, so that a resume continues its curves.

        A copy of the folder is another run and gets another id, or both would write over each other's curves. A folder
        counts as the same one at the same path, or where it was moved: then the system's number of it is the same.
        To be asked by one process. Raises TrainingError if the id cannot be kept.
        """
        path = self.path / "wandb_id"
        here = {"path": str(self.path.resolve()), "inode": self.path.stat().st_ino}
        try:
            kept = json.loads(path.read_text())
            drawn, origin = str(kept["id"]), {"path": kept["path"], "inode": kept["inode"]}
        except FileNotFoundError:
            drawn, origin = "", {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s: cannot be read (%s); the run gets a new id at Weights & Biases", path, error)
            drawn, origin = "", {}
        if origin and not any(origin[key] == here[key] for key in here):
            log.warning("%s: this folder is a copy of %s; it gets an id of its own", path, origin["path"])
            drawn = ""
        if drawn and origin == here:
            return drawn
        drawn = drawn or secrets.token_hex(4)
        aside = path.with_name(f".wandb_id-{os.getpid()}")
        with naming(path, TrainingError):
            aside.write_text(json.dumps({"id": drawn, **here}) + "\n")
            os.replace(aside, path)
        return drawn


def run_record(run: RunConfig, *, tokenizer: str) -> dict[str, Any]:
    """What identifies a run, for its checkpoints and its card: configuration, data, tokenizer, code, versions.

    Without secrets: what came from the environment is recorded by the variable's name.
    """
    folders = [*run.data.train, *run.data.validation]
    manifests = {stream.path: ShardManifest.load(Path(stream.path)) for stream in folders}
    return {
        "format": FORMAT,
        "config": redacted(json.loads(json.dumps(asdict(run)))),
        "tokenizer": tokenizer,
        "data": [[manifests[s.path].rows_sha256, s.proportion] for s in run.data.train],
        "sources": [redacted(asdict(source)) for s in run.data.train for source in manifests[s.path].sources],
        "environment": environment(),
    }


def check_record(record: Any, where: Path) -> None:
    """Refuses a run's record that a newer version wrote; one without a number is from before there were any.

    Raises:
        CheckpointError: It is newer, or no record.
    """
    found = record.get("format", FORMAT) if isinstance(record, Mapping) else record
    if type(found) is not int or found < 1:
        raise CheckpointError(f"{where}: the run's record has format {found!r}, expected a number from 1 on")
    if found > FORMAT:
        raise CheckpointError(
            f"{where}: the run's record has format {found}, which a newer version of detour wrote; this one reads up to {FORMAT}"
        )


def environment() -> dict[str, Any]:
    """Versions, machine and commit. Nothing personal, no paths, no environment variables."""
    packages = ("torch", "mosaicml", "mosaicml-streaming", "transformers", "numpy")
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None  # installed without its repository
    return {
        "detour": detour.__version__,
        "commit": commit,
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **{package: version(package) for package in packages},
    }


def write_run_files(run: RunConfig) -> None:
    """``config.yaml`` and ``environment.json`` in the run folder."""
    folder = RunFolder.of(run).path
    with naming(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {"config.yaml": to_yaml(run), "environment.json": json.dumps(environment(), indent=1) + "\n"}
    for name, text in texts.items():
        aside = folder / f".{name}.tmp"
        try:
            aside.write_text(text)
            os.replace(aside, folder / name)
        except OSError as error:
            raise TrainingError(f"{folder / name}: cannot be written: {reason(error)}") from error
