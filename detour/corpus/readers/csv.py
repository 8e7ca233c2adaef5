"""Reader of CSV and TSV tables with a header."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import InputFile, TextReader, documents_of, register
from detour.corpus.text import (
    MAX_RECORD_BYTES,
    TOO_LONG,
    Columns,
    Document,
    ReadReport,
    UnusableRecordError,
    decoded,
    numbered_lines,
)
from detour.errors import DataError

SEPARATOR = re.compile("sep=(.)")  # a first line that Excel reads and writes


@register("csv")
@dataclass(frozen=True, kw_only=True)
class Csv(TextReader):
    """Reads ``.csv`` and ``.tsv`` files, also compressed. Quoted fields may contain line breaks.

    A row with invalid quoting is counted as skipped, and reading resumes at the second line of the row.

    Attributes:
        delimiter: Field delimiter; empty means that of a first line ``sep=;``, or else a tab for .tsv and a comma otherwise.
        quoted: Whether ``"`` quotes fields; set to false for tab-separated files in which it is an ordinary character.
    """

    suffixes = (".csv", ".tsv")
    delimiter: str = ""
    quoted: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delimiter) > 1:
            raise ValueError(f"delimiter is {self.delimiter!r}, expected one character")

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        yield from documents_of(self._rows(file, columns, report), file, columns, report)

    def _rows(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[tuple[str, dict[str, str]]]:
        csv.field_size_limit(MAX_RECORD_BYTES)
        delimiter = self.delimiter or ("\t" if ".tsv" in file.path.name.lower() else ",")
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        lines = _Lines(file, report, self.encoding)
        try:
            table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
            header = next((row for row in table if any(row)), None)
            if header and (declared := SEPARATOR.fullmatch(delimiter.join(header))):
                delimiter = self.delimiter or declared[1]
                table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
                header = next((row for row in table if any(row)), None)
        except csv.Error as error:
            why = (
                "its lines end in carriage returns only; save it with line feeds" if "new-line" in str(error) else error
            )
            raise DataError(f"{file.path}:1: not a table header: {why}") from None
        if header is None:
            return
        other = _other_delimiter(delimiter.join(header), columns.text)
        if columns.text not in header and other == delimiter:
            raise DataError(
                f"{file.path}:1: no '{columns.text}' column, found {', '.join(map(repr, header[:8]))}: there are spaces or "
                "quotes around the names; name the columns as they are, or remove them"
            )
        if columns.text not in header and other:
            raise DataError(
                f"{file.path}:1: no '{columns.text}' column, found {', '.join(header[:8])}; its fields are separated by "
                f"{other!r}, so set options: {{delimiter: {other!r}}}"
            )
        columns.check_header(header, f"{file.path}:1")
        while True:
            lines.begin_row()
            try:
                row = next(table, None)
            except csv.Error as error:
                report.skip(lines.fault or f"invalid table row: {error}", f"{file.path}:{lines.begins}")
                lines.give_back()
                continue
            if row is None:
                return
            if lines.fault:
                report.skip(lines.fault, f"{file.path}:{lines.fault_at}")
            elif len(row) == len(header):
                yield str(lines.begins), dict(zip(header, row, strict=True))
            elif any(field.strip() for field in row):
                report.skip("number of fields differs from the header", f"{file.path}:{lines.begins}")


class _Lines:
    """Line iterator for the csv module that remembers the lines of the current row and the first undecodable one.

    Attributes:
        fault: Why the row cannot be used; empty if it can. The line is still passed on, so that quotes stay paired.
        fault_at: Number of that line.
    """

    def __init__(self, file: InputFile, report: ReadReport, encoding: str) -> None:
        self._lines = numbered_lines(file.path, report, encoding)
        self._encoding = encoding
        self._returned: deque[tuple[int, str, str]] = deque()
        self._row: list[tuple[int, str, str]] = []
        self.fault, self.fault_at = "", 0

    @property
    def begins(self) -> int:
        """Number of the first line of the row."""
        return self._row[0][0]

    def begin_row(self) -> None:
        """Begins a new row."""
        self._row, self.fault, self.fault_at = [], "", 0

    def give_back(self) -> None:
        """Puts back all lines of the row but the first, so that an unclosed quote costs only the row that opens it."""
        self._returned.extendleft(reversed(self._row[1:]))

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, text, fault = self._returned.popleft() if self._returned else self._read()
        self._row.append((number, text, fault))
        if fault and not self.fault:
            self.fault, self.fault_at = fault, number
        return text

    def _read(self) -> tuple[int, str, str]:
        number, line = next(self._lines)
        if line is None:
            return number, "\n", TOO_LONG
        try:
            return number, decoded(line, self._encoding).rstrip("\r") + "\n", ""
        except UnusableRecordError as problem:
            return number, line.decode("utf-8", "replace").rstrip("\r") + "\n", str(problem)


def _other_delimiter(header: str, column: str) -> str | None:
    """The delimiter with which the header contains the column, if there is one."""
    return next((d for d in ";\t|," if column in [name.strip(' "') for name in header.split(d)]), None)
