"""Reader of CORD-19: full texts as JSON, one file per article."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detour.corpus.readers.base import InputFile, Reader, register
from detour.corpus.text import Columns, Document, ReadReport, json_records


@register("cord19")
@dataclass(frozen=True, kw_only=True)
class Cord19(Reader):
    """Reads the ``.json`` files of ``document_parses/pdf_json`` and ``pmc_json``: title, abstract, body with section titles.

    The document id is the paper_id; an article that is in both folders has two. Citation marks are kept. The license is
    only in CORD-19's metadata.csv, so set the source's `license` if it is the same for all articles.
    """

    suffixes = (".json",)

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns
        for where, record in json_records(file.path, report):
            if not isinstance(record, Mapping) or not isinstance(record.get("body_text"), list):
                report.skip("not a CORD-19 article (paper_id, metadata, abstract, body_text)", where)
                continue
            title = record.get("metadata")
            title = title.get("title") if isinstance(title, Mapping) else None
            parts = [title if isinstance(title, str) else "", *_paragraphs(record.get("abstract"), heading="Abstract")]
            parts += _paragraphs(record["body_text"])
            name = str(record.get("paper_id") or file.name)
            yield Document("\n\n".join(filter(None, parts)), name, None, file.path, language=None)


def _paragraphs(blocks: Any, heading: str = "") -> Iterator[str]:
    """Texts of the blocks, with the section title wherever it changes."""
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, Mapping) or not isinstance(block.get("text"), str):
            continue
        section = block.get("section")
        if isinstance(section, str) and section.strip() and section != heading:
            heading = section
            yield section.strip()
        yield block["text"].strip()
