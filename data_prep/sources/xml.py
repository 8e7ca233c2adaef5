"""Reading XML from strangers: record by record, with no entity expanded and no address fetched."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from lxml import etree  # type: ignore[attr-defined]

from data_prep.sources.base import Unit
from detour.data.text import MAX_RECORD_BYTES, ReadReport, read_chunks
from detour.errors import DataError

Element: TypeAlias = Any  # lxml's; it comes without types
APART = frozenset({"p", "title", "list", "list-item", "def-item", "def", "disp-quote", "break", "verse-line"})
SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


def records(unit: Unit, tag: str, report: ReadReport, *, also: Sequence[str] = ()) -> Iterator[Element]:
    """Every element of this tag, whole, in order; released once the next is asked for. Memory: one record.

    Args:
        unit: The file.
        tag: Of the records; ``{*}`` before it for any namespace.
        report: Told of a file without any.
        also: Further tags whose elements come in their places.

    Raises:
        DataError: The file is damaged, not XML, or declares entities of its own (a "billion laughs" file does).
    """
    parser = etree.XMLPullParser(events=("end",), tag=[tag, *also], **SAFE)
    fed = since = found = 0
    name = tag.removeprefix("{*}")
    try:
        for chunk in read_chunks(unit.path, report):
            fed, since = fed + len(chunk), since + len(chunk)
            if b"<!ENTITY" in chunk:
                raise DataError(f"{unit.path}: declares entities of its own, which are not expanded; nothing more read")
            parser.feed(chunk)
            for _, element in parser.read_events():
                since, found = 0, found + 1
                yield element
                _release(element)
            if since > 8 * MAX_RECORD_BYTES:
                raise DataError(f"{unit.path}: {since:,} bytes without the end of a <{name}>; is this another format?")
        if fed:
            root = parser.close()
            if not found:
                report.skip(f"no <{name}> in this file, whose root is <{local_name(root)}>", str(unit.path))
        else:
            report.skip("empty file", str(unit.path))
    except etree.XMLSyntaxError as error:
        raise DataError(f"{unit.path}: not well-formed XML: {error}") from error


def text_of(element: Element | None, *, without: Iterable[str] = ()) -> str:
    """All text inside, white space collapsed, leaving out children of these tags; empty for None.

    Entities that a publisher's DTD would declare are read as HTML's of that name; one that HTML does not know stays as
    it is spelt.
    """
    return " ".join("".join(_strings(element, frozenset(without))).split()) if element is not None else ""


def _strings(element: Element, without: frozenset[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag is etree.Entity:
            yield html.unescape(child.text)
        elif isinstance(child.tag, str) and (name := local_name(child)) not in without:
            yield " " if name in APART else ""
            yield from _strings(child, without)
            yield " " if name in APART else ""
        yield child.tail or ""


def local_name(element: Element) -> str:
    """The tag without its namespace."""
    return etree.QName(element).localname


def _release(element: Element) -> None:
    element.clear()
    parent = element.getparent()  # none of the root, before which comments may stand
    while parent is not None and element.getprevious() is not None:
        del parent[0]
