"""Reader of plain text: each file is one document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import InputFile, TextReader, register
from detour.corpus.text import Columns, Document, ReadReport, UnusableRecordError, decoded, raw_records


@register("text")
@dataclass(frozen=True, kw_only=True)
class Text(TextReader):
    """Reads ``.txt`` files, also compressed. The document id is the file's path relative to the configured folder."""

    suffixes = (".txt",)

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns  # the format has none
        for where, data in raw_records(file.path, report, self.encoding):
            try:
                yield Document(decoded(data, self.encoding), file.name, None, file.path)
            except UnusableRecordError as problem:
                report.skip(str(problem), where)
