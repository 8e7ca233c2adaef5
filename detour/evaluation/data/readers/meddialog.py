"""MedDialog-FR ("women"): questions and answers with UMLS concepts, as Parquet files or as the corpus's two tables."""

from __future__ import annotations

import ast
import csv
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.errors import DataError, first_line
from detour.evaluation.data.examples import Example, Splits
from detour.evaluation.data.readers.base import Reader, existing_folder, folder_of, kind_only, read_text, registry

log = logging.getLogger(__name__)
LABELS, TEXTS = (
    "multilabel_annotation/dataset_multilabel_meddialog_22labels.csv",
    "post-editing/meddialog-fr-women_post-editing.csv",
)
SPLITS = {"train": ("train",), "dev": ("val", "validation", "dev"), "test": ("test",)}  # ours -> theirs
Row = tuple[str, str, str, Any]  # where, id, text, labels


@registry.register("meddialog")
@dataclass(frozen=True, kw_only=True)
class MedDialog(Reader):
    """Reads a folder with Parquet files, or else with the two tab-separated tables of the corpus.

    Parquet: ``data/train*.parquet``, val and test, with ``text`` and ``labels_raw``. Tables: one with id, split, and a
    list of concepts, one with the post-edited text of each question (``.._q``) and answer (``.._a``), which are joined. The
    labels are all concepts of any split. Items without a concept, or without a question, are left out, counted and logged.

    Attributes:
        path: Folder of the files.
    """

    path: str

    def read(self, root: Path, kind: str) -> Splits:
        kind_only("meddialog", "sets of concepts", kind, "multilabel")
        folder = existing_folder(folder_of(root, self.path))
        splits: Splits = {}
        left_out = 0
        for split, (where, id, text, labels) in self._rows(folder):
            if not isinstance(text, str) or not isinstance(labels, list) or not all(type(x) is str for x in labels):
                found = f"text {str(text)[:40]!r} and labels {str(labels)[:40]!r}"
                raise DataError(f"{where}: {found}, expected a text and a list of names")
            if text.strip() and labels:
                splits.setdefault(split, []).append(Example(id=id, parts=(text,), target=tuple(sorted(set(labels)))))
            else:
                left_out += 1
        if left_out:
            log.warning("%s: %d items left out, without a question or without a concept", folder, left_out)
        return splits

    def declared_labels(self, root: Path) -> list[str]:
        examples = [example for examples in self.read(root, "multilabel").values() for example in examples]
        return sorted({str(label) for example in examples for label in example.target})  # type: ignore[union-attr]

    def _rows(self, folder: Path) -> Iterator[tuple[str, Row]]:
        tables = [(split, path) for split, path in _parquet_files(folder)]
        if tables:
            for split, path in tables:
                for number, row in enumerate(_parquet_rows(path)):
                    yield split, (f"{path}:{number}", f"{split}-{number}", row["text"], row["labels_raw"])
        elif (folder / LABELS).is_file():
            yield from _rows_of_tables(folder)
        else:
            raise DataError(f"{folder}: no train*.parquet in it or in its data, and no {LABELS}")


def _parquet_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for split, names in SPLITS.items():
        for path in sorted(path for at in (folder, folder / "data") for path in at.glob("*.parquet")):
            if path.stem.split("-")[0] in names:
                yield split, path


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet  # of the extra `eval`, by datasets

    try:
        return parquet.read_table(path, columns=["text", "labels_raw"]).to_pylist()
    except Exception as error:  # of several types in pyarrow
        raise DataError(f"{path}: cannot be read as text and labels_raw: {first_line(error)}") from error


def _rows_of_tables(folder: Path) -> Iterator[tuple[str, Row]]:
    texts = {row["id"]: row["post-edited"] or "" for _, row in _table(folder / TEXTS, ("id", "post-edited"))}
    ours = {theirs: split for split, names in SPLITS.items() for theirs in names}
    for where, row in _table(folder / LABELS, ("id", "split", "labels")):
        if row["split"] not in ours:
            raise DataError(f"{where}: split is '{row['split']}', expected one of {', '.join(ours)}")
        try:
            labels = ast.literal_eval(row["labels"])  # a list as Python writes it; nothing is run
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            labels = row["labels"]  # refused by the reader
        question = texts.get(row["id"], "").strip()
        answer = texts.get(f"{row['id'].removesuffix('_q')}_a", "").strip()
        text = f"Question: {question}" + (f"\n\nRéponse: {answer}" if answer else "")
        yield ours[row["split"]], (where, row["id"], text if question else "", labels)


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:row, row) of a tab-separated table with a header. Raises DataError for a missing column or cell."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    if missing := [column for column in columns if column not in (rows.fieldnames or [])]:
        raise DataError(f"{path}: no column '{missing[0]}', found {', '.join(rows.fieldnames or ['none'])}")
    for number, row in enumerate(rows, start=1):
        if any(row[column] is None for column in columns):
            raise DataError(f"{path}: row {number} has too few cells")
        yield f"{path}: row {number}", row
