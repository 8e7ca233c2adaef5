"""Intermediate files of a preparation. Each is written atomically, so a killed run resumes from the finished ones."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard

from detour.corpus.document import Document
from detour.files import atomic_write


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file atomically."""
    with atomic_write(path) as file:
        np.save(file, array)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an .npz file atomically."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_json(path: Path) -> Any:
    """The parsed content of a file that this preparation wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def save_documents(path: Path, documents: Iterable[Document]) -> None:
    """Writes documents as zstd-compressed JSON lines, without their ``path``: all documents of a shard share one source."""
    with atomic_write(path) as file, zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as packed:
        for document in documents:
            record = document._asdict()
            del record["path"]
            packed.write(json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n")


def load_documents(path: Path) -> Iterator[Document]:
    """The documents that `save_documents` wrote, one at a time."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as packed:
        for line in io.TextIOWrapper(packed, encoding="utf-8", newline="\n"):
            yield Document(**json.loads(line), path=path)


def append_jsonl(file: IO[bytes], records: Iterable[Any]) -> None:
    """Appends records to an open file as JSON lines."""
    file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
