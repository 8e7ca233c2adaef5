"""Safe, incremental parsing of untrusted XML: no entity is expanded and no network address is fetched."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from lxml import etree  # type: ignore[attr-defined]

from detour.corpus.readers import markup
from detour.corpus.readers.base import InputFile
from detour.corpus.text import MAX_RECORD_BYTES, ReadReport, read_chunks
from detour.errors import DataError

Element: TypeAlias = Any  # of lxml, which has no type stubs
APART = frozenset({"p", "title", "list", "list-item", "def-item", "def", "disp-quote", "break", "verse-line"})
SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


def records(file: InputFile, tag: str, report: ReadReport, *, also: Sequence[str] = ()) -> Iterator[Element]:
    """Yields the complete elements with this tag, in order; each is released when the next is requested. Memory: one record.

    Args:
        file: The file.
        tag: Tag of the records; prefix ``{*}`` for any namespace.
        report: Counts a file without records as skipped.
        also: Further tags whose elements are yielded.

    Raises:
        DataError: The file is damaged, is not XML, or declares entities (as in a "billion laughs" attack).
    """
    parser = etree.XMLPullParser(events=("end",), tag=[tag, *also], **SAFE)
    fed = since = found = 0
    name = tag.removeprefix("{*}")
    try:
        for chunk in read_chunks(file.path, report):
            fed, since = fed + len(chunk), since + len(chunk)
            if b"<!ENTITY" in chunk:
                raise DataError(
                    f"{file.path}: declares entities of its own, which are not expanded; the rest is not read"
                )
            parser.feed(chunk)
            for _, element in parser.read_events():
                since, found = 0, found + 1
                yield element
                _release(element)
            if since > 8 * MAX_RECORD_BYTES:
                raise DataError(f"{file.path}: {since:,} bytes without the end of a <{name}>; is this another format?")
        if fed:
            root = parser.close()
            if not found:
                report.skip(f"no <{name}> in this file, whose root is <{local_name(root)}>", str(file.path))
        else:
            report.skip("empty file", str(file.path))
    except etree.XMLSyntaxError as error:
        raise DataError(f"{file.path}: not well-formed XML: {error}") from error


def text_of(
    element: Element | None, *, without: Iterable[str] = (), read_as: Callable[[Element], str | None] | None = None
) -> str:
    """The text of an element with white space collapsed; empty for None. Superscript digits do not join numbers (10³).

    Entities that a publisher's DTD would declare are replaced by the HTML entity of that name; unknown ones are kept.

    Args:
        element: An element.
        without: Tags of descendants that are left out.
        read_as: Returns the text that replaces a descendant, or None to read it as usual.
    """
    if element is None:
        return ""
    return " ".join("".join(_strings(element, frozenset(without), read_as)).split())


def _strings(element: Element, without: frozenset[str], read_as: Callable[[Element], str | None] | None) -> list[str]:
    parts = [element.text or ""]
    for child in element:
        if child.tag is etree.Entity:
            parts.append(html.unescape(child.text))
        elif isinstance(child.tag, str) and (name := local_name(child)) not in without:
            given = read_as(child) if read_as else None
            inner = "".join(_strings(child, without, read_as)) if given is None else given
            before = next((part for part in reversed(parts) if part), "")
            if name == "sup":
                inner = markup.raised(inner, before)
            elif name in ("sub", "inf"):
                inner = markup.lowered(inner, before, child.tail or "")
            parts.append(f" {inner} " if name in APART else inner)
        parts.append(child.tail or "")
    return parts


def local_name(element: Element) -> str:
    """The tag without its namespace."""
    return etree.QName(element).localname


def _release(element: Element) -> None:
    element.clear()
    parent = element.getparent()  # None for the root, which comments may precede
    while parent is not None and element.getprevious() is not None:
        del parent[0]
