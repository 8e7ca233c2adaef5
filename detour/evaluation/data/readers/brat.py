"""brat: texts with stand-off annotation files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
    read_text,
    registry,
    tag_documents,
)

FOLDERS = {split: split for split in SPLITS}


@registry.register("brat")
@dataclass(frozen=True, kw_only=True)
class Brat(Source):
    """Folders of ``.txt`` files, each with the ``.ann`` of its entities. A document is one example.

    Of nested and overlapping entities the longest stays, and a discontinuous one is one span from its first to its
    last character; the number left out is logged.

    Attributes:
        path: The folder.
        folders: Folders of train, dev and test in it; empty takes these names. Name train alone to have the task's
            `split` cut it.
        types: Entity types to keep; empty keeps all.
    """

    path: str
    folders: dict[str, str] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_keys("folders", self.folders, SPLITS)

    def read(self, root: Path, kind: str) -> Splits:
        ner_only("brat", kind)
        top, splits = existing_folder(root / self.path), {}
        for split, name in (self.folders or FOLDERS).items():
            folder = existing_folder(top / name)
            texts = sorted(path for path in folder.rglob("*.txt") if path.with_suffix(".ann").is_file())
            if not texts:
                raise DataError(f"{folder}: no .txt file with an .ann file beside it")
            documents = (
                _document(path, f"{name}/{path.relative_to(folder).with_suffix('').as_posix()}") for path in texts
            )
            splits[split] = list(tag_documents(documents, self.types, str(folder)))
        return splits


def _document(path: Path, id: str) -> Annotated:
    annotation, text = path.with_suffix(".ann"), read_text(path)
    spans = [
        checked_span(_span(line, f"{annotation}:{number}"), text, f"{annotation}:{number}")
        for number, line in _entity_lines(read_text(annotation))
    ]
    return Annotated(id, "", text, spans)


def _entity_lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of entities; those of relations, events, attributes and notes begin with other letters."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.startswith("T"))


def _span(line: str, where: str) -> Span:
    try:
        kind, *numbers = line.split("\t")[1].replace(";", " ").split()
        return Span(int(numbers[0]), int(numbers[-1]), kind)
    except (IndexError, ValueError):
        raise DataError(f"{where}: expected 'T1<tab>TYPE START END<tab>text'") from None
