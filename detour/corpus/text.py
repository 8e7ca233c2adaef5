"""Reading documents from text files, one at a time and in bounded memory.

A ``.jsonl`` file holds one JSON object a line; a ``.txt`` file is one document. Either may be compressed (``.gz``,
``.zst``). Lines that cannot be used are counted and remembered by file and line, never silently dropped.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import zstandard

from detour.errors import DataError, UnreachableError

FORMATS = (".jsonl", ".txt")
CHUNK_BYTES = 1 << 18
ZSTD_STEP_BYTES = 1 << 10  # decompressed at once: comes to at most 32 MiB
ZSTD_PIECE_BYTES = 1 << 11  # compressed; a block of four bytes may hold 128 KiB
ZSTD_WINDOW_BYTES = 1 << 27  # what `zstd --long` writes; a reader refuses over 8 MiB unless told
MAX_RECORD_BYTES = 1 << 25  # a longer line, file or field is no document of a healthy corpus, and costs 30x in memory
EXAMPLES_KEPT = 5
TOO_LONG = f"longer than {MAX_RECORD_BYTES >> 20} MiB"
HARMLESS = ("empty text", "empty file", "no abstract")  # counted, but no reason for a strict read to stop


class Document(NamedTuple):
    """One document: its text, its name (the ``id`` column, or ``file:line``), its license if known, its file.

    ``metadata`` holds the further columns that were asked for, as they were read; ``repeats`` says how many copies of
    it go into the training rows.
    """

    text: str
    id: str
    license: str | None
    path: Path
    language: str | None = None
    metadata: Mapping[str, Any] | None = None
    repeats: int = 1


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a record hold what; a column that is absent from a record is passed over, except the text's.

    ``more_text`` columns follow the text as paragraphs of their own, where they hold any: an instruction's answer.
    ``named`` are columns that a table must have besides the text's, because its config names them.
    """

    text: str = "text"
    more_text: tuple[str, ...] = ()
    id: str = "id"
    language: str = "language"
    license: tuple[str, ...] = ("license", "license")
    metadata: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def check_header(self, header: Sequence[str], where: str) -> None:
        """Raises DataError if a table with this header lacks a column that it must have."""
        for column in (self.text, *self.named):
            if column not in header:
                raise DataError(f"{where}: no '{column}' column, found {', '.join(header[:8])}")

    def document(self, record: Any, *, name: str, path: Path) -> Document:
        """The record as a document; ``name`` is its id if it has none. Raises UnusableRecordError."""
        if not isinstance(record, Mapping) or self.text not in record:
            raise UnusableRecordError(f"no '{self.text}' column")
        text = record[self.text]
        if not isinstance(text, str):
            raise UnusableRecordError(f"'{self.text}' is not a string")
        further = [record[key] for key in self.more_text if isinstance(record.get(key), str) and record[key].strip()]
        text = "\n\n".join([text, *further])
        given = record.get(self.id)
        license = next((record[key] for key in self.license if record.get(key) is not None), None)
        language = record.get(self.language)
        document = Document(
            text=text,
            id=name if given is None or not str(given).strip() else str(given),
            license=None if license is None else str(license),
            path=path,
            language=None if language is None else str(language),
            metadata={key: record[key] for key in self.metadata if key in record} or None,
        )
        _refuse_half_pairs(document, self.text)
        return document


def _refuse_half_pairs(document: Document, text_column: str) -> None:
    """JSON may spell half a surrogate pair, which no tokenizer and no file takes. Raises UnusableRecordError."""
    try:
        document.text.encode()
    except UnicodeEncodeError:
        raise UnusableRecordError(f"'{text_column}' holds a lone surrogate") from None
    beside = [document.id, document.license, document.language, document.metadata]
    try:
        json.dumps(beside, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UnusableRecordError("a column beside the text holds a lone surrogate") from None


class UnusableRecordError(Exception):
    """Why a line, row or file was not used, in words that group well."""


@dataclass
class ReadReport:
    """What a read saw, filled in while it runs.

    Attributes:
        documents: Documents handed out.
        bytes_read: Bytes taken from the disk (compressed, where the file is), for progress bars.
        skipped: Lines not handed out, counted by reason.
        examples: ``file:line`` of the first few lines skipped, by reason.
        strict: Whether the first unusable line is an error.
    """

    documents: int = 0
    bytes_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    strict: bool = False

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


def find_files(inputs: Sequence[str | Path]) -> list[Path]:
    """The files named, in order, each folder replaced by the readable files under it, sorted.

    Raises:
        DataError: A path does not exist, a file's format is unknown, a folder holds no readable file, or a file is
            named twice.
    """
    files: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and format_of(p) in FORMATS)
            if not found:
                raise DataError(f"{path}: no {' or '.join(FORMATS)} file (also .gz, .zst) in this folder")
            files += found
        elif not path.exists():
            raise DataError(f"{path}: no such file or folder")
        elif format_of(path) not in FORMATS:
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
        text_column: Key of the text in a JSON line. ``id`` and ``license`` or ``license`` are read where present.
        strict: Stop at the first line that cannot be used; an empty text is none of these, it is only counted.
        report: Filled in on the way.

    Raises:
        DataError: A file cannot be opened, is cut short or damaged as a whole, or (strict) holds an unusable line.
    """
    report = ReadReport() if report is None else report
    report.strict = report.strict or strict
    columns = Columns(text=text_column)
    for path in map(Path, paths):
        for where, data in raw_records(path, report):
            try:
                if format_of(path) == ".txt":
                    document = Document(decoded(data), path.name, None, path)
                else:
                    document = columns.document(parsed(data), name=where, path=path)
            except UnusableRecordError as problem:
                report.skip(str(problem), where)
                continue
            if not document.text.strip():
                report.skip("empty text", where)
                continue
            report.documents += 1
            yield document


def decoded(data: bytes) -> str:
    """The bytes as UTF-8 text. Raises UnusableRecordError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableRecordError("not valid UTF-8") from None


def parsed(data: bytes) -> Any:
    """The bytes as JSON. Raises UnusableRecordError."""
    try:
        return json.loads(decoded(data))
    except (ValueError, RecursionError):  # a number of over 4300 digits is a plain ValueError
        raise UnusableRecordError("not valid JSON") from None


def raw_records(path: Path, report: ReadReport) -> Iterator[tuple[str, bytes]]:
    """(``file`` or ``file:line``, bytes) of each record: a line, or a whole ``.txt``; blank lines are passed over.

    A line of more than MAX_RECORD_BYTES is counted as skipped, and never held in memory.
    """
    for number, line in numbered_lines(path, report):
        where = str(path) if format_of(path) == ".txt" else f"{path}:{number}"
        if line is None:
            report.skip(TOO_LONG, where)
        elif line.strip() or format_of(path) == ".txt":
            yield where, line


def numbered_lines(path: Path, report: ReadReport) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, bytes) of each line, or of a whole ``.txt``; None for one of more than MAX_RECORD_BYTES.

    A byte order mark at the beginning is left out.
    """
    lines = _lines(read_chunks(path, report)) if format_of(path) != ".txt" else _whole(read_chunks(path, report))
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
            for chunk in _count_bytes(_chunks(raw, path.suffix), raw, report):
                lines += chunk.count(b"\n")
                yield chunk
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        failed = isinstance(error, OSError) and error.errno is not None  # gzip's complaints of content have no number
        raise (UnreachableError if failed else DataError)(
            f"{path}: cannot be read after line {lines}: {error}"
        ) from error


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
    """Frame after frame. Unlike zstandard's own stream reader, does not take a file cut short for a whole one.

    A few bytes may stand for a great many, so little is fed at a time: no chunk is longer than about 64 MiB.
    """
    library = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = None
    while data := raw.read(ZSTD_STEP_BYTES):
        left = memoryview(data)
        while left:
            frame = frame or library.decompressobj()
            yield frame.decompress(left[:ZSTD_PIECE_BYTES])
            unused = len(frame.unused_data) if frame.eof else 0
            left = left[len(left[:ZSTD_PIECE_BYTES]) - unused :]
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the file ends in the middle of a zstd frame")


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


def sha256_of(path: Path) -> str:
    """Of the file's bytes, as they are on the disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def format_of(path: Path) -> str:
    """The last suffix but that of a compression, in small letters: ``.jsonl`` of ``a.jsonl.gz``; may be empty."""
    suffixes = path.suffixes[-2:]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return suffixes[-1].lower() if suffixes else ""
