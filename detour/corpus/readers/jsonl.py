"""JSON: one object a line, an array of objects, or objects over several lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detour.corpus.readers.base import TextSource, Unit, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport, json_records


@register("jsonl")
@dataclass(frozen=True, kw_only=True)
class Jsonl(TextSource):
    """``.jsonl``, ``.ndjson`` and ``.json`` files, also compressed. Cost: about 150 MB/s.

    A document without id is named after its line, or after its number where the file has not one object a line.

    Attributes:
        records: Where an object that is read holds the records, as keys with dots: "resultList.result" in what Europe
            PMC's search gives. Empty where it is a record itself. Such an object is held in memory as a whole.
    """

    suffixes = (".jsonl", ".ndjson", ".json")
    records: str = ""

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        records = json_records(unit.path, report, self.encoding)
        numbered = ((where.rsplit(":", 1)[1], record) for where, record in records)
        yield from documents_of(self._inside(numbered, unit, report), unit, columns, report)

    def _inside(self, numbered: Iterator[tuple[str, Any]], unit: Unit, report: ReadReport) -> Iterator[tuple[str, Any]]:
        for place, value in numbered:
            if not self.records:
                yield place, value
                continue
            for key in self.records.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if not isinstance(value, list):
                report.skip(f"no list of records in '{self.records}'", f"{unit.path}:{place}")
                continue
            yield from ((f"{place}.{number}", record) for number, record in enumerate(value, start=1))
