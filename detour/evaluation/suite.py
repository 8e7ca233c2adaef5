"""A suite runs every model on every task with every seed. One (model, task, seed) is a cell and has one atomic record.

All inputs are checked before the first fine-tuning, and finished cells are skipped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour.errors import ConfigError, DataError, DetourError
from detour.evaluation.data.dataset import Dataset, load_dataset
from detour.evaluation.data.task import Task
from detour.evaluation.records import fault_of_record
from detour.files import write_json, write_text
from detour.markup import spreadsheet
from detour.provenance import environment
from detour.redact import redacted

if TYPE_CHECKING:
    from detour.evaluation.models import Model

FORMAT = 1
PROSE = ("source", "license", "credentials", "note")  # task keys that do not affect scores
PACKAGES = ("accelerate", "scikit-learn", "scipy", "seqeval", "tokenizers")
COLUMNS: tuple[str, ...] = (
    "model", "task", "language", "kind", "seed", "metric", "test", "validation", "epoch", "max_length", "truncated", "degenerate",
    "train_examples", "test_examples", "precision", "seconds", "model_sha256", "data_sha256", "task_sha256",
    "detour", "commit",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning run: a model, a task and a seed."""

    model: Model
    task: Task
    data: Dataset
    seed: int

    def path(self, out: Path) -> Path:
        """Path of the cell's record under the output folder."""
        return out / "cells" / self.model.name / self.task.name / f"seed{self.seed}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the score except versions and hardware; the first part of the cell's record.

        Secrets are redacted, and values from the environment are shown as their variable.
        """
        return redacted({
            "model": {"name": self.model.name, "sha256": self.model.sha256},
            "task": task_record(self.task),
            "data": {"sha256": self.data.sha256, "counts": self.data.counts, "labels": self.data.labels},
            "seed": self.seed,
        })  # fmt: skip


def task_record(task: Task) -> dict[str, Any]:
    """The task as JSON types."""
    return json.loads(json.dumps(asdict(task)))


def deciding(identity: dict[str, Any]) -> dict[str, Any]:
    """The part of a cell's identity that must match for its scores to be reused or aggregated with others.

    The data's location and description are excluded; the data itself is hashed.
    """
    parts = {key: identity[key] for key in ("model", "task", "data", "seed")}
    return parts | {"task": {key: value for key, value in parts["task"].items() if key not in PROSE}}


def plan(models: Sequence[Model], tasks: Sequence[Task], seeds: Sequence[int], *, data_root: Path) -> list[Cell]:
    """Reads and checks the data of every task and returns all cells, ordered by task, seed and model.

    Raises:
        ConfigError, DataError: Lists the problem of every task that cannot be run.
    """
    problems, loaded = [], {}
    for task in tasks:
        try:
            loaded[task.name] = load_dataset(task, data_root)
        except DetourError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DataError(
            f"{len(problems)} of {len(tasks)} tasks cannot be run\n" + "\n".join(f"  - {e}" for e in problems)
        )
    return [
        Cell(model=model, task=task, data=loaded[task.name], seed=seed)
        for task in tasks
        for seed in seeds
        for model in models
    ]


def unfinished(cells: Iterable[Cell], out: Path) -> list[Cell]:
    """The cells without a record.

    Raises:
        ConfigError: An existing record was made with a different model, data, seed or configuration; or those of other models
            with a different task or data, so that their scores could not stand in one table.
        DataError: An existing record is damaged.
    """
    cells, todo = list(cells), []
    for cell in cells:
        if not cell.path(out).exists():
            todo.append(cell)
            continue
        theirs, ours = deciding(read_record(cell.path(out))), deciding(cell.identity)
        if differing := [key for key in ours if theirs[key] != ours[key]]:
            raise ConfigError(
                f"{cell.path(out)}: made with another {' and '.join(differing)}: {_first_difference(theirs, ours)}"
                "; write to another folder, or remove the record"
            )
    for name, cell in {cell.task.name: cell for cell in cells}.items():
        ours = {key: deciding(cell.identity)[key] for key in ("task", "data")}
        for path in sorted(out.glob(f"cells/*/{name}/seed*.json")):
            theirs = {key: deciding(read_record(path))[key] for key in ours}
            if theirs != ours:
                raise ConfigError(
                    f"{path}: of task '{name}', but with other settings: {_first_difference(theirs, ours)}; its scores cannot be "
                    "compared with the new ones, so write to another folder"
                )
    return todo


def run(
    cells: Sequence[Cell], out: Path, *, begin: Callable[[Cell], Callable[[int, int], None]] | None = None
) -> list[dict[str, Any]]:
    """Runs the unfinished cells. Writes one record per cell, and ``results.jsonl`` and ``results.csv`` for the entire folder.

    Args:
        begin: Called before each cell; returns a progress callback that takes (finished steps, total steps).

    Returns:
        All records in the folder, including those of earlier runs.

    Raises:
        ConfigError: An existing record was made with a different model, data, seed or configuration.
        ModelError: A model cannot be loaded.
    """
    for cell in unfinished(cells, out):
        run_cell(cell, out, begin(cell) if begin else lambda done, total: None)
        collect(out)
    return collect(out)


def run_cell(cell: Cell, out: Path, progress: Callable[[int, int], None]) -> None:
    """Fine-tunes once, and writes the predictions and then the record.

    Args:
        cell: The cell.
        out: Output folder.
        progress: Called with the finished steps and the total number of steps.

    Raises:
        ModelError: The model cannot be loaded.
    """
    from detour.evaluation.finetune.finetune import finetune

    outcome = finetune(cell.model.folder, cell.task, cell.data, seed=cell.seed, progress=progress)
    fields = asdict(outcome)
    predictions = {
        "ids": [example.id for example in cell.data.splits["test"]],
        "predictions": fields.pop("predictions"),
    }
    made_with = environment() | {package: version(package) for package in PACKAGES}
    record = {"format": FORMAT, **cell.identity, "outcome": fields, "environment": made_with}
    write_text(
        cell.path(out).with_name(f"predictions-seed{cell.seed}.json"),
        json.dumps(predictions, ensure_ascii=False) + "\n",
    )
    write_json(cell.path(out), record)  # last: its presence marks the cell as finished


def collect(out: Path) -> list[dict[str, Any]]:
    """Reads all records of a folder and rewrites ``results.jsonl`` and ``results.csv`` from them.

    Raises:
        DataError: A record is damaged, or the folder has none.
    """
    records = list(read_records(out))
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(out / "results.jsonl", lines)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({key: spreadsheet(value) for key, value in row_of(record).items()} for record in records)
    write_text(out / "results.csv", text.getvalue())
    return records


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Converts a record to a row of results.csv; scores in [0, 1], correlations in [-1, 1]."""
    task, outcome, metric = record["task"], record["outcome"], record["task"]["metric"]
    return {
        "model": record["model"]["name"],
        "task": task["name"],
        "language": task["language"],
        "kind": task["kind"],
        "seed": record["seed"],
        "metric": metric,
        "test": outcome["test"][metric],
        "validation": outcome["validation"][metric],
        "epoch": outcome["epoch"],
        "max_length": outcome["max_length"],
        "truncated": sum(outcome["truncated"].values()),
        "degenerate": outcome.get("degenerate"),
        "train_examples": record["data"]["counts"]["train"],
        "test_examples": record["data"]["counts"]["test"],
        "precision": outcome["precision"],
        "seconds": outcome["seconds"],
        "model_sha256": record["model"]["sha256"],
        "data_sha256": record["data"]["sha256"],
        "task_sha256": hashlib.sha256(json.dumps(deciding(record)["task"], sort_keys=True).encode()).hexdigest(),
        "detour": record["environment"]["detour"],
        "commit": record["environment"]["commit"],
    }


def read_records(out: Path) -> Iterator[dict[str, Any]]:
    """All records of a folder, sorted by language, task, model and seed. Raises DataError if there are none or one is damaged."""
    paths = list((out / "cells").glob("*/*/seed*.json"))
    if not paths:
        raise DataError(f"{out}: no records of finished cells")
    records = [read_record(path) for path in paths]
    yield from sorted(records, key=lambda r: (r["task"]["language"], r["task"]["name"], r["model"]["name"], r["seed"]))


def read_record(path: Path) -> dict[str, Any]:
    """Reads a cell's record. Raises DataError if it is damaged, has another format, or does not belong at this path."""
    again = "remove it to run the cell again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a record ({error}); {again}") from error
    if isinstance(record, dict) and record.get("format", FORMAT) != FORMAT:
        raise DataError(f"{path}: format {str(record['format'])[:60]}, expected {FORMAT}")
    if fault := fault_of_record(record):
        raise DataError(f"{path}: {fault}; {again}")
    names = (record["model"]["name"], record["task"]["name"], f"seed{record['seed']}.json")
    if names != path.parts[-3:]:
        raise DataError(f"{path}: is the record of {' / '.join(names)}, which does not match its path; {again}")
    return record


def _first_difference(theirs: Any, ours: Any, key: str = "") -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in ours:
            if theirs.get(name) != ours[name]:
                return _first_difference(theirs.get(name), ours[name], f"{key}.{name}" if key else name)
    return f"{key} was {theirs!r}, is {ours!r}"
