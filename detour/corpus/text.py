"""Reading documents from text files, one at a time and in bounded memory.

A ``.jsonl`` file (also ``.ndjson``, ``.json``) holds one JSON object a line, an array of objects, or objects over several
lines; a ``.txt`` file is one document. Either may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``). What cannot be
used is counted and remembered by file and line, never silently dropped.
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
from detour.corpus.json_values import HEAD_BYTES, RepeatedKeyError, is_one_a_line, load_json_value, spread_values
from detour.errors import DataError, UnreachableError

MAX_RECORD_BYTES = 1 << 25  # a longer line, file or field is no document of a healthy corpus, and costs 30x in memory
EXAMPLES_KEPT = 5
TOO_LONG = f"longer than {MAX_RECORD_BYTES >> 20} MiB"
HARMLESS = (  # counted, but no reason for a strict read to stop
    "empty text", "empty file", "no abstract", "a book record, no article", "revised by a later record",
    "deleted by a later update",
)  # fmt: skip


@dataclass
class ReadReport:
    """What a read saw, filled in while it runs.

    Attributes:
        documents: Documents handed out.
        bytes_read: Bytes taken from the disk (compressed, where the file is), for progress bars.
        skipped: Lines not handed out, counted by reason.
        examples: ``file:line`` of the first few lines skipped, by reason.
        passed_over: Files that a folder holds and that are of no kind that is read.
        revisions: Of records that later ones may replace: (key, version, whether it is deleted, documents before it).
        strict: Whether the first unusable line or file is an error.
    """

    documents: int = 0
    bytes_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    revisions: list[tuple[int, int, bool, int]] = field(default_factory=list)
    strict: bool = False

    def revise(self, key: int, version: int, *, deleted: bool = False) -> None:
        """Notes that the documents from here to the next call are all that there is, or is not any more, of a record."""
        self.revisions.append((key, version, deleted, self.documents))

    def skip(self, reason: str, where: str) -> None:
        """Counts a line that was not used, and keeps its place if it is among the first with this reason.

        Raises:
            DataError: The read is strict and the reason is a fault of the line.
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
) -> Iterator[Document]:
    """The documents of the files, in order. Memory: one line, or one ``.txt`` file, at a time.

    Args:
        paths: Files, as `find_files` returns them.
        text_column: Key of the text in a JSON object. ``id`` and ``license`` or ``license`` are read where present.
        encoding: Of the files.
        strict: Stop at the first line that cannot be used; an empty text is none of these, it is only counted.
        report: Filled in on the way.

    Raises:
        DataError: A file cannot be opened, is cut short or damaged as a whole, or (strict) holds an unusable line.
    """
    report = ReadReport() if report is None else report
    report.strict = report.strict or strict
    columns = Columns(text=text_column)
    for path in map(Path, paths):
        for where, document in _documents_of(path, columns, report, encoding):
            if not document.text.strip():
                report.skip("empty text", where)
                continue
            report.documents += 1
            yield document


def _documents_of(path: Path, columns: Columns, report: ReadReport, encoding: str) -> Iterator[tuple[str, Document]]:
    whole = format_of(path) == ".txt"
    for where, record in raw_records(path, report, encoding) if whole else json_records(path, report, encoding):
        try:
            if whole:
                yield where, Document(decoded(record, encoding), path.name, None, path)
            else:
                yield where, columns.document(record, name=where, path=path)
        except UnusableRecordError as problem:
            report.skip(str(problem), where + problem.detail)


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """The bytes as text: UTF-8, whatever encoding they had in their file, which an error names.

    Raises:
        UnusableRecordError: They are none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        name = "UTF-8" if codecs.lookup(encoding).name in UTF_8 else encoding
        raise UnusableRecordError(f"not valid {name}") from None


def parsed(data: bytes, encoding: str = "utf-8") -> Any:
    """The bytes as JSON; arguments as those of `decoded`. Raises UnusableRecordError."""
    try:
        return load_json_value(decoded(data, encoding))
    except RepeatedKeyError as error:
        raise UnusableRecordError(str(error)) from None
    except (ValueError, RecursionError):  # a number of over 4300 digits is a plain ValueError
        if b"\r" in data.strip():
            raise UnusableRecordError("not valid JSON; are its lines ended by carriage returns alone?") from None
        raise UnusableRecordError("not valid JSON") from None


def json_records(path: Path, report: ReadReport, encoding: str = "utf-8") -> Iterator[tuple[str, Any]]:
    """(``file:number``, value) of each JSON value of a file.

    A file with one value a line gives the number of the line. One that holds an array, or values over several lines,
    gives their number, and an array's elements one by one. What cannot be used is reported.

    Raises:
        DataError: As `read_chunks` and `as_utf8`; or a value that is not one of the lines is no JSON.
    """
    chunks, head = as_utf8(read_chunks(path, report), encoding, path), b""
    while len(head.lstrip()) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
        head += chunk
    chunks = chain([head], chunks)
    if not head:
        report.skip("empty file", str(path))
    elif is_one_a_line(head):
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
        for number, value in spread_values(chunks, path, MAX_RECORD_BYTES):
            if isinstance(value, Exception):
                report.skip(str(value), f"{path}:{number}")
            else:
                yield f"{path}:{number}", value


def raw_records(path: Path, report: ReadReport, encoding: str = "utf-8") -> Iterator[tuple[str, bytes]]:
    """(``file`` or ``file:line``, UTF-8) of each record: a line, or a whole ``.txt``; blank lines are passed over.

    A line of more than MAX_RECORD_BYTES is counted as skipped, and never held in memory.
    """
    for number, line in numbered_lines(path, report, encoding):
        where = str(path) if format_of(path) == ".txt" else f"{path}:{number}"
        if line is None:
            report.skip(TOO_LONG, where)
        elif line.strip() or format_of(path) == ".txt":
            yield where, line


def numbered_lines(
    path: Path, report: ReadReport, encoding: str = "utf-8", *, whole: bool | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, UTF-8) of each line, or of a whole file; None for one of more than MAX_RECORD_BYTES.

    A byte order mark at the beginning is left out.

    Args:
        path: The file.
        report: Told of an empty file.
        encoding: Of the file.
        whole: Whether it comes as a whole; left out, a ``.txt`` does.
    """
    chunks = as_utf8(read_chunks(path, report), encoding, path)
    whole = format_of(path) == ".txt" if whole is None else whole
    lines = _whole(chunks) if whole else _lines(chunks)
    number = 0
    for number, line in enumerate(lines, start=1):
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 and line else line
    if not number:
        report.skip("empty file", str(path))


def read_chunks(path: Path, report: ReadReport) -> Iterator[bytes]:
    """The file's content, decompressed.

    Raises:
        DataError: It is cut short or damaged.
        UnreachableError: The system refuses to read it, or fails to.
    """
    lines = 0
    try:
        with path.open("rb") as raw:
            before = report.bytes_read
            for chunk in decompressed(raw, path.suffix):
                report.bytes_read = before + raw.tell()
                lines += chunk.count(b"\n")
                yield chunk
    except COMPRESSION_ERRORS as error:
        failed = isinstance(error, OSError) and error.errno is not None  # gzip's complaints of content have no number
        raise (UnreachableError if failed else DataError)(
            f"{path}: cannot be read after line {lines}: {error}"
        ) from error


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Lines, and None for one that is too long."""
    parts: list[bytes] = []  # of a line that goes on; joined once, so that a long one costs its length
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


def _whole(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        parts = [*parts, chunk] if size <= MAX_RECORD_BYTES else []
    if size:
        yield None if size > MAX_RECORD_BYTES else b"".join(parts)
