"""The PubTator format: abstracts with stand-off annotations in one text file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detour.errors import DataError
from detour.evaluation.data.readers.base import SPLITS, check_keys, lines_of, read_text, registry
from detour.evaluation.data.readers.stand_off import Annotated, Claim, StandOffReader

FILES = {"train": "train.txt", "dev": "dev.txt", "test": "test.txt"}
NUMBER = re.compile(r"-?\d+")
TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)")


@registry.register("pubtator")
@dataclass(frozen=True, kw_only=True)
class PubTator(StandOffReader):
    """Reads ``PMID|t|title``, ``PMID|a|abstract`` and one ``PMID<tab>start<tab>end<tab>text<tab>type`` line per entity.

    Title and abstract, joined by one character as the offsets assume, form one example. Relation lines are skipped. An
    entity's surface text is checked against the document. Among nested or overlapping entities the longest is kept.

    Attributes:
        files: File names of train, dev and test; empty means train.txt, dev.txt, test.txt. Give only train to let the
            task's `split` cut it.
    """

    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys(files=(self.files, SPLITS))

    @property
    def locations(self) -> dict[str, str]:
        return self.files or FILES

    def documents(self, location: Path, name: str) -> Iterator[Annotated]:
        block: list[tuple[str, str]] = []
        for number, line in enumerate([*lines_of(read_text(location)), ""], start=1):
            if line.strip():
                block.append((f"{location}:{number}", line))
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
