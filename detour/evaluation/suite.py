"""A suite: every model on every task with every seed. A cell is one of these; its record is written whole, once.

Everything is checked before the first training, and a cell that is there is not done again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour.errors import ConfigError, DataError, DetourError
from detour.evaluation.data.dataset import Dataset, load_dataset
from detour.evaluation.data.task import Task
from detour.evaluation.records import fault_of_record
from detour.evaluation.results.tables import spreadsheet
from detour.provenance import environment
from detour.redact import redacted

if TYPE_CHECKING:
    from detour.evaluation.models import Model

FORMAT = 1
PROSE = ("source", "license", "credentials", "note")  # keys of a task that no score depends on
PACKAGES = ("accelerate", "scikit-learn", "scipy", "seqeval", "tokenizers")
COLUMNS: tuple[str, ...] = (
    "model", "task", "language", "kind", "seed", "metric", "test", "validation", "epoch", "max_length", "truncated",
    "train_examples", "test_examples", "precision", "seconds", "model_sha256", "data_sha256", "task_sha256",
    "detour", "commit",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning: a model on a task with a seed."""

    model: Model
    task: Task
    data: Dataset
    seed: int

    def path(self, out: Path) -> Path:
        """Where its record lies."""
        return out / "cells" / self.model.name / self.task.name / f"seed{self.seed}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its score, apart from versions and machine; its record begins with this.

        Without secrets: what came from the environment goes by its variable.
        """
        return redacted({
            "model": {"name": self.model.name, "sha256": self.model.sha256},
            "task": task_record(self.task),
            "data": {"sha256": self.data.sha256, "counts": self.data.counts, "labels": self.data.labels},
            "seed": self.seed,
        })  # fmt: skip


def task_record(task: Task) -> dict[str, Any]:
    """The task's description as JSON holds it."""
    return json.loads(json.dumps(asdict(task)))


def deciding(identity: dict[str, Any]) -> dict[str, Any]:
    """What of a record's beginning must agree for two scores to be put together or one to be taken for the other.

    Where the data lay and what is said of it is no part of this: the data itself has a hash.
    """
    parts = {key: identity[key] for key in ("model", "task", "data", "seed")}
    return parts | {"task": {key: value for key, value in parts["task"].items() if key not in PROSE}}


def plan(models: Sequence[Model], tasks: Sequence[Task], seeds: Sequence[int], *, data_root: Path) -> list[Cell]:
    """All cells, task by task, with their data read and checked.

    Raises:
        ConfigError, DataError: Listing what is wrong with each task that cannot be run.
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
    """Those that have no record yet.

    Raises:
        ConfigError: A record is there that was made with another model, other data or another configuration.
    """
    todo = []
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
    return todo


def run(
    cells: Sequence[Cell], out: Path, *, begin: Callable[[Cell], Callable[[int, int], None]] | None = None
) -> list[dict[str, Any]]:
    """Does the cells that are not done, writes each one's record, and ``results.jsonl`` and ``results.csv`` of all in ``out``.

    Args:
        begin: Called before each cell; what it returns is told the steps done and those in all.

    Returns:
        The records in the folder, those of other runs included.

    Raises:
        ConfigError: As `unfinished`.
        ModelError: A model cannot be loaded.
    """
    from detour.evaluation.finetune.finetune import finetune

    made_with = environment() | {package: version(package) for package in PACKAGES}
    for cell in unfinished(cells, out):
        progress = begin(cell) if begin else lambda done, total: None
        outcome = finetune(cell.model.folder, cell.task, cell.data, seed=cell.seed, progress=progress)
        fields = asdict(outcome)
        said = {"ids": [example.id for example in cell.data.splits["test"]], "predictions": fields.pop("predictions")}
        record = {"format": FORMAT, **cell.identity, "outcome": fields, "environment": made_with}
        write_whole(
            cell.path(out).with_name(f"predictions-seed{cell.seed}.json"), json.dumps(said, ensure_ascii=False) + "\n"
        )
        write_whole(cell.path(out), json.dumps(record, ensure_ascii=False, indent=1) + "\n")  # last: it marks the end
        collect(out)
    return collect(out)


def collect(out: Path) -> list[dict[str, Any]]:
    """All records of a folder, and ``results.jsonl`` and ``results.csv`` written anew from them.

    Raises:
        DataError: A record is damaged, or there is none.
    """
    records = list(read_records(out))
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(out / "results.jsonl", lines)
    aside = out / f".results.{os.getpid()}.csv"
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: spreadsheet(value) for key, value in row_of(record).items()} for record in records)
    aside.replace(out / "results.csv")
    return records


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a row of results.csv; scores in [0, 1] (correlations in [-1, 1])."""
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
    """Every cell's record in a folder, by task, model and seed. Raises DataError if there is none, or one is damaged."""
    paths = list((out / "cells").glob("*/*/seed*.json"))
    if not paths:
        raise DataError(f"{out}: no records of finished cells there")
    records = [read_record(path) for path in paths]
    yield from sorted(records, key=lambda r: (r["task"]["language"], r["task"]["name"], r["model"]["name"], r["seed"]))


def read_record(path: Path) -> dict[str, Any]:
    """One cell's record. Raises DataError if it is damaged, of another format, or of another cell than its place says."""
    again = "remove it to have the cell done again"
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
        raise DataError(f"{path}: is of {' / '.join(names)}, another cell than its place says; {again}")
    return record


def write_whole(path: Path, text: str) -> None:
    """Writes aside and renames, so that a reader finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _first_difference(theirs: Any, ours: Any, key: str = "") -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in ours:
            if theirs.get(name) != ours[name]:
                return _first_difference(theirs.get(name), ours[name], f"{key}.{name}" if key else name)
    return f"{key} was {theirs!r}, is {ours!r}"
