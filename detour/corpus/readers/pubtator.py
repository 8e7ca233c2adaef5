"""PubTator's text format: titles and abstracts, without their annotations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers.base import TextSource, Unit, register
from detour.corpus.text import TOO_LONG, Columns, Document, ReadReport, UnusableRecordError, decoded, numbered_lines

LINE = re.compile(r"(?P<id>[^|\t]+)\|(?P<part>[ta])\|(?P<text>.*)")
ANNOTATION = re.compile(r"[^|\t]+\t.*")


@register("pubtator")
@dataclass(frozen=True, kw_only=True)
class PubTator(TextSource):
    """``.pubtator`` and ``.txt`` files: "PMID|t|title", "PMID|a|abstract", then the annotations, which are left out.

    A document is named by its PMID: title, blank line, abstract.
    """

    suffixes = (".pubtator", ".txt")

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns  # there are none
        name, parts = "", list[str]()
        for where, line in self._lines(unit, report):
            match = LINE.fullmatch(line)
            if match and match["id"] == name:
                parts.append(match["text"])
            elif match:
                yield from _document(name, parts, unit)
                name, parts = match["id"], [match["text"]]
            elif line.strip() and not ANNOTATION.fullmatch(line):
                report.skip("neither a title, an abstract nor an annotation of PubTator's", where)
        yield from _document(name, parts, unit)

    def _lines(self, unit: Unit, report: ReadReport) -> Iterator[tuple[str, str]]:
        for number, data in numbered_lines(unit.path, report, self.encoding, whole=False):
            where = f"{unit.path}:{number}"
            try:
                if data is None:
                    raise UnusableRecordError(TOO_LONG)
                yield where, decoded(data, self.encoding).rstrip("\r")
            except UnusableRecordError as problem:
                report.skip(str(problem), where)


def _document(name: str, parts: list[str], unit: Unit) -> Iterator[Document]:
    if parts:
        yield Document(
            "\n\n".join(filter(None, (part.strip() for part in parts))), name, None, unit.path, language="en"
        )
