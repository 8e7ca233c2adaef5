"""Tables as text: CSV and TSV with a header."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import TextSource, Unit, documents_of, register
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


@register("csv")
@dataclass(frozen=True, kw_only=True)
class Csv(TextSource):
    """``.csv`` and ``.tsv`` files, also compressed. Quoted fields may hold line breaks.

    A row that breaks the rules of quoting is reported, and reading goes on at its second line.

    Attributes:
        delimiter: Between fields; empty takes a tab for .tsv and a comma otherwise.
        quoted: Whether ``"`` quotes; off for tab-separated files in which it is an ordinary character.
    """

    suffixes = (".csv", ".tsv")
    delimiter: str = ""
    quoted: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delimiter) > 1:
            raise ValueError(f"delimiter is {self.delimiter!r}, expected one character")

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        yield from documents_of(self._rows(unit, columns, report), unit, columns, report)

    def _rows(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[tuple[str, dict[str, str]]]:
        csv.field_size_limit(MAX_RECORD_BYTES)
        delimiter = self.delimiter or ("\t" if ".tsv" in unit.path.name.lower() else ",")
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        lines = _Lines(unit, report, self.encoding)
        table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = next((row for row in table if any(row)), None)
        except csv.Error as error:
            why = (
                "its lines end in carriage returns alone; save it with line feeds"
                if "new-line" in str(error)
                else error
            )
            raise DataError(f"{unit.path}:1: not a table's header: {why}") from None
        if header is None:
            return
        other = _other_delimiter(delimiter.join(header), columns.text)
        if columns.text not in header and other:
            raise DataError(
                f"{unit.path}:1: no '{columns.text}' column, found {', '.join(header[:8])}; its fields are parted by "
                f"{other!r}, so set options: {{delimiter: {other!r}}}"
            )
        columns.check_header(header, f"{unit.path}:1")
        while True:
            lines.begin_row()
            try:
                row = next(table, None)
            except csv.Error as error:
                report.skip(lines.fault or f"not a row of a table: {error}", f"{unit.path}:{lines.begins}")
                lines.give_back()
                continue
            if row is None:
                return
            if lines.fault:
                report.skip(lines.fault, f"{unit.path}:{lines.fault_at}")
            elif len(row) == len(header):
                yield str(lines.begins), dict(zip(header, row, strict=True))
            elif any(field.strip() for field in row):
                report.skip("another number of fields than the header's", f"{unit.path}:{lines.begins}")


class _Lines:
    """Lines as the csv module wants them. Remembers those of a row, and the first of them that is no text.

    Attributes:
        fault: Why the row cannot be used; empty if it can. Its line is handed on all the same, so that quotes stay paired.
        fault_at: Number of that line.
    """

    def __init__(self, unit: Unit, report: ReadReport, encoding: str) -> None:
        self._coming = numbered_lines(unit.path, report, encoding)
        self._encoding = encoding
        self._returned: deque[tuple[int, str, str]] = deque()
        self._row: list[tuple[int, str, str]] = []
        self.fault, self.fault_at = "", 0

    @property
    def begins(self) -> int:
        """Number of the row's first line."""
        return self._row[0][0]

    def begin_row(self) -> None:
        """Forgets the row before."""
        self._row, self.fault, self.fault_at = [], "", 0

    def give_back(self) -> None:
        """Lets all lines of the row but the first come again: one that opens a quote does not take others with it."""
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
        number, line = next(self._coming)
        if line is None:
            return number, "\n", TOO_LONG
        try:
            return number, decoded(line, self._encoding).rstrip("\r") + "\n", ""
        except UnusableRecordError as problem:
            return number, line.decode("utf-8", "replace").rstrip("\r") + "\n", str(problem)


def _other_delimiter(header: str, column: str) -> str | None:
    """What a header's fields are parted by, if that shows a column that is looked for."""
    return next((sign for sign in ";\t|," if column in [name.strip(' "') for name in header.split(sign)]), None)
