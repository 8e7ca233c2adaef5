"""JATS: full-text articles as PubMed Central and most publishers give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers import xml
from detour.corpus.readers.base import Source, Unit, register
from detour.corpus.text import Columns, Document, ReadReport

LEFT_OUT = frozenset({
    "fig", "fig-group", "table-wrap", "table-wrap-group", "disp-formula", "inline-formula", "xref", "ref-list", "fn",
    "fn-group", "supplementary-material", "media", "graphic", "inline-graphic", "object-id", "label", "math", "tex-math",
})  # fmt: skip
BLOCKS = frozenset({"p", "title", "list-item", "def-item", "disp-quote", "verse-group"})
EMPTIED = re.compile(r"\s*[\[(][\s,;–-]*[\])]")  # brackets that held nothing but citation marks
DEED = "creativecommons.org/"


@register("jats")
@dataclass(frozen=True, kw_only=True)
class Jats(Source):
    """``.xml`` and ``.nxml`` files: one document an article: title, abstract, body; paragraphs by blank lines.

    Tables, figures, formulae, references and citation marks are left out. The license is the Creative Commons deed that
    the article links, such as "by/4.0"; else its license-type. Metadata that columns may name: year, journal,
    article_type.
    """

    suffixes = (".xml", ".nxml")

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        for number, article in enumerate(xml.records(unit, "{*}article", report), start=1):
            meta = article.find("{*}front/{*}article-meta")
            if meta is None:
                report.skip("no article-meta", f"{unit.path}:{article.sourceline}")
                continue
            parts = [xml.text_of(meta.find(".//{*}article-title"), without=LEFT_OUT)]
            for block in [*meta.iterfind("{*}abstract"), *article.iterfind("{*}body")]:
                parts += _paragraphs(block)
            yield Document(
                text="\n\n".join(filter(None, parts)),
                id=_identifier(meta) or f"{unit.name}:{number}",
                license=_licence(meta),
                path=unit.path,
                language=article.get("{http://www.w3.org/XML/1998/namespace}lang"),
                metadata=_metadata(article, meta, columns),
            )


def _paragraphs(block: xml.Element) -> Iterator[str]:
    for child in block:
        if not isinstance(child.tag, str) or xml.local_name(child) in LEFT_OUT:
            continue
        if xml.local_name(child) in BLOCKS:
            yield EMPTIED.sub("", xml.text_of(child, without=LEFT_OUT))
        else:
            yield from _paragraphs(child)


def _identifier(meta: xml.Element) -> str | None:
    ids = {e.get("pub-id-type"): (e.text or "").strip() for e in meta.iterfind("{*}article-id")}
    for kind in ("pmc", "pmcid", "pmid", "doi"):
        if ids.get(kind):
            return "PMC" + ids[kind].removeprefix("PMC") if kind.startswith("pmc") else ids[kind]
    return None


def _licence(meta: xml.Element) -> str | None:
    for element in meta.iterfind(".//{*}license"):
        for link in [element.get("{http://www.w3.org/1999/xlink}href"), *_links(element)]:
            if link and DEED in link:
                return link.split(DEED, 1)[1].removeprefix("licenses/").strip("/")
        return element.get("license-type")
    return None


def _links(element: xml.Element) -> Iterator[str | None]:
    for inner in element.iter("{*}ext-link", "{*}license_ref"):
        yield inner.get("{http://www.w3.org/1999/xlink}href") or inner.text


def _metadata(article: xml.Element, meta: xml.Element, columns: Columns) -> dict[str, object] | None:
    found = {
        "year": meta.findtext("{*}pub-date/{*}year"),
        "journal": article.findtext("{*}front/{*}journal-meta//{*}journal-title"),
        "article_type": article.get("article-type"),
    }
    return {key: found[key] for key in columns.metadata if key in found} or None
