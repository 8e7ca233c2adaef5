"""Reading XML from strangers: record by record, with no entity expanded and no address fetched."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from lxml import etree  # type: ignore[attr-defined]

from detour.corpus.readers import markup
from detour.corpus.readers.base import Unit
from detour.corpus.text import MAX_RECORD_BYTES, ReadReport, read_chunks
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


def text_of(
    element: Element | None, *, without: Iterable[str] = (), read_as: Callable[[Element], str | None] | None = None
) -> str:
    """All text inside, white space collapsed; empty for None. Raised and lowered numbers stay apart from others (10³).

    Entities that a publisher's DTD would declare are read as HTML's of that name; one that HTML does not know stays as
    it is spelt.

    Args:
        element: An element.
        without: Tags of children that are left out.
        read_as: What stands for a child; None where it is to be read like others.
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
    parent = element.getparent()  # none of the root, before which comments may stand
    while parent is not None and element.getprevious() is not None:
        del parent[0]
