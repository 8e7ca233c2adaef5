"""Which column of a table, or key of a JSON object, holds the text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from detour.corpus.text import ReadReport, json_records, numbered_lines
from detour.errors import ConfigError, DataError

RECORDS = 200  # to look at
HEAD_BYTES = 4 << 20
DELIMITERS = (",", "\t", ";", "|")
LEAST_CHARACTERS = 20  # mean of a column of text; names, codes and dates are shorter


@dataclass(frozen=True, kw_only=True)
class Table:
    """How the records of a source are read.

    Attributes:
        text: Column of the text.
        others: The other columns.
        delimiter: Of a CSV file, if it is not the usual one; empty otherwise.
    """

    text: str = "text"
    others: tuple[str, ...] = ()
    delimiter: str = ""


def table_of(kind: str, files: Sequence[Path], *, text_column: str | None, encoding: str) -> Table:
    """The columns of a source, from its first records.

    Args:
        kind: Reader.
        files: Files of the source.
        text_column: Column of the text; None takes "text", or else the column with the most characters.
        encoding: Of CSV and JSON files.

    Raises:
        ConfigError: The given column does not exist, or no column looks like text; the error lists the columns.
        DataError: It is a binary file.
    """
    if kind not in ("jsonl", "csv", "parquet"):
        return Table()
    file = next((file for file in files if file.stat().st_size), files[0])
    delimiter = ""
    try:
        if kind == "csv":
            delimiter, records = _csv_records(file, encoding)
        elif kind == "jsonl":
            records = [record for _, record in islice(json_records(file, _report(), encoding), RECORDS)]
        else:
            records = _parquet_records(file)
    except DataError:  # of the head of a file; the look at the documents says what is wrong
        return Table(text=text_column or "text", delimiter=delimiter)
    characters: Counter[str] = Counter()
    seen: dict[str, int] = {}
    mappings = [record for record in records if isinstance(record, Mapping)]
    for record in mappings:
        for name, value in record.items():
            seen[str(name)] = seen.get(str(name), 0) + 1
            characters[str(name)] += len(value) if isinstance(value, str) else 0
    if not seen:
        return Table(text=text_column or "text", delimiter=delimiter)
    if any("\0" in name for name in seen):
        raise DataError(f"{file}: no document can be used: its first line holds NUL characters, as binary files do")
    chosen = text_column or ("text" if characters["text"] else characters.most_common(1)[0][0])
    listed = ", ".join(name[:40] for name in list(seen)[:12])
    if chosen not in seen:
        raise ConfigError(f"{file}: no column '{chosen}' (--text-column); found {listed}")
    if text_column is None and characters[chosen] < LEAST_CHARACTERS * len(mappings):
        raise ConfigError(f"{file}: no column looks like text; name one with --text-column; found {listed}")
    return Table(text=chosen, others=tuple(name for name in seen if name != chosen), delimiter=delimiter)


def _report() -> ReadReport:
    return ReadReport(most_bytes=HEAD_BYTES)


def _csv_records(file: Path, encoding: str) -> tuple[str, list[dict[str, str]]]:
    """The delimiter if it is not the usual one, and the first rows."""
    lines = [data.decode("utf-8", "replace") for _, data in _head(numbered_lines(file, _report(), encoding)) if data]
    if not lines:
        return "", []
    usual = "\t" if ".tsv" in file.name.lower() else ","
    header = next((line for line in lines if line.strip()), "")
    best = max(DELIMITERS, key=lambda sign: (header.count(sign), sign == usual))
    delimiter = best if header.count(best) else usual
    csv.field_size_limit(1 << 25)
    rows = _rows(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))
    return "" if delimiter == usual else delimiter, rows


def _rows(table: Iterable[list[str]]) -> list[dict[str, str]]:
    """Rows under their header; the last one, which the end of the look may cut, is dropped if there are others."""
    found: list[dict[str, str]] = []
    header: list[str] | None = None
    try:
        for row in table:
            if header is None:
                header = row if any(row) else None
            elif len(row) == len(header):
                found.append(dict(zip(header, row, strict=True)))
    except csv.Error:
        pass  # the reader of the preparation counts what it cannot use
    return found[:RECORDS] if found else [dict.fromkeys(header or [], "")]


def _head(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    yield from islice(lines, 50 * RECORDS)


def _parquet_records(file: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(RECORDS):
                return batch.to_pylist()
            return [dict.fromkeys(table.schema_arrow.names, "")]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
