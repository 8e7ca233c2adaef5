"""Documents, and their construction from records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detour.errors import DataError

LICENSE_COLUMNS = ("license", "licence")  # read by default; the first that a record has is used


class Document(NamedTuple):
    """One document.

    Attributes:
        text: The text.
        id: The ``id`` column, or ``file:line``.
        license: The license, if known.
        path: The input file.
        language: The language, if known.
        metadata: The values of the requested metadata columns.
        repeats: Number of copies in the training rows.
        input_file: Index of the input file within its source; set by `detour.corpus.passes.read_group`.
    """

    text: str
    id: str
    license: str | None
    path: Path
    language: str | None = None
    metadata: Mapping[str, Any] | None = None
    repeats: int = 1
    input_file: int = 0


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns to read from a record. All but the text may be absent.

    Attributes:
        text: The text.
        more_text: Columns appended to the text as paragraphs where they are not empty.
        id: The document id.
        language: The language.
        license: Candidates for the license; the first that a record has is used.
        metadata: Further columns for steps to use.
        required: Columns besides the text that a table must have, because the configuration names them.
    """

    text: str = "text"
    more_text: tuple[str, ...] = ()
    id: str = "id"
    language: str = "language"
    license: tuple[str, ...] = LICENSE_COLUMNS
    metadata: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def check_header(self, header: Sequence[str], where: str) -> None:
        """Raises DataError if a table's header lacks a required column or has a column twice."""
        if repeated := [name for name, n in Counter(header).items() if n > 1 and name]:
            raise DataError(f"{where}: the column '{repeated[0]}' occurs twice")
        for column in (self.text, *self.required):
            if column not in header:
                raise DataError(f"{where}: no '{column}' column, found {', '.join(header[:8])}")

    def document(self, record: Any, *, name: str, path: Path) -> Document:
        """The record as a document; ``name`` is the id of a record without one. Raises UnusableRecordError."""
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
        _refuse_lone_surrogates(document, self.text)
        return document


def _names(record: Mapping[str, Any]) -> str:
    """The first keys of a record, printable."""
    return ", ".join(str(key)[:40].encode("utf-8", "replace").decode() for key in list(record)[:6]) or "none at all"


def _refuse_lone_surrogates(document: Document, text_column: str) -> None:
    """JSON can spell a lone surrogate, which cannot be encoded as UTF-8. Raises UnusableRecordError."""
    try:
        document.text.encode()
    except UnicodeEncodeError:
        raise UnusableRecordError(f"'{text_column}' holds a lone surrogate") from None
    others = [document.id, document.license, document.language, document.metadata]
    try:
        json.dumps(others, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UnusableRecordError("a column beside the text holds a lone surrogate") from None


class UnusableRecordError(Exception):
    """A line, row or file cannot be used.

    Args:
        reason: Short and the same for all records with this fault: records are counted by reason.
        detail: What is specific to this record; shown beside its location.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = f" ({detail})" if detail else ""
