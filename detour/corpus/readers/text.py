"""Folders of plain text: one file is one document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import TextSource, Unit, register
from detour.corpus.text import Columns, Document, ReadReport, UnusableRecordError, decoded, raw_records


@register("text")
@dataclass(frozen=True, kw_only=True)
class Text(TextSource):
    """``.txt`` files, also compressed. A document is named after its file, relative to the folder that was given."""

    suffixes = (".txt",)

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns  # a text file has none
        for where, data in raw_records(unit.path, report, self.encoding):
            try:
                yield Document(decoded(data, self.encoding), unit.name, None, unit.path)
            except UnusableRecordError as problem:
                report.skip(str(problem), where)
