"""Reader of JSON: one object per line, an array of objects, or objects that span lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detour.corpus.readers.base import InputFile, TextReader, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport, json_records


@register("jsonl")
@dataclass(frozen=True, kw_only=True)
class Jsonl(TextReader):
    """Reads ``.jsonl``, ``.ndjson`` and ``.json`` files, also compressed. Cost: about 150 MB/s.

    A document without an id is named after its line, or after its number if the file does not have one object per line.

    Attributes:
        records: Dotted key of the list of records inside each object, such as "resultList.result" in search results of
            Europe PMC. Empty if each object is a record. The entire object is held in memory.
    """

    suffixes = (".jsonl", ".ndjson", ".json")
    records: str = ""

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        records = json_records(file.path, report, self.encoding)
        numbered = ((where.rsplit(":", 1)[1], record) for where, record in records)
        yield from documents_of(self._inside(numbered, file, report), file, columns, report)

    def _inside(
        self, numbered: Iterator[tuple[str, Any]], file: InputFile, report: ReadReport
    ) -> Iterator[tuple[str, Any]]:
        for number, value in numbered:
            if not self.records:
                yield number, value
                continue
            for key in self.records.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if not isinstance(value, list):
                report.skip(f"no list of records in '{self.records}'", f"{file.path}:{number}")
                continue
            yield from ((f"{number}.{i}", record) for i, record in enumerate(value, start=1))
