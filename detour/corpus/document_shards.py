"""Parts of a corpus on their way: files that are there whole or not at all, so that a killed run goes on from them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard

from detour.corpus.text import Document


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name only once it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_json(path: Path, record: Any) -> None:
    """Writes JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an .npz, whole or not at all."""
    with whole_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def save_documents(path: Path, documents: Iterable[Document]) -> None:
    """Writes documents as compressed JSON lines. Their path is not kept: a part has one source."""
    with whole_file(path) as file, zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as packed:
        for document in documents:
            record = document._asdict()
            del record["path"]
            packed.write(json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n")


def load_documents(path: Path) -> Iterator[Document]:
    """The documents of `save_documents`, one at a time."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as packed:
        for line in io.TextIOWrapper(packed, encoding="utf-8", newline="\n"):
            yield Document(**json.loads(line), path=path)


def append_jsonl(file: IO[bytes], records: Iterable[Any]) -> None:
    """Adds records to a file of JSON lines."""
    file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
