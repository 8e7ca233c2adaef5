"""Reader of the PubTator format: titles and abstracts without their annotations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import InputFile, TextReader, register
from detour.corpus.text import TOO_LONG, Columns, Document, ReadReport, UnusableRecordError, decoded, numbered_lines

LINE = re.compile(r"(?P<id>[^|\t]+)\|(?P<part>[ta])\|(?P<text>.*)")
ANNOTATION = re.compile(r"[^|\t]+\t.*")


@register("pubtator")
@dataclass(frozen=True, kw_only=True)
class PubTator(TextReader):
    """Reads ``.pubtator`` and ``.txt`` files: "PMID|t|title", "PMID|a|abstract", then annotations, which are left out.

    A document is title, blank line, abstract; its id is the PMID.
    """

    suffixes = (".pubtator", ".txt")

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns  # the format has none
        name, parts = "", list[str]()
        for where, line in self._lines(file, report):
            match = LINE.fullmatch(line)
            if match and match["id"] == name:
                parts.append(match["text"])
            elif match:
                yield from _document(name, parts, file)
                name, parts = match["id"], [match["text"]]
            elif line.strip() and not ANNOTATION.fullmatch(line):
                report.skip("neither a title, an abstract nor an annotation in PubTator format", where)
        yield from _document(name, parts, file)

    def _lines(self, file: InputFile, report: ReadReport) -> Iterator[tuple[str, str]]:
        for number, data in numbered_lines(file.path, report, self.encoding, entire=False):
            where = f"{file.path}:{number}"
            try:
                if data is None:
                    raise UnusableRecordError(TOO_LONG)
                yield where, decoded(data, self.encoding).rstrip("\r")
            except UnusableRecordError as problem:
                report.skip(str(problem), where)


def _document(name: str, parts: list[str], file: InputFile) -> Iterator[Document]:
    if parts:
        yield Document(
            "\n\n".join(filter(None, (part.strip() for part in parts))), name, None, file.path, language="en"
        )
