"""Creative Commons licenses of JATS articles, from their links and their text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from detour.corpus.readers import xml

LINK = "{http://www.w3.org/1999/xlink}href"
DEED = re.compile(
    r"creativecommons\.org/(?:licenses/)?(?P<deed>[a-z][a-z-]*(?:/[a-z]+)?(?:/\d\.\d)?(?:/[a-z]{2,3}\b)?)", re.I
)
SHORT = re.compile(r"\bCC[\s-]?BY((?:[\s-](?:NC|ND|SA))*)(?:[\s-]*(\d\.\d))?(?![\w-])")
ZERO = re.compile(r"\bCC[\s-]?0\b|public domain dedication|creative commons (?:cc0|zero)", re.I)
NAMED = re.compile(
    r"creative\s+commons[\s:,(-]+(?P<terms>attribution(?:[\s,–/-]*(?:and\s+)?"
    r"(?:non[\s-]?commercial|no[\s-]?deriv(?:ative)?s?(?:\s+works)?|share[\s-]?alike))*)"
    r"(?P<after>.{0,60})",
    re.I | re.S,
)
VERSION = re.compile(r"\b([1-4]\.\d)\b")


def license_of(meta: xml.Element) -> str | None:
    """The Creative Commons deed that an article's metadata links or names, such as "by-nc/4.0"; else its license-type.

    Without the version if the article does not state it.
    """
    licenses = meta.findall(".//{*}license")
    texts = [xml.text_of(element) for element in licenses] or [
        xml.text_of(element) for element in meta.iter("{*}permissions", "{*}copyright-statement")
    ]
    for text in [*_links(meta), *texts]:
        if match := DEED.search(text):
            return match["deed"].lower().removesuffix("/deed").strip("/")
    found = next(filter(None, map(_in_words, texts)), None)
    return found or next((kind for element in licenses if (kind := element.get("license-type"))), None)


def _links(meta: xml.Element) -> Iterator[str]:
    for permissions in meta.iterfind(".//{*}permissions"):
        for element in permissions.iter("{*}license", "{*}ext-link", "{*}uri", "{*}license_ref"):
            yield element.get(LINK) or (element.text or "" if xml.local_name(element) != "license" else "")


def _in_words(text: str) -> str | None:
    if match := NAMED.search(text):
        terms, version = re.sub(r"[^a-z]", "", match["terms"].lower()), VERSION.search(match["after"])
        parts = ["by", *(["nc"] if "noncommercial" in terms else []), *(["nd"] if "noderiv" in terms else [])]
        parts += ["sa"] if "sharealike" in terms else []
        return "-".join(parts) + (f"/{version[1]}" if version else "")
    if match := SHORT.search(text):
        parts = ["by", *re.findall("nc|nd|sa", match[1].lower())]
        return "-".join(parts) + (f"/{match[2]}" if match[2] else "")
    return "publicdomain/zero/1.0" if ZERO.search(text) else None
