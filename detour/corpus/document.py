"""A document, and how a record of a corpus becomes one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detour.errors import DataError


class Document(NamedTuple):
    """One document: its text, its name (the ``id`` column, or ``file:line``), its license if known, its file.

    ``metadata`` holds the further columns that were asked for, as they were read; ``repeats`` says how many copies of
    it go into the training rows.
    """

    text: str
    id: str
    license: str | None
    path: Path
    language: str | None = None
    metadata: Mapping[str, Any] | None = None
    repeats: int = 1


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a record hold what; a column that is absent from a record is passed over, except the text's.

    ``more_text`` columns follow the text as paragraphs of their own, where they hold any: an instruction's answer.
    ``named`` are columns that a table must have besides the text's, because its config names them.
    """

    text: str = "text"
    more_text: tuple[str, ...] = ()
    id: str = "id"
    language: str = "language"
    license: tuple[str, ...] = ("license", "license")
    metadata: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def check_header(self, header: Sequence[str], where: str) -> None:
        """Raises DataError if a table with this header lacks a column that it must have, or has one twice."""
        if twice := [name for name, n in Counter(header).items() if n > 1 and name]:
            raise DataError(f"{where}: the column '{twice[0]}' is there twice, so that one of the two would be lost")
        for column in (self.text, *self.named):
            if column not in header:
                raise DataError(f"{where}: no '{column}' column, found {', '.join(header[:8])}")

    def document(self, record: Any, *, name: str, path: Path) -> Document:
        """The record as a document; ``name`` is its id if it has none. Raises UnusableRecordError."""
        if not isinstance(record, Mapping):
            raise UnusableRecordError(f"no '{self.text}' column", f"is a {type(record).__name__}, expected an object")
        if self.text not in record:
            raise UnusableRecordError(f"no '{self.text}' column", f"has {_names(record)}")
        text = record[self.text]
        if not isinstance(text, str):
            raise UnusableRecordError(
                f"'{self.text}' is not a string", "" if text is None else f"is a {type(text).__name__}"
            )
        further = [record[key] for key in self.more_text if isinstance(record.get(key), str) and record[key].strip()]
        text = "\n\n".join([text, *further])
        given = record.get(self.id)
        license = next((record[key] for key in self.license if record.get(key) is not None), None)
        language = record.get(self.language)
        document = Document(
            text=text,
            id=name if given is None or not str(given).strip() else str(given),
            license=None if license is None else str(license),
            path=path,
            language=None if language is None else str(language),
            metadata={key: record[key] for key in self.metadata if key in record} or None,
        )
        _refuse_half_pairs(document, self.text)
        return document


def _names(record: Mapping[str, Any]) -> str:
    """The first keys of a record, in signs that can be printed."""
    return ", ".join(str(key)[:40].encode("utf-8", "replace").decode() for key in list(record)[:6]) or "none at all"


def _refuse_half_pairs(document: Document, text_column: str) -> None:
    """JSON may spell half a surrogate pair, which no tokenizer and no file takes. Raises UnusableRecordError."""
    try:
        document.text.encode()
    except UnicodeEncodeError:
        raise UnusableRecordError(f"'{text_column}' holds a lone surrogate") from None
    beside = [document.id, document.license, document.language, document.metadata]
    try:
        json.dumps(beside, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UnusableRecordError("a column beside the text holds a lone surrogate") from None


class UnusableRecordError(Exception):
    """Why a line, row or file was not used, in words that group well; ``detail`` is what only its place should tell."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = f" ({detail})" if detail else ""
