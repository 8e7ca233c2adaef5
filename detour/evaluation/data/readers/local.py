"""Detour's own format: a folder of JSON Lines files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.corpus.compression import COMPRESSIONS
from detour.corpus.input_files import COMPRESSED
from detour.corpus.text import ReadReport, raw_records
from detour.errors import DataError
from detour.evaluation.data.examples import Splits
from detour.evaluation.data.readers.base import (
    COLUMNS,
    SPLITS,
    Reader,
    check_keys,
    examples_of,
    existing_folder,
    folder_of,
    read_bytes,
    read_json,
    registry,
)


@registry.register("local")
@dataclass(frozen=True, kw_only=True)
class Local(Reader):
    """Reads a folder with ``train``, ``dev`` and ``test`` as ``.jsonl`` (also compressed) and an optional ``task.json``.

    A line is ``{"id", "text", "label"}``, ``{"id", "text", "labels": [..]}``, ``{"id", "text_a", "text_b", "score"}`` or
    ``{"id", "tokens": [..], "ner_tags": [..]}``, depending on the task's kind. Lines with the same ``doc_id`` stay in
    the same split. task.json may declare ``labels`` or ``entity_types``.

    Attributes:
        path: Folder of the files.
        columns: Role -> column name, as ``{label: my_column}``; roles are the keys of `COLUMNS`.
        files: Split -> file name without suffix, as ``{train: silver}``.
    """

    path: str
    columns: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_keys("columns", self.columns, COLUMNS)
        check_keys("files", self.files, SPLITS)

    def read(self, root: Path, kind: str) -> Splits:
        folder, splits = existing_folder(folder_of(root, self.path)), {}
        for split in SPLITS:
            stem = self.files.get(split, split)
            names = [f"{stem}.jsonl{suffix}" for suffix in ("", *COMPRESSIONS)]
            found = [path for name in names if (path := folder / name).is_file()]
            if len(found) > 1:
                raise DataError(f"{folder}: holds {found[0].name} and {found[1].name}, expected one of them")
            if found:
                splits[split] = examples_of(_records(found[0]), kind, self.columns)
        if not splits:
            raise DataError(f"{folder}: no train.jsonl, dev.jsonl or test.jsonl ({COMPRESSED})")
        return splits

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
