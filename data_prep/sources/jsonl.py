"""JSON: one object a line, an array of objects, or objects over several lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.sources.base import TextSource, Unit, documents_of, register
from detour.data.text import Columns, Document, ReadReport, json_records


@register("jsonl")
@dataclass(frozen=True, kw_only=True)
class Jsonl(TextSource):
    """``.jsonl``, ``.ndjson`` and ``.json`` files, also compressed. Cost: about 150 MB/s.

    A document without id is named after its line, or after its number where the file has not one object a line.
    """

    suffixes = (".jsonl", ".ndjson", ".json")

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        records = json_records(unit.path, report, self.encoding)
        numbered = ((where.rsplit(":", 1)[1], record) for where, record in records)
        yield from documents_of(numbered, unit, columns, report)
