"""Reader of PubMed: titles and abstracts from the MEDLINE baseline and update files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers import xml
from detour.corpus.readers.base import InputFile, Reader, register
from detour.corpus.text import Columns, Document, ReadReport

TRANSLATED = re.compile(r"\[(?P<title>(?:[^\[\]]|\[[^\[\]]*\])*)\](?P<stop>[.?!]?)")
LANGUAGES = {"eng": "en", "fre": "fr", "ger": "de", "spa": "es", "ita": "it", "por": "pt"}  # MEDLINE codes to ISO 639-1


@register("pubmed")
@dataclass(frozen=True, kw_only=True)
class PubMed(Reader):
    """Reads ``pubmed*.xml.gz``: one document per article (title, blank line, abstract), whose id is the PMID.

    The language is that of the abstract: English, except for an OtherAbstract, which is a separate document
    (``PMID-fr``). Available metadata columns: year, journal, publication_types.

    For each PMID, the last record of the highest version is kept, unless a later DeleteCitation deletes it. The order is
    that of NLM's file numbers (pubmed25n0012 before pubmed25n1300, in any folder); files with other names are read in the
    order of sources and paths. Book records are counted, not read.

    Attributes:
        abstracts_only: Skip articles without an abstract; they are counted.
    """

    suffixes = (".xml",)
    revises = True
    abstracts_only: bool = True

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        for article in xml.records(file, "PubmedArticle", report, also=("PubmedBookArticle", "DeleteCitation")):
            where = f"{file.path}:{article.sourceline}"
            if article.tag == "DeleteCitation":
                for deleted in article.iterfind("PMID"):
                    _revise(deleted, report, where, deleted=True)
                continue
            if article.tag == "PubmedBookArticle":
                report.skip("a book record, no article", where)
                continue
            pmid = _revise(article.find("MedlineCitation/PMID"), report, where)
            if pmid is None:
                continue
            title = _without_brackets(xml.text_of(article.find("MedlineCitation/Article/ArticleTitle")))
            abstract = _abstract(article.find("MedlineCitation/Article/Abstract"))
            if not abstract and self.abstracts_only:
                report.skip("no abstract", where)
            else:
                yield Document(
                    text="\n\n".join(filter(None, [title, abstract])), id=pmid, license=None, path=file.path,
                    language="en", metadata=_metadata(article, columns),
                )  # fmt: skip
            for other in article.iterfind("MedlineCitation/OtherAbstract"):
                code = other.get("Language", "")
                language = LANGUAGES.get(code, code)
                if text := _abstract(other):
                    yield Document(
                        text=text, id=f"{pmid}-{language}", license=None, path=file.path,
                        language=language, metadata=_metadata(article, columns),
                    )  # fmt: skip


def _revise(pmid: xml.Element | None, report: ReadReport, where: str, *, deleted: bool = False) -> str | None:
    """The PMID, after the report has begun its record or deletion; None, counted as skipped, if it is not a number."""
    number, version = ((pmid.text or "").strip(), pmid.get("Version", "1")) if pmid is not None else ("", "1")
    if not (number.isascii() and number.isdigit() and len(number) < 18 and version.isascii() and version.isdigit()):
        report.skip("no PMID", where)
        return None
    report.revise(int(number), int(version[:9]), deleted=deleted)
    return number


def _without_brackets(title: str) -> str:
    """Removes the brackets around an entire title, which mark a translation; "[18F]FDG in [x]" is unchanged."""
    match = TRANSLATED.fullmatch(title)
    return match["title"] + match["stop"] if match else title


def _abstract(abstract: xml.Element | None) -> str:
    """The paragraphs, each with its label ("METHODS: ...") if it has one."""
    if abstract is None:
        return ""
    parts = []
    for part in abstract.iterfind("AbstractText"):
        label, text = part.get("Label"), xml.text_of(part)
        parts.append(f"{label}: {text}" if label and label != "UNLABELLED" else text)
    return "\n".join(filter(None, parts))


def _metadata(article: xml.Element, columns: Columns) -> dict[str, object] | None:
    found = {
        "year": article.findtext("MedlineCitation/Article/Journal/JournalIssue/PubDate/Year"),
        "journal": article.findtext("MedlineCitation/Article/Journal/Title"),
        "publication_types": [xml.text_of(e) for e in article.iterfind(".//PublicationType")],
    }
    return {key: found[key] for key in columns.metadata if key in found} or None
