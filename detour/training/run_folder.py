"""The run folder, and what a run remembers of itself: configuration, data, tokenizer, code and versions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour import objectives
from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.data.manifest import ShardManifest
from detour.data.validation import ValidationFolder, draw
from detour.errors import CheckpointError, TrainingError
from detour.files import naming, reason, try_lock
from detour.provenance import environment
from detour.redact import redacted

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
RECORD = "run.json"
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
        "evaluation": measurement(run, manifests),
        "validation": [manifests[s.path].rows_sha256 for s in run.data.validation],
        "sources": [redacted(asdict(source)) for s in run.data.train for source in manifests[s.path].sources],
        "environment": environment(),
    }


def held_out_rows(run: RunConfig, manifests: Mapping[str, ShardManifest]) -> list[ValidationFolder]:
    """The rows that the run is evaluated on; empty where it has no validation folder. Raises DataError.

    Args:
        run: The configuration.
        manifests: Those of the validation folders, by path.
    """
    paths = [stream.path for stream in run.data.validation]
    return draw(
        paths,
        [manifests[path].rows_sha256 for path in paths],
        [manifests[path].counts.rows for path in paths],
        rows=run.evaluation.rows,
        seed=run.evaluation.seed,
    )


def measurement(run: RunConfig, manifests: Mapping[str, ShardManifest]) -> dict[str, Any] | None:
    """All that a held-out loss depends on besides the weights, or None where none is measured; arguments as above."""
    folders = held_out_rows(run, manifests)
    if not folders or not run.evaluation.objectives:
        return None
    return {
        "folders": [folder.describe() for folder in folders],
        "seed": run.evaluation.seed,
        "mask_draws": run.evaluation.mask_draws,
        "objectives": {name: _options(name, options) for name, options in run.evaluation.objectives.items()},
        "precision": run.system.precision,
        "attention_backend": run.model.attention_backend,
    }


def _options(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """An objective's options, those left at their defaults too, as they come back from JSON."""
    return json.loads(json.dumps(asdict(objectives.build(name, options)), default=str))


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Identity of named weights: of their names, types, shapes and values, whatever file or device holds them.

    Cost: about 1 GB/s, on the host.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


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


def write_run_files(run: RunConfig, record: Mapping[str, Any]) -> None:
    """``config.yaml``, ``environment.json``, ``evaluation.json`` and ``run.json`` in the run folder.

    evaluation.json says what each phase trains under and how held-out losses are measured, with all options and the rows
    drawn; run.json is what identifies the run (`run_record`).
    """
    folder = RunFolder.of(run).path
    with naming(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
    losses = {
        "training": {phase.name: _options(phase.objective, phase.options) for phase in run.phases},
        "held_out": record.get("evaluation"),
    }
    texts = {
        "config.yaml": to_yaml(run),
        "environment.json": json.dumps(environment(), indent=1) + "\n",
        EVALUATION: json.dumps(redacted(losses), indent=1) + "\n",
        RECORD: json.dumps(record, indent=1) + "\n",
    }
    for name, text in texts.items():
        aside = folder / f".{name}.tmp"
        try:
            aside.write_text(text)
            os.replace(aside, folder / name)
        except OSError as error:
            raise TrainingError(f"{folder / name}: cannot be written: {reason(error)}") from error
