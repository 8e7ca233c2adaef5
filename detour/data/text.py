"""Reading documents from text files, one at a time and in bounded memory.

A ``.jsonl`` file holds one JSON object a line; a ``.txt`` file is one document. Either may be compressed (``.gz``,
``.zst``). Lines that cannot be used are counted and remembered by file and line, never silently dropped.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from detour.errors import DataError

FORMATS = (".jsonl", ".txt")
CHUNK_BYTES = 1 << 18
ZSTD_WINDOW_BYTES = 1 << 27  # what `zstd --long` writes; a reader refuses over 8 MiB unless told
EXAMPLES_KEPT = 5


class Document(NamedTuple):
    """One document: its text, its name (the ``id`` column, or ``file:line``), its licence if known, its file."""

    text: str
    id: str
    licence: str | None
    path: Path


@dataclass
class ReadReport:
    """What a read saw, filled in while it runs.

    Attributes:
        documents: Documents handed out.
        bytes_read: Bytes taken from the disk (compressed, where the file is), for progress bars.
        skipped: Lines not handed out, counted by reason.
        examples: ``file:line`` of the first few lines skipped, by reason.
    """

    documents: int = 0
    bytes_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, where: str) -> None:
        """Counts a line that was not used, and keeps its place if it is among the first with this reason."""
        self.skipped[reason] += 1
        if self.skipped[reason] <= EXAMPLES_KEPT:
            self.examples.setdefault(reason, []).append(where)


def find_files(inputs: Sequence[str | Path]) -> list[Path]:
    """The files named, in order, each folder replaced by the readable files under it, sorted.

    Raises:
        DataError: A path does not exist, a file's format is unknown, a folder holds no readable file, or a file is
            named twice.
    """
    files: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _format_of(p))
            if not found:
                raise DataError(f"{path}: no {' or '.join(FORMATS)} file (also .gz, .zst) in this folder")
            files += found
        elif not path.exists():
            raise DataError(f"{path}: no such file or folder")
        elif not _format_of(path):
            raise DataError(f"{path}: unknown format, expected {' or '.join(FORMATS)}, also with .gz or .zst")
        else:
            files.append(path)
    if twice := [str(path) for path, n in Counter(path.resolve() for path in files).items() if n > 1]:
        raise DataError(f"{twice[0]}: named twice among the inputs")
    return files


def read_documents(
    paths: Iterable[str | Path],
    *,
    text_column: str = "text",
    strict: bool = False,
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """The documents of the files, in order. Memory: one line, or one ``.txt`` file, at a time.

    Args:
        paths: Files, as `find_files` returns them.
        text_column: Key of the text in a JSON line. ``id`` and ``licence`` or ``license`` are read where present.
        strict: Stop at the first line that cannot be used; an empty text is none of these, it is only counted.
        report: Filled in on the way.

    Raises:
        DataError: A file cannot be opened, is cut short or damaged as a whole, or (strict) holds an unusable line.
    """
    report = ReadReport() if report is None else report
    for path in map(Path, paths):
        for where, data in _records(path, report):
            try:
                document = _parse(data, where, path, text_column)
            except _UnusableLineError as problem:
                if strict:
                    raise DataError(f"{where}: {problem}") from None
                report.skip(str(problem), where)
                continue
            if not document.text.strip():
                report.skip("empty text", where)
                continue
            report.documents += 1
            yield document


class _UnusableLineError(Exception):
    """Why a line was not used, in words that group well."""


def _parse(data: bytes, where: str, path: Path, text_column: str) -> Document:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _UnusableLineError("not valid UTF-8") from None
    if _format_of(path) == ".txt":
        return Document(text, path.name, None, path)
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise _UnusableLineError("not valid JSON") from None
    if not isinstance(record, dict) or text_column not in record:
        raise _UnusableLineError(f"no '{text_column}' column")
    if not isinstance(record[text_column], str):
        raise _UnusableLineError(f"'{text_column}' is not a string")
    try:
        record[text_column].encode()
    except UnicodeEncodeError:  # JSON may spell half a surrogate pair, which no tokenizer takes
        raise _UnusableLineError(f"'{text_column}' holds a lone surrogate") from None
    licence = record.get("licence", record.get("license"))
    licence = None if licence is None else str(licence)
    return Document(record[text_column], str(record.get("id", where)), licence, path)


def _records(path: Path, report: ReadReport) -> Iterator[tuple[str, bytes]]:
    """(``file`` or ``file:line``, bytes) of each record; blank lines are passed over."""
    try:
        with path.open("rb") as raw:
            chunks = _count_bytes(_chunks(raw, path.suffix), raw, report)
            if _format_of(path) == ".txt":
                yield str(path), b"".join(chunks)
                return
            for number, line in enumerate(_lines(chunks), start=1):
                if line.strip():
                    yield f"{path}:{number}", line
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _count_bytes(chunks: Iterator[bytes], raw: BinaryIO, report: ReadReport) -> Iterator[bytes]:
    before = report.bytes_read
    for chunk in chunks:
        report.bytes_read = before + raw.tell()
        yield chunk


def _chunks(raw: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The file's content, decompressed."""
    if suffix == ".zst":
        yield from _zstd_chunks(raw)
    else:
        stream = gzip.GzipFile(fileobj=raw) if suffix == ".gz" else raw
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _zstd_chunks(raw: BinaryIO) -> Iterator[bytes]:
    """Frame after frame. Unlike zstandard's own stream reader, does not take a file cut short for a whole one."""
    library = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = None
    while data := raw.read(CHUNK_BYTES):
        while data:
            frame = frame or library.decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the file ends in the middle of a zstd frame")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _format_of(path: Path) -> str | None:
    suffixes = path.suffixes[-2:]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None
