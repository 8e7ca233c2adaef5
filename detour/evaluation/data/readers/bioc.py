"""BioC: passages with stand-off annotations, as XML or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.corpus.text import format_of
from detour.errors import DataError
from detour.evaluation.data.examples import Span, Splits
from detour.evaluation.data.readers.base import (
    SPLITS,
    Annotated,
    Source,
    check_keys,
    checked_span,
    existing_folder,
    ner_only,
    read_json,
    read_text,
    registry,
    tag_documents,
)

FILES = {"train": "train.xml", "dev": "dev.xml", "test": "test.xml"}


@registry.register("bioc")
@dataclass(frozen=True, kw_only=True)
class BioC(Source):
    """BioC collections. A passage is one example; those of a document stay together in a split.

    Nested, overlapping and discontinuous entities are treated as in brat folders.

    Attributes:
        path: The folder.
        files: Names of the files of train, dev and test, .xml or .json; empty takes train.xml, dev.xml, test.xml. Name
            train alone to have the task's `split` cut it.
        type_key: The infon of an annotation that holds its type.
        types: Entity types to keep; empty keeps all.
    """

    path: str
    files: dict[str, str] = field(default_factory=dict)
    type_key: str = "type"
    types: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_keys("files", self.files, SPLITS)

    def read(self, root: Path, kind: str) -> Splits:
        ner_only("bioc", kind)
        folder = existing_folder(root / self.path)
        return {
            split: list(tag_documents(self._passages(folder / name), self.types, str(folder / name)))
            for split, name in (self.files or FILES).items()
        }

    def _passages(self, path: Path) -> Iterator[Annotated]:
        text = read_text(path)
        collection = read_json(text.encode(), str(path)) if format_of(path) == ".json" else _from_xml(text, path)
        try:
            for document in collection["documents"]:
                for number, passage in enumerate(document["passages"]):
                    id = f"{document['id']}-{number}"
                    spans = self._spans(passage, f"{path}: document {document['id']}, passage {number}")
                    yield Annotated(id, str(document["id"]), passage.get("text") or "", spans)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not as BioC has it: {type(error).__name__} {error}") from error

    def _spans(self, passage: dict[str, Any], where: str) -> list[Span]:
        spans, offset = [], int(passage["offset"])
        for annotation in passage.get("annotations", []):
            places = [(int(place["offset"]) - offset, int(place["length"])) for place in annotation["locations"]]
            start, end = min(begin for begin, _ in places), max(begin + length for begin, length in places)
            span = Span(start, end, str(annotation["infons"][self.type_key]))
            spans.append(checked_span(span, passage.get("text") or "", where))
        return spans


def _from_xml(text: str, path: Path) -> dict[str, Any]:
    """The collection in the shape of its JSON form. No entity is expanded and no address fetched."""
    from lxml import etree  # type: ignore[attr-defined]

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise DataError(f"{path}: not well-formed XML: {error}") from error
    return {
        "documents": [
            {
                "id": document.findtext("id"),
                "passages": [
                    {
                        "offset": passage.findtext("offset"),
                        "text": passage.findtext("text"),
                        "annotations": [
                            {
                                "infons": {infon.get("key"): infon.text for infon in annotation.iterfind("infon")},
                                "locations": [dict(place.attrib) for place in annotation.iterfind("location")],
                            }
                            for annotation in passage.iterfind("annotation")
                        ],
                    }
                    for passage in document.iterfind("passage")
                ],
            }
            for document in root.iter("document")
        ]
    }
