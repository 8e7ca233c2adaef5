"""Removal of documents that hold the texts a model will be tested on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

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

INDEX = "index.npz"
ITEMS = "items.json"


@register("decontaminate")
@dataclass(frozen=True, kw_only=True)
class Decontaminate(DocumentStep):
    """Removes a document that holds enough of an evaluation item's word runs; each removal is listed with its reason.

    Letters and digits are compared, in small letters. The list is ``removed/NN_decontaminate.jsonl``: the document, the
    item with the largest overlap, and how much of it was found. Items of fewer words than ``words`` cannot be checked so;
    their number is in the manifest. Of Chinese and other scripts without spaces a sign counts as a word.

    Cost: about 8 MB/s; memory of each process 16 bytes for each word of the evaluation sets.

    Attributes:
        paths: Evaluation sets: JSON (.jsonl, .ndjson, .json) or .txt files, also compressed, or patterns that find only
            those.
        columns_of_items: Where their texts stand; a list of tokens is joined. A record may lack some, a file not all.
        words: Words of a run.
        overlap: Share of an item's runs that must be found, in (0, 1].
        items: How many items, of different words, must overlap before a document goes: more than 1 spares stock phrases.
    """

    paths: tuple[str, ...]
    columns_of_items: tuple[str, ...] = ("text", "tokens", "text_a", "text_b", "question", "sentence")
    words: int = 13
    overlap: float = 0.5
    items: int = 1

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("paths is empty, expected evaluation sets")
        if self.words < 1 or self.items < 1 or not 0 < self.overlap <= 1:
            raise ValueError("expected words and items of at least 1 and an overlap in (0, 1]")

    def inputs(self) -> list[Path]:
        return sorted({file for path in self.paths for file in self._files(path)})

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Builds the index. Raises DataError: a path leads to no file, or to no item."""
        files = self.inputs()
        names, sizes, keys, owners, short = [], [], [], [], 0
        known = set()
        for file in files:
            for name, text in _items(file, self.columns_of_items):
                runs = np.unique(shingles(word_hashes(text), self.words))
                if not len(runs):
                    short += 1
                    continue
                if (text_hash := xxhash.xxh3_128_digest(runs.tobytes())) in known:
                    continue  # the same words in another column or task are not a second item
                known.add(text_hash)
                keys.append(runs)
                owners.append(np.full(len(runs), len(names), np.uint32))
                sizes.append(len(runs))
                names.append(f"{file.parent.name}/{file.name}: {name}")
        if not names:
            raise DataError(
                f"{self.paths[0]}: no item of {self.words} words or more in {', '.join(self.columns_of_items)}"
            )
        key, owner = np.concatenate(keys), np.concatenate(owners)
        order = np.argsort(key, kind="stable")
        np.savez(folder / INDEX, key=key[order], owner=owner[order], size=np.array(sizes, np.uint32))
        (folder / ITEMS).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
        return {"evaluation_files": len(files), "items": len(names), "items_too_short": short}

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        key, owner, size, names = _load(report.folder, (report.folder / INDEX).stat().st_mtime_ns)
        for document in documents:
            runs = np.unique(shingles(word_hashes(document.text), self.words))
            left, right = (np.searchsorted(key, runs, side=side) for side in ("left", "right"))
            found: Counter[int] = Counter()
            for start, end in zip(left[right > left], right[right > left], strict=True):
                found.update(owner[start:end].tolist())
            shares = {item: n / int(size[item]) for item, n in found.items()}
            over = {item: share for item, share in shares.items() if share >= self.overlap}
            if len(over) < self.items:
                yield document
                continue
            worst = max(over, key=lambda item: (over[item], -item))
            report.dropped["overlaps an evaluation item"] += 1
            report.removals.append({
                "id": document.id, "because_of": names[worst], "share_of_item": round(over[worst], 3), "items": len(over),
            })  # fmt: skip

    @staticmethod
    def _files(given: str) -> list[Path]:
        found = [Path(given)] if Path(given).is_file() else files_of_pattern(given)
        found = [path for path in found if path.is_file()]
        if not found:
            raise DataError(f"{given}: no evaluation set there, expected {' or '.join(FORMATS)} files ({COMPRESSED})")
        for path in found:
            if format_of(path) not in FORMATS:
                raise DataError(f"{path}: no evaluation set, expected {' or '.join(FORMATS)} ({COMPRESSED})")
        return found


def _items(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, text). An evaluation set must be whole: a line or file that cannot be read is an error."""
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
    del written  # part of the key: a later preparation of this process may lie in the same folder
    with np.load(folder / INDEX) as index:
        return index["key"], index["owner"], index["size"], json.loads((folder / ITEMS).read_text(encoding="utf-8"))
