"""The CoNLL format: one word and its tag per line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detour.errors import ConfigError, DataError
from detour.evaluation.data.examples import SCHEMES, Example, Splits, to_iob2
from detour.evaluation.data.readers.base import (
    SPLITS,
    Reader,
    check_keys,
    existing_folder,
    folder_of,
    kind_only,
    lines_of,
    read_text,
    registry,
    tagged,
)

BLANKS = " \t"  # any other white space, like the no-break space, is part of a word
COLUMNS = re.compile(f"[{BLANKS}]+")
FILES = {"train": "train.tsv", "dev": "devel.tsv", "test": "test.tsv"}


@registry.register("conll")
@dataclass(frozen=True, kw_only=True)
class Conll(Reader):
    """Reads files with one word and tag per line, a blank line after each sentence and optional -DOCSTART- lines.

    Attributes:
        path: Folder of the files.
        files: File names of train, dev and test; empty means train.tsv, devel.tsv, test.tsv. Give only train to let the
            task's `split` cut it.
        word_column: Index of the word column, from 0.
        tag_column: Index of the tag column; -1 is the last.
        scheme: "iob2", "iob1" or "bioes"; the last two are converted to IOB2.
        separator: Column separator; null means any run of spaces and tabs.
    """

    path: str
    files: dict[str, str] = field(default_factory=dict)
    word_column: int = 0
    tag_column: int = -1
    scheme: str = "iob2"
    separator: str | None = None

    def __post_init__(self) -> None:
        check_keys(files=(self.files, SPLITS))
        if self.scheme not in SCHEMES:
            raise ConfigError(f"scheme '{self.scheme}', expected one of {', '.join(SCHEMES)}")
        if self.separator == "":
            raise ConfigError("separator: empty, expected a text between columns, or null for spaces and tabs")

    def read(self, root: Path, kind: str) -> Splits:
        kind_only("conll", "tagged words", kind, "ner")
        folder = existing_folder(folder_of(root, self.path))
        return {split: list(self._sentences(folder, name)) for split, name in (self.files or FILES).items()}

    def _sentences(self, folder: Path, name: str) -> Iterator[Example]:
        path, stem = folder / name, Path(name).with_suffix("").as_posix()
        document = 0
        words: list[str] = []
        tags: list[str] = []
        begin = 1
        for number, line in enumerate([*lines_of(read_text(path)), ""], start=1):
            starts_document = line.startswith("-DOCSTART-")
            document += starts_document
            if line.strip(BLANKS) and not starts_document:
                begin = begin if words else number
                word, tag = self._cells(line, f"{path}:{number}")
                words.append(word)
                tags.append(tag)
            elif words:
                group = f"{stem}-{document}" if document else ""
                yield tagged(
                    f"{stem}-{begin}",
                    words,
                    to_iob2(tags, self.scheme),
                    group,
                    f"{path}: sentence at line {begin}",
                )
                words, tags = [], []

    def _cells(self, line: str, where: str) -> tuple[str, str]:
        """Word and tag of a line. Raises DataError if a column is missing or the word is empty."""
        cells = line.split(self.separator) if self.separator else COLUMNS.split(line.strip(BLANKS))
        columns = [
            number % len(cells) for number in (self.word_column, self.tag_column) if -len(cells) <= number < len(cells)
        ]
        if len(set(columns)) < 2:
            raise DataError(f"{where}: {len(cells)} columns, too few")
        word, tag = (cells[column].strip(BLANKS) for column in columns)
        if not word:
            raise DataError(f"{where}: the word is empty")
        return word, tag
