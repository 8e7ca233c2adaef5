"""The run folder, and the record that identifies a run: configuration, data, tokenizer, code and versions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour import objectives
from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.data.manifest import ShardManifest
from detour.data.stream_spec import StreamSpec
from detour.data.validation import ValidationFolder, draw
from detour.errors import CheckpointError, TrainingError
from detour.files import naming, reason, try_lock, write_json, write_text
from detour.provenance import environment
from detour.redact import redacted

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
RECORD = "run.json"
FORMAT = 1  # of the record of a run; raised when an older version would misread it


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: ``config.yaml``, ``environment.json``, ``metrics.jsonl``, ``checkpoints/`` and more."""

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
        """Locks the folder for this process, since a second run in it would overwrite the files of the first.

        On a disk without file locks a warning is logged and the run continues unlocked.

        Raises:
            CheckpointError: Another process holds the lock.
            TrainingError: The folder cannot be created or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        except OSError as error:
            odd = os.path.lexists(self.path) and not self.path.is_dir()
            raise TrainingError(
                f"{self.path}: {'is not a folder' if odd else 'cannot be written'} ({reason(error)}), expected a run folder"
            ) from error
        with file:
            with naming(self.path, TrainingError):
                held = try_lock(file)
            if not held:
                raise CheckpointError(f"{self.path}: another process is training in this run folder")
            os.register_at_fork(after_in_child=file.close)  # loader processes may outlive this one and must not hold it
            yield

    def locked(self) -> bool:
        """Whether a process is training in the folder. False where the disk has no file locks."""
        try:
            with (self.path / ".lock").open("r") as file:
                return not try_lock(file, shared=True)
        except OSError:  # no run has begun, or the file cannot be read
            return False

    def wandb_id(self) -> str:
        """The id of the run at Weights & Biases, drawn once and stored in the folder, so that a resume continues its curves.

        A copied folder gets a new id; otherwise two runs would overwrite each other's curves. A folder counts as the same one
        if its path or its inode is unchanged. To be called by one process only.

        Raises:
            TrainingError: The id cannot be stored.
        """
        path = self.path / "wandb_id"
        here = {"path": str(self.path.resolve()), "inode": self.path.stat().st_ino}
        try:
            kept = json.loads(path.read_text())
            drawn, origin = str(kept["id"]), {"path": kept["path"], "inode": kept["inode"]}
        except FileNotFoundError:
            drawn, origin = "", {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s: cannot be read (%s); the run gets a new Weights & Biases id", path, error)
            drawn, origin = "", {}
        if origin and not any(origin[key] == here[key] for key in here):
            log.warning("%s: this folder is a copy of %s; it gets a new Weights & Biases id", path, origin["path"])
            drawn = ""
        if drawn and origin == here:
            return drawn
        drawn = drawn or secrets.token_hex(4)
        with naming(path, TrainingError):
            write_json(path, {"id": drawn, **here})
        return drawn


def run_record(run: RunConfig, *, tokenizer: str) -> dict[str, Any]:
    """The record that identifies a run in its checkpoints and model card: configuration, data, tokenizer, code, versions.

    It holds no secrets: values from the environment are recorded by the name of the variable.

    Args:
        run: The configuration.
        tokenizer: `fingerprint` of the tokenizer.
    """
    folders = [*run.train_streams.values(), *chain(*held_out_folders(run).values())]
    manifests = {stream.path: ShardManifest.load(Path(stream.path)) for stream in folders}

    def rows(streams: Iterable[StreamSpec]) -> list[list[Any]]:
        return [[manifests[stream.path].rows_sha256, stream.proportion] for stream in streams]

    return {
        "format": FORMAT,
        "config": redacted(json.loads(json.dumps(asdict(run)))),
        "tokenizer": tokenizer,
        "data": rows(run.data.train),
        "phase_data": [rows(phase.data.train) for phase in run.phases],
        "phase_streams": [{name: rows(data.train) for name, data in phase.streams.items()} for phase in run.phases],
        "evaluation": measurement(run, manifests),
        "validation": [manifests[s.path].rows_sha256 for s in run.data.validation],
        "sources": [
            redacted(asdict(source)) for s in run.train_streams.values() for source in manifests[s.path].sources
        ],
        "environment": environment(),
    }


def held_out_folders(run: RunConfig) -> dict[str, list[StreamSpec]]:
    """Held-out folders by stream, with those of text, `data.validation`, under ""; without empty ones."""
    return {name: found for name, found in {"": run.data.validation, **run.evaluation.streams}.items() if found}


def held_out_key(stream: str) -> str:
    """Key of the held-out folders of a stream."""
    return f"evaluation.streams.{stream}" if stream else "data.validation"


def validation_rows(run: RunConfig, manifests: Mapping[str, ShardManifest], stream: str = "") -> list[ValidationFolder]:
    """The rows on which the run is evaluated; empty without validation folders. Raises DataError.

    Args:
        run: The configuration.
        manifests: Manifests of the validation folders, by path.
        stream: Name of the stream whose rows are evaluated; "" for text.
    """
    folders = held_out_folders(run).get(stream, [])
    paths = [folder.path for folder in folders]
    return draw(
        paths,
        [manifests[path].rows_sha256 for path in paths],
        [manifests[path].counts.rows for path in paths],
        rows=run.evaluation.rows,
        seed=run.evaluation.seed,
        names=[folder.name for folder in folders],
        key=held_out_key(stream),
    )


def measurement(run: RunConfig, manifests: Mapping[str, ShardManifest]) -> dict[str, Any] | None:
    """Everything on which held-out losses depend besides the weights; None if none is measured.

    Args:
        run: The configuration.
        manifests: Manifests of the validation folders, by path.
    """
    drawn = {
        name: [folder.describe() for folder in validation_rows(run, manifests, name)] for name in held_out_folders(run)
    }
    if not drawn or not run.evaluation.objectives:
        return None
    return {
        "folders": drawn.pop("", []),
        **({"streams": drawn} if drawn else {}),
        "seed": run.evaluation.seed,
        "mask_draws": run.evaluation.mask_draws,
        "objectives": {name: _options(name, options) for name, options in run.evaluation.objectives.items()},
        "precision": run.system.precision,
        "attention_backend": run.model.attention_backend,
    }


def _options(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """All options of an objective, with defaults, as JSON values."""
    return json.loads(json.dumps(objectives.all_options(name, options), default=str))


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of weights, independent of file format and device.

    Cost: about 1 GB/s on the host.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_record(record: Any, where: Path) -> None:
    """Checks the format number of a run's record; a record without one is accepted.

    Args:
        record: The record.
        where: File that holds it, for error messages.

    Raises:
        CheckpointError: A newer version wrote it, or it is not a record.
    """
    found = record.get("format", FORMAT) if isinstance(record, Mapping) else record
    if type(found) is not int or found < 1:
        raise CheckpointError(f"{where}: the run's record has format {found!r}, expected an integer of at least 1")
    if found > FORMAT:
        raise CheckpointError(
            f"{where}: the run's record has format {found}, which a newer version of detour wrote; this one reads up to {FORMAT}"
        )


def write_run_files(run: RunConfig, record: Mapping[str, Any]) -> None:
    """Writes ``config.yaml``, ``environment.json``, ``evaluation.json`` and ``run.json`` into the run folder.

    evaluation.json has the objective options of each phase, and how held-out losses are measured, with the validation rows
    drawn. run.json is the record of the run (`run_record`).

    Args:
        run: The configuration.
        record: The record of the run.

    Raises:
        TrainingError: A file cannot be written.
    """
    folder = RunFolder.of(run).path
    with naming(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
    losses = {
        "training": {phase.name: _options(phase.objective, phase.options) for phase in run.phases},
        "held_out": record.get("evaluation"),
    }
    config = to_yaml(run)
    try:
        write_text(folder / "config.yaml", config)
        for name, values in {"environment.json": environment(), EVALUATION: redacted(losses), RECORD: record}.items():
            write_json(folder / name, values)
    except OSError as error:
        raise TrainingError(f"{error.filename or folder}: cannot be written: {reason(error)}") from error
