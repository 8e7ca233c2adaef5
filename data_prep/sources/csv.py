"""Tables as text: CSV and TSV with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.sources.base import Source, Unit, documents_of, register
from detour.data.text import MAX_RECORD_BYTES, Columns, Document, ReadReport, UnusableRecordError, decoded, raw_records
from detour.errors import DataError


@register("csv")
@dataclass(frozen=True, kw_only=True)
class Csv(Source):
    """``.csv`` and ``.tsv`` files, also .gz and .zst. Quoted fields may hold line breaks.

    Attributes:
        delimiter: Between fields; empty takes a tab for .tsv and a comma otherwise.
        quoted: Whether ``"`` quotes; off for tab-separated files in which it is an ordinary character.
    """

    suffixes = (".csv", ".tsv")
    delimiter: str = ""
    quoted: bool = True

    def __post_init__(self) -> None:
        if len(self.delimiter) > 1:
            raise ValueError(f"delimiter is {self.delimiter!r}, expected one character")

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        yield from documents_of(self._rows(unit, columns, report), unit, columns, report)

    def _rows(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[tuple[str, dict[str, str]]]:
        csv.field_size_limit(MAX_RECORD_BYTES)
        delimiter = self.delimiter or ("\t" if ".tsv" in unit.path.name.lower() else ",")
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        lines = _Lines(unit, report)
        table = csv.reader(lines, delimiter=delimiter, quoting=quoting)
        header = next(table, None)
        if header is None:
            return
        if columns.text not in header:
            raise DataError(f"{unit.path}:1: no '{columns.text}' column, found {', '.join(header[:8])}")
        while True:
            begins = lines.number + 1
            try:
                row = next(table, None)
            except csv.Error as error:
                report.skip(f"not a row of a table: {error}", f"{unit.path}:{begins}")
                continue
            if row is None:
                return
            if len(row) != len(header):
                if row:
                    report.skip("another number of fields than the header's", f"{unit.path}:{begins}")
                continue
            yield str(begins), dict(zip(header, row, strict=True))


class _Lines:
    """Lines as the csv module wants them, numbered; one that is no text is reported and passed over."""

    def __init__(self, unit: Unit, report: ReadReport) -> None:
        self.number, self.report = 0, report
        self._records = raw_records(unit.path, report)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while True:
            where, line = next(self._records)
            self.number = int(where.rsplit(":", 1)[1])
            try:
                return decoded(line).removeprefix("\ufeff" if self.number == 1 else "").rstrip("\r") + "\n"
            except UnusableRecordError as problem:
                self.report.skip(str(problem), where)
