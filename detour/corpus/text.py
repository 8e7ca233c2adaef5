"""Reads documents from text files, one at a time and in bounded memory.

A ``.jsonl`` file (also ``.ndjson``, ``.json``) holds one JSON object per line, an array of objects, or objects that span
lines; a ``.txt`` file is one document. Both may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``). Unusable records are
counted by reason, with file and line of the first ones, never silently dropped.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from detour.corpus.compression import ERRORS as COMPRESSION_ERRORS
from detour.corpus.compression import decompressed
from detour.corpus.document import Columns, Document, UnusableRecordError
from detour.corpus.encoding import UTF_8, as_utf8
from detour.corpus.input_files import COMPRESSED as COMPRESSED
from detour.corpus.input_files import FORMATS as FORMATS
from detour.corpus.input_files import find_files as find_files
from detour.corpus.input_files import format_of
from detour.corpus.json_values import HEAD_BYTES, RepeatedKeyError, is_one_per_line, load_json_value, multiline_values
from detour.errors import DataError, UnreachableError

MAX_RECORD_BYTES = 1 << 25  # per line, file or field; tokenizing takes 30x in memory
EXAMPLES_KEPT = 5
TOO_LONG = f"longer than {MAX_RECORD_BYTES >> 20} MiB"
HARMLESS = (  # counted, but accepted by a strict read
    "empty text", "empty file", "no abstract", "a book record, no article", "revised by a later record",
    "deleted by a later update",
)  # fmt: skip


@dataclass
class ReadReport:
    """Counts of a read, updated while it runs.

    Attributes:
        documents: Documents yielded.
        bytes_read: Bytes read from disk, before decompression, for progress bars.
        skipped: Records not yielded, counted by reason.
        examples: ``file:line`` of the first skipped records, by reason.
        ignored_files: Files of the folders that are in no readable format.
        revisions: For readers whose records later ones may replace: (key, version, whether it is a deletion, documents
            yielded before the record).
        strict: Whether the first unusable record or file is an error.
        most_bytes: Read no more of a file than about so many bytes on disk, up to the end of a line; None reads it all.
    """

    documents: int = 0
    bytes_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    ignored_files: list[str] = field(default_factory=list)
    revisions: list[tuple[int, int, bool, int]] = field(default_factory=list)
    strict: bool = False
    most_bytes: int | None = None

    def revise(self, key: int, version: int, *, deleted: bool = False) -> None:
        """Begins a record: the documents yielded until the next call belong to it. A deletion has no documents."""
        self.revisions.append((key, version, deleted, self.documents))

    def skip(self, reason: str, where: str) -> None:
        """Counts a record that is not used, and keeps its location if it is among the first with this reason.

        Args:
            reason: Why it is not used.
            where: ``file:line``.

        Raises:
            DataError: The read is strict and the reason is not in HARMLESS.
        """
        if self.strict and reason not in HARMLESS:
            raise DataError(f"{where}: {reason}")
        self.skipped[reason] += 1
        if self.skipped[reason] <= EXAMPLES_KEPT:
            self.examples.setdefault(reason, []).append(where)


def read_documents(
    paths: Iterable[str | Path],
    *,
    text_column: str = "text",
    encoding: str = "utf-8",
    strict: bool = False,
    report: ReadReport | None = None,
    metadata: tuple[str, ...] = (),
) -> Iterator[Document]:
    """Yields the documents of the files, in order. Memory: one line or one ``.txt`` file.

    Args:
        paths: Files, as `find_files` returns them.
        text_column: Key of the text in a JSON object. ``id`` and ``license`` (or ``licence``) are read where present.
        encoding: Encoding of the files.
        strict: Raise at the first unusable record; an empty text is only counted.
        report: Updated while reading.
        metadata: Further keys of a JSON object to read, for `Document.metadata`.

    Raises:
        DataError: A file cannot be opened, is truncated or damaged, or (strict) holds an unusable record.
    """
    report = ReadReport() if report is None else report
    report.strict = report.strict or strict
    columns = Columns(text=text_column, metadata=metadata)
    for path in map(Path, paths):
        for where, document in _documents_of(path, columns, report, encoding):
            if not document.text.strip():
                report.skip("empty text", where)
                continue
            report.documents += 1
            yield document


def _documents_of(path: Path, columns: Columns, report: ReadReport, encoding: str) -> Iterator[tuple[str, Document]]:
    is_text = format_of(path) == ".txt"
    for where, record in raw_records(path, report, encoding) if is_text else json_records(path, report, encoding):
        try:
            if is_text:
                yield where, Document(decoded(record, encoding), path.name, None, path)
            else:
                yield where, columns.document(record, name=where, path=path)
        except UnusableRecordError as problem:
            report.skip(str(problem), where + problem.detail)


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """Decodes UTF-8.

    Args:
        data: The bytes, after `as_utf8`.
        encoding: Encoding of the file, for the error.

    Raises:
        UnusableRecordError: The bytes are not valid.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        name = "UTF-8" if codecs.lookup(encoding).name in UTF_8 else encoding
        raise UnusableRecordError(f"not valid {name}") from None


def parsed(data: bytes, encoding: str = "utf-8") -> Any:
    """Parses a JSON value; arguments as in `decoded`. Raises UnusableRecordError."""
    try:
        return load_json_value(decoded(data, encoding))
    except RepeatedKeyError as error:
        raise UnusableRecordError(str(error)) from None
    except (ValueError, RecursionError):  # a number of over 4300 digits is a plain ValueError
        if b"\r" in data.strip():
            raise UnusableRecordError("not valid JSON; do its lines end in carriage returns only?") from None
        raise UnusableRecordError("not valid JSON") from None


def json_records(path: Path, report: ReadReport, encoding: str = "utf-8") -> Iterator[tuple[str, Any]]:
    """Yields (``file:number``, value) for each JSON value of a file; unusable ones are counted in the report.

    The number is that of the line if the file has one value per line, else that of the value. An array yields its
    elements.

    Raises:
        DataError: See `read_chunks` and `as_utf8`; or, in a file without one value per line, something is not JSON.
    """
    chunks, head = as_utf8(read_chunks(path, report), encoding, path), b""
    while len(head.lstrip()) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
        head += chunk
    chunks = chain([head], chunks)
    if not head:
        report.skip("empty file", str(path))
    elif is_one_per_line(head):
        for number, line in enumerate(_lines(chunks), start=1):
            where = f"{path}:{number}"
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 and line else line
            if line is None:
                report.skip(TOO_LONG, where)
            elif line.strip():
                try:
                    yield where, parsed(line, encoding)
                except UnusableRecordError as problem:
                    report.skip(str(problem), where)
    else:
        for number, value in multiline_values(chunks, path, MAX_RECORD_BYTES):
            if isinstance(value, Exception):
                report.skip(str(value), f"{path}:{number}")
            else:
                yield f"{path}:{number}", value


def raw_records(path: Path, report: ReadReport, encoding: str = "utf-8") -> Iterator[tuple[str, bytes]]:
    """Yields (``file`` or ``file:line``, UTF-8) for each record: a line that is not blank, or an entire ``.txt`` file.

    A line of more than MAX_RECORD_BYTES is counted as skipped and never held in memory.
    """
    for number, line in numbered_lines(path, report, encoding):
        where = str(path) if format_of(path) == ".txt" else f"{path}:{number}"
        if line is None:
            report.skip(TOO_LONG, where)
        elif line.strip() or format_of(path) == ".txt":
            yield where, line


def numbered_lines(
    path: Path, report: ReadReport, encoding: str = "utf-8", *, entire: bool | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Yields (number from 1, UTF-8) for each line or for the entire file; None for more than MAX_RECORD_BYTES.

    A byte order mark at the beginning is removed.

    Args:
        path: The file.
        report: Counts an empty file as skipped.
        encoding: Encoding of the file.
        entire: Yield the entire file instead of lines; the default for ``.txt`` files.
    """
    chunks = as_utf8(read_chunks(path, report), encoding, path)
    entire = format_of(path) == ".txt" if entire is None else entire
    lines = _entire(chunks) if entire else _lines(chunks)
    number = 0
    for number, line in enumerate(lines, start=1):
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 and line else line
    if not number:
        report.skip("empty file", str(path))


def read_chunks(path: Path, report: ReadReport) -> Iterator[bytes]:
    """Yields the file's content, decompressed, and updates ``report.bytes_read``.

    Raises:
        DataError: The file is truncated or damaged.
        UnreachableError: The operating system cannot read it.
    """
    lines = 0
    try:
        with path.open("rb") as raw:
            before, size = report.bytes_read, path.stat().st_size
            for chunk in decompressed(raw, path.suffix):
                report.bytes_read = before + raw.tell()
                if report.most_bytes and report.most_bytes <= raw.tell() < size:
                    yield chunk[: chunk.rfind(b"\n") + 1]
                    return
                lines += chunk.count(b"\n")
                yield chunk
    except COMPRESSION_ERRORS as error:
        failed = isinstance(error, OSError) and error.errno is not None  # gzip's own errors have no errno
        raise (UnreachableError if failed else DataError)(
            f"{path}: cannot be read after line {lines}: {error}"
        ) from error


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yields lines, and None for a line that is too long."""
    parts: list[bytes] = []  # of the current line; joined once, so the cost is linear in its length
    size = 0
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield None if size + len(end) > MAX_RECORD_BYTES else b"".join([*parts, end])
            parts, size = [], 0
        size += len(rest)
        parts = [*parts, rest] if size <= MAX_RECORD_BYTES else []
    if size:
        yield None if size > MAX_RECORD_BYTES else b"".join(parts)


def _entire(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        parts = [*parts, chunk] if size <= MAX_RECORD_BYTES else []
    if size:
        yield None if size > MAX_RECORD_BYTES else b"".join(parts)
