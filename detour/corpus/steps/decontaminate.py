"""Decontamination: removes documents that contain evaluation items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from detour.corpus.document_shards import load_json, save_arrays
from detour.corpus.input_files import files_of_pattern
from detour.corpus.shingles import shingles, word_hashes
from detour.corpus.steps.base import DocumentStep, StepReport, register
from detour.corpus.text import (
    COMPRESSED,
    FORMATS,
    Document,
    ReadReport,
    UnusableRecordError,
    decoded,
    format_of,
    json_records,
    raw_records,
)
from detour.errors import DataError
from detour.files import write_json

INDEX = "index.npz"
ITEMS = "items.json"


@register("decontaminate")
@dataclass(frozen=True, kw_only=True)
class Decontaminate(DocumentStep):
    """Removes documents that contain at least ``overlap`` of the word n-grams of an evaluation item.

    Only letters and digits are compared, lower-cased. ``removed/NN_decontaminate.jsonl`` lists each removed document, the
    item with the largest overlap, and that overlap. Items of fewer than ``ngram_size`` words cannot be checked; their
    number is in ``prepared.json``. In Chinese and other scripts without spaces, each character counts as a word.

    Cost: about 8 MB/s; memory of each process: 16 bytes per word of the evaluation sets.

    Attributes:
        paths: Evaluation sets: JSON (.jsonl, .ndjson, .json) or .txt files, also compressed, or patterns that match only
            such files.
        item_columns: Columns of the items' texts; a list of tokens is joined. Each file must have at least one of them.
        ngram_size: Words per n-gram.
        overlap: Fraction of an item's n-grams that must be found, in (0, 1].
        min_items: Number of distinct items that must overlap before a document is removed. More than 1 keeps documents
            that only share a common phrase.
    """

    paths: tuple[str, ...]
    item_columns: tuple[str, ...] = ("text", "tokens", "text_a", "text_b", "question", "sentence")
    ngram_size: int = 13
    overlap: float = 0.5
    min_items: int = 1

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("paths is empty, expected evaluation sets")
        if self.ngram_size < 1 or self.min_items < 1 or not 0 < self.overlap <= 1:
            raise ValueError("expected ngram_size and min_items of at least 1 and an overlap in (0, 1]")

    def inputs(self) -> list[Path]:
        return sorted({file for path in self.paths for file in self._files(path)})

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Builds the n-gram index. Raises DataError if a path matches no file or contains no item."""
        files = self.inputs()
        names, sizes, keys, owners, short = [], [], [], [], 0
        known = set()
        for file in files:
            for name, text in _items(file, self.item_columns):
                ngrams = np.unique(shingles(word_hashes(text), self.ngram_size))
                if not len(ngrams):
                    short += 1
                    continue
                if (text_hash := xxhash.xxh3_128_digest(ngrams.tobytes())) in known:
                    continue  # the same text in another column or task is not a second item
                known.add(text_hash)
                keys.append(ngrams)
                owners.append(np.full(len(ngrams), len(names), np.uint32))
                sizes.append(len(ngrams))
                names.append(f"{file.parent.name}/{file.name}: {name}")
        if not names:
            raise DataError(
                f"{self.paths[0]}: no item of {self.ngram_size} words or more in {', '.join(self.item_columns)}"
            )
        key, owner = np.concatenate(keys), np.concatenate(owners)
        order = np.argsort(key, kind="stable")
        save_arrays(folder / INDEX, key=key[order], owner=owner[order], size=np.array(sizes, np.uint32))
        write_json(folder / ITEMS, names)
        return {"evaluation_files": len(files), "items": len(names), "items_too_short": short}

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        key, owner, size, names = _load(report.folder, (report.folder / INDEX).stat().st_mtime_ns)
        for document in documents:
            ngrams = np.unique(shingles(word_hashes(document.text), self.ngram_size))
            left, right = (np.searchsorted(key, ngrams, side=side) for side in ("left", "right"))
            found: Counter[int] = Counter()
            for start, end in zip(left[right > left], right[right > left], strict=True):
                found.update(owner[start:end].tolist())
            overlaps = {item: n / int(size[item]) for item, n in found.items()}
            over = {item: overlap for item, overlap in overlaps.items() if overlap >= self.overlap}
            if len(over) < self.min_items:
                yield document
                continue
            worst = max(over, key=lambda item: (over[item], -item))
            report.dropped["overlaps an evaluation item"] += 1
            report.removals.append({
                "id": document.id, "item": names[worst], "overlap": round(over[worst], 3), "items": len(over),
            })  # fmt: skip

    @staticmethod
    def _files(given: str) -> list[Path]:
        found = [Path(given)] if Path(given).is_file() else files_of_pattern(given)
        found = [path for path in found if path.is_file()]
        if not found:
            raise DataError(f"{given}: no evaluation set found, expected {' or '.join(FORMATS)} files ({COMPRESSED})")
        for path in found:
            if format_of(path) not in FORMATS:
                raise DataError(f"{path}: not an evaluation set, expected {' or '.join(FORMATS)} ({COMPRESSED})")
        return found


def _items(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (name, text) of each item. An unreadable record or file is an error: evaluation sets must be complete."""
    report, any_text, keys = ReadReport(strict=True), False, dict[str, None]()
    for number, (where, record) in enumerate(_records(file, report, columns[0]), start=1):
        if not isinstance(record, Mapping):
            raise DataError(f"{where}: not an object, expected one with {', '.join(columns)}")
        keys |= dict.fromkeys(map(str, list(record)[:8]))
        for column in columns:
            value = record.get(column)
            text = " ".join(map(str, value)) if isinstance(value, list) else value
            if isinstance(text, str):
                any_text = True
                yield str(record.get("id", number)), text
    if keys and not any_text:
        raise DataError(f"{file}: no text in {', '.join(columns)}, found {', '.join(list(keys)[:8])}")


def _records(file: Path, report: ReadReport, column: str) -> Iterator[tuple[str, Any]]:
    if format_of(file) != ".txt":
        yield from json_records(file, report)
        return
    for where, data in raw_records(file, report):
        try:
            yield where, {column: decoded(data)}
        except UnusableRecordError as problem:
            raise DataError(f"{where}: {problem}") from None


@lru_cache(maxsize=4)
def _load(folder: Path, written: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    del written  # part of the cache key: a later preparation of this process may use the same folder
    with np.load(folder / INDEX) as index:
        return index["key"], index["owner"], index["size"], load_json(folder / ITEMS)
