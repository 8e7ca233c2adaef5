"""Reader of JATS, the XML of full-text articles at PubMed Central and most publishers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detour.corpus.readers import markup, xml
from detour.corpus.readers.base import InputFile, Reader, register
from detour.corpus.readers.license import license_of
from detour.corpus.text import Columns, Document, ReadReport

LEFT_OUT = frozenset({
    "fig", "fig-group", "table-wrap", "table-wrap-group", "ref-list", "fn", "fn-group", "supplementary-material", "media",
    "graphic", "inline-graphic", "object-id", "label",
})  # fmt: skip
FORMULAS = frozenset({"inline-formula", "disp-formula", "math", "tex-math"})
NOTES = frozenset({"fn", "table-fn", "author-notes", "corresp", "aff"})  # targets of marks that are left out
BLOCKS = frozenset({"p", "title", "list-item", "def-item", "disp-quote", "verse-group"})


@register("jats")
@dataclass(frozen=True, kw_only=True)
class Jats(Reader):
    """Reads ``.xml`` and ``.nxml`` files: one document per article with title, abstract and body, separated by blank lines.

    Tables, figures, references and citation marks are left out. Formulas are written on one line, or as "[formula]" if
    there is only a picture. The license is the Creative Commons deed that the article links or names, such as "by/4.0",
    else its license-type. Available metadata columns: year, journal, article_type.
    """

    suffixes = (".xml", ".nxml")

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        for number, article in enumerate(xml.records(file, "{*}article", report), start=1):
            meta = article.find("{*}front/{*}article-meta")
            if meta is None:
                report.skip("no article-meta", f"{file.path}:{article.sourceline}")
                continue
            parts = [_text_of(meta.find(".//{*}article-title"))]
            for block in [*meta.iterfind("{*}abstract"), *article.iterfind("{*}body")]:
                parts += _paragraphs(block)
            yield Document(
                text="\n\n".join(filter(None, parts)),
                id=_identifier(meta) or f"{file.name}:{number}",
                license=license_of(meta),
                path=file.path,
                language=article.get("{http://www.w3.org/XML/1998/namespace}lang"),
                metadata=_metadata(article, meta, columns),
            )


def _paragraphs(block: xml.Element) -> Iterator[str]:
    for child in block:
        if not isinstance(child.tag, str) or xml.local_name(child) in LEFT_OUT:
            continue
        if xml.local_name(child) in BLOCKS:
            yield _text_of(child)
        elif xml.local_name(child) in FORMULAS:
            yield markup.formula(child)
        else:
            yield from _paragraphs(child)


def _identifier(meta: xml.Element) -> str | None:
    ids = {e.get("pub-id-type"): (e.text or "").strip() for e in meta.iterfind("{*}article-id")}
    for kind in ("pmc", "pmcid", "pmid", "doi"):
        if ids.get(kind):
            return "PMC" + ids[kind].removeprefix("PMC") if kind.startswith("pmc") else ids[kind]
    return None


def _text_of(element: xml.Element | None) -> str:
    return markup.without_citations(xml.text_of(element, without=LEFT_OUT, read_as=_read_as))


def _read_as(element: xml.Element) -> str | None:
    """Text of a formula on one line, or of a citation marked for `markup.without_citations`; None for other elements."""
    name = xml.local_name(element)
    if name in FORMULAS:
        return f" {markup.formula(element)} " if name == "disp-formula" else markup.formula(element)
    if name != "xref" or (kind := element.get("ref-type", "bibr")) not in {"bibr", *NOTES}:
        return None
    text = xml.text_of(element)
    if kind in NOTES or not any(sign.isalpha() for sign in text):
        return markup.MARK
    return f"{markup.OPEN}{text}{markup.CLOSE}"


def _metadata(article: xml.Element, meta: xml.Element, columns: Columns) -> dict[str, object] | None:
    found = {
        "year": meta.findtext("{*}pub-date/{*}year"),
        "journal": article.findtext("{*}front/{*}journal-meta//{*}journal-title"),
        "article_type": article.get("article-type"),
    }
    return {key: found[key] for key in columns.metadata if key in found} or None
