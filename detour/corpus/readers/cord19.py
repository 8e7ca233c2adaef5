"""CORD-19: full texts as JSON, one file an article."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detour.corpus.readers.base import Source, Unit, register
from detour.corpus.text import Columns, Document, ReadReport, json_records


@register("cord19")
@dataclass(frozen=True, kw_only=True)
class Cord19(Source):
    """``.json`` files of ``document_parses/pdf_json`` and ``pmc_json``: title, abstract, body; sections' titles before them.

    A document is named by its paper_id. Citation marks stay as the parses have them; the license stands in CORD-19's
    metadata.csv alone, so give `license` where it is one for all. An article that is in both folders has two ids.
    """

    suffixes = (".json",)

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        del columns
        for where, record in json_records(unit.path, report):
            if not isinstance(record, Mapping) or not isinstance(record.get("body_text"), list):
                report.skip("no article of CORD-19 (paper_id, metadata, abstract, body_text)", where)
                continue
            title = record.get("metadata")
            title = title.get("title") if isinstance(title, Mapping) else None
            parts = [title if isinstance(title, str) else "", *_paragraphs(record.get("abstract"), heading="Abstract")]
            parts += _paragraphs(record["body_text"])
            name = str(record.get("paper_id") or unit.name)
            yield Document("\n\n".join(filter(None, parts)), name, None, unit.path, language=None)


def _paragraphs(blocks: Any, heading: str = "") -> Iterator[str]:
    """Texts of a list of blocks, with a section's title where it changes."""
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, Mapping) or not isinstance(block.get("text"), str):
            continue
        section = block.get("section")
        if isinstance(section, str) and section.strip() and section != heading:
            heading = section
            yield section.strip()
        yield block["text"].strip()
