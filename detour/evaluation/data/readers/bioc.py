"""BioC: passages with stand-off annotations, as XML or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.corpus.text import format_of
from detour.errors import DataError
from detour.evaluation.data.readers.base import SPLITS, check_keys, read_bytes, read_json, registry
from detour.evaluation.data.readers.stand_off import Annotated, Claim, StandOffReader

WIDEST_GAP = 10_000  # characters between two sentences of a passage; bounds the memory that a wrong offset can take
FILES = {"train": "train.xml", "dev": "dev.xml", "test": "test.xml"}


@registry.register("bioc")
@dataclass(frozen=True, kw_only=True)
class BioC(StandOffReader):
    """Reads BioC collections. Each passage is one example; passages of one document stay in the same split.

    If a passage stores its text as sentences, they are joined at their offsets. Annotations that give their surface text
    are checked against the passage. Among nested or overlapping entities the longest is kept; a discontinuous entity
    becomes one span from its first to its last character.

    Attributes:
        files: File names of train, dev and test, .xml or .json; empty means train.xml, dev.xml, test.xml. Give only train
            to let the task's `split` cut it.
        type_key: Infon key of the entity type.
    """

    files: dict[str, str] = field(default_factory=dict)
    type_key: str = "type"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys(files=(self.files, SPLITS))

    @property
    def locations(self) -> dict[str, str]:
        return self.files or FILES

    def documents(self, location: Path, name: str) -> Iterator[Annotated]:
        data = read_bytes(location)
        collection = read_json(data, str(location)) if format_of(location) == ".json" else _from_xml(data, location)
        try:
            for document in collection["documents"]:
                for number, passage in enumerate(document["passages"]):
                    id, where = str(document["id"]), f"{location}: document {document['id']}, passage {number}"
                    parts = [passage, *(passage.get("sentences") or [])]
                    claims = [claim for part in parts for claim in self._claims(part, int(passage["offset"]), where)]
                    yield Annotated(f"{id}-{number}", id, _text_of(passage, where), claims)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"{location}: not valid BioC: {type(error).__name__} {error}") from error

    def _claims(self, part: dict[str, Any], offset: int, where: str) -> Iterator[Claim]:
        """The annotations of a passage or sentence, with offsets converted from document to passage."""
        for annotation in part.get("annotations") or []:
            places = [(int(place["offset"]) - offset, int(place["length"])) for place in annotation["locations"]]
            kind = annotation["infons"][self.type_key]
            if not isinstance(kind, str):
                raise DataError(f"{where}: the {self.type_key} of an annotation is {kind!r}, expected a text")
            covered = _given_text(annotation, where) or None
            yield Claim([(start, start + length) for start, length in places], kind, covered, where)


def _text_of(passage: dict[str, Any], where: str) -> str:
    """A passage's text, or its sentences joined at their offsets. Raises DataError if they overlap or lie far apart."""
    if text := _given_text(passage, where):
        return text
    first = int(passage["offset"])
    for sentence in sorted(passage.get("sentences") or [], key=lambda sentence: int(sentence["offset"])):
        begin = int(sentence["offset"]) - first
        if not len(text) <= begin <= len(text) + WIDEST_GAP:
            raise DataError(f"{where}: a sentence at character {begin}, the one before it ends at {len(text)}")
        text = text.ljust(begin) + _given_text(sentence, where)
    return text


def _given_text(part: dict[str, Any], where: str) -> str:
    """The text of a passage, sentence or annotation; empty if missing. Raises DataError if it is not a string."""
    text = part.get("text")
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where}: the text is {str(text)[:60]}, expected a text")
    return text or ""


def _from_xml(data: bytes, path: Path) -> dict[str, Any]:
    """Converts BioC XML to the structure of BioC JSON. XML entities are not expanded and no URL is fetched."""
    from lxml import etree  # type: ignore[attr-defined]

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DataError(f"{path}: not well-formed XML: {error}") from error

    def part(element: Any) -> dict[str, Any]:
        return {
            "offset": element.findtext("offset"),
            "text": element.findtext("text"),
            "annotations": [
                {
                    "infons": {infon.get("key"): infon.text for infon in annotation.iterfind("infon")},
                    "locations": [dict(place.attrib) for place in annotation.iterfind("location")],
                    "text": annotation.findtext("text"),
                }
                for annotation in element.iterfind("annotation")
            ],
        }

    return {
        "documents": [
            {
                "id": document.findtext("id"),
                "passages": [
                    part(passage) | {"sentences": [part(sentence) for sentence in passage.iterfind("sentence")]}
                    for passage in document.iterfind("passage")
                ],
            }
            for document in root.iter("document")
        ]
    }
