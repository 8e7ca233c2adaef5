"""The PubTator format: abstracts with stand-off annotations in one text file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detour.errors import DataError
from detour.evaluation.data.examples import Splits
from detour.evaluation.data.readers.base import (
    SPLITS,
    Annotated,
    Claim,
    Reader,
    check_fraction,
    check_keys,
    existing_folder,
    folder_of,
    lines_of,
    ner_only,
    read_text,
    registry,
    tag_documents,
)

FILES = {"train": "train.txt", "dev": "dev.txt", "test": "test.txt"}
NUMBER = re.compile(r"-?\d+")
TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)")


@registry.register("pubtator")
@dataclass(frozen=True, kw_only=True)
class PubTator(Reader):
    """Reads ``PMID|t|title``, ``PMID|a|abstract`` and one ``PMID<tab>start<tab>end<tab>text<tab>type`` line per entity.

    Title and abstract, joined by one character as the offsets assume, form one example. Relation lines are skipped. An
    entity's surface text is checked against the document. Among nested or overlapping entities the longest is kept.

    Attributes:
        path: Folder of the files.
        files: File names of train, dev and test; empty means train.txt, dev.txt, test.txt. Give only train to let the
            task's `split` cut it.
        types: Entity types to keep; empty keeps all.
        max_misplaced: Maximum fraction of a file's entities that do not match their surface text. They are dropped; a
            larger fraction is an error.
    """

    path: str
    files: dict[str, str] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)
    max_misplaced: float = 0.01

    def __post_init__(self) -> None:
        check_keys("files", self.files, SPLITS)
        check_fraction("max_misplaced", self.max_misplaced)

    def read(self, root: Path, kind: str) -> Splits:
        ner_only("pubtator", kind)
        folder = existing_folder(folder_of(root, self.path))
        return {
            split: tag_documents(
                _documents(folder / name), self.types, str(folder / name), max_misplaced=self.max_misplaced
            )
            for split, name in (self.files or FILES).items()
        }


def _documents(path: Path) -> Iterator[Annotated]:
    block: list[tuple[str, str]] = []
    for number, line in enumerate([*lines_of(read_text(path)), ""], start=1):
        if line.strip():
            block.append((f"{path}:{number}", line))
        elif block:
            yield _document(block)
            block = []


def _document(block: list[tuple[str, str]]) -> Annotated:
    """Parses one document from (location, line) pairs. Raises DataError for a malformed line."""
    id, parts, claims = "", {}, []
    for where, line in block:
        if text := TEXT.fullmatch(line):
            found, part, content = text.groups()
            if part in parts:
                raise DataError(f"{where}: a second '|{part}|' line, expected a blank line between documents")
            parts[part] = content
        else:
            found, *cells = line.split("\t")
            claims += _claims(cells, where)
        if found != (id := id or found):
            raise DataError(f"{where}: of document '{found[:40]}', expected '{id}', or a blank line between documents")
    if not parts:
        raise DataError(f"{block[0][0]}: a document without a '{id[:40]}|t|' or '{id[:40]}|a|' line")
    return Annotated(id, "", f"{parts.get('t', '')} {parts.get('a', '')}", claims)


def _claims(cells: list[str], where: str) -> list[Claim]:
    """The entity in a line's cells after the PMID; empty for a relation line. Raises DataError for a malformed line."""
    if len(cells) >= 3 and not NUMBER.fullmatch(cells[0]):
        return []
    try:
        start, end, covered, kind, *_ = cells
        return [Claim([(int(start), int(end))], kind.strip(), covered, where)]
    except ValueError:
        raise DataError(f"{where}: expected 'PMID<tab>START<tab>END<tab>text<tab>TYPE', or a relation's ids") from None
