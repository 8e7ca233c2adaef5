"""A folder of JSON Lines files or tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.corpus.compression import COMPRESSIONS
from detour.corpus.input_files import COMPRESSED
from detour.corpus.text import ReadReport, raw_records
from detour.errors import ConfigError, DataError
from detour.evaluation.data.examples import Splits
from detour.evaluation.data.readers.base import (
    COLUMNS,
    SPLITS,
    Reader,
    check_keys,
    examples_of,
    existing_folder,
    folder_of,
    kind_only,
    read_bytes,
    read_json,
    registry,
    rows_of_table,
)

FORMS = (".jsonl", ".csv", ".tsv")


@registry.register("local")
@dataclass(frozen=True, kw_only=True)
class Local(Reader):
    """Reads a folder with ``train``, ``dev`` and ``test`` as ``.jsonl``, ``.csv``, or ``.tsv`` (also compressed).

    A line of ``.jsonl`` is ``{"id", "text", "label"}``, ``{"id", "text", "labels": [..]}``, ``{"id", "text_a", "text_b",
    "score"}`` or ``{"id", "tokens": [..], "ner_tags": [..]}``, depending on the task's kind. Lines with the same ``doc_id``
    stay in the same split. Tables have a header with the same names, and cannot hold entities. ``task.json`` may declare
    ``labels`` or ``entity_types``.

    Attributes:
        path: Folder of the files.
        columns: Role -> column name, as ``{label: my_column}``; roles are the keys of `COLUMNS`.
        files: Split -> file name without suffix, as ``{train: silver}``.
        delimiter: Tables: between cells; empty means a tab for .tsv and a comma otherwise.
        label_separator: Tables: between the labels of a multilabel example.
    """

    path: str
    columns: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    delimiter: str = ""
    label_separator: str = ";"

    def __post_init__(self) -> None:
        check_keys(columns=(self.columns, COLUMNS), files=(self.files, SPLITS))
        if not self.label_separator:
            raise ConfigError("label_separator: empty, expected a text between labels")
        if len(self.delimiter) > 1:
            raise ConfigError(f"delimiter: {self.delimiter!r}, expected one character")

    def read(self, root: Path, kind: str) -> Splits:
        folder, splits = existing_folder(folder_of(root, self.path)), {}
        for split in SPLITS:
            stem = self.files.get(split, split)
            names = [f"{stem}{form}{suffix}" for form in FORMS for suffix in ("", *COMPRESSIONS)]
            found = [path for name in names if (path := folder / name).is_file()]
            if len(found) > 1:
                raise DataError(f"{folder}: holds {found[0].name} and {found[1].name}, expected one of them")
            if found:
                table = ".jsonl" not in found[0].suffixes
                records = self._rows(found[0], kind) if table else _records(found[0])
                splits[split] = examples_of(records, kind, self.columns)
        if not splits:
            stems = ", ".join(self.files.get(split, split) for split in SPLITS)
            raise DataError(f"{folder}: none of {stems} as {', '.join(FORMS)} ({COMPRESSED})")
        return splits

    def _rows(self, path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows of a table, with scores as numbers and labels as lists."""
        kind_only(path.name, "cells of text", kind, "classification", "multilabel", "similarity")
        score, labels = (self.columns.get(role, COLUMNS[role]) for role in ("score", "labels"))
        for where, cells in rows_of_table(path, self.delimiter or ("\t" if ".tsv" in path.suffixes else ",")):
            row: dict[str, Any] = dict(cells)
            if kind == "multilabel" and labels in row:
                row[labels] = [label.strip() for label in row[labels].split(self.label_separator) if label.strip()]
            if kind == "similarity" and score in row:
                with contextlib.suppress(ValueError):  # examples_of refuses what is no number
                    row[score] = float(row[score])
            yield where, row

    def declared_labels(self, root: Path) -> list[str]:
        path = folder_of(root, self.path) / "task.json"
        if not path.is_file():
            return []
        declared = read_json(read_bytes(path), str(path))
        labels = declared.get("labels") or declared.get("entity_types") or []
        if not isinstance(labels, list):
            raise DataError(f"{path}: labels is {labels!r}, expected a list")
        return [str(label) for label in labels]


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    report = ReadReport(strict=True)
    for where, data in raw_records(path, report):
        yield where, read_json(data, where)
