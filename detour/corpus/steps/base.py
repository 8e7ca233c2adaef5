"""What a step is: documents in, documents out, counts; and the two kinds of it."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detour.corpus.text import Document
from detour.options import Kinds

COMPARISON = re.compile(r"(>=|<=|==|!=|>|<)\s*(.+)")
OPERATORS = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass
class StepReport:
    """What a step did to a part of a source.

    Attributes:
        folder: Where `Step.prepare` left its files.
        documents_in: Documents that came in.
        documents_out: That went on.
        characters_in: Characters of text that came in.
        characters_out: That went on.
        changed: Documents whose text is another than before.
        dropped: Documents that did not go on, by reason.
        removals: A record for each document that a step wants listed by name, with the reason.
    """

    folder: Path = Path()
    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    removals: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Step(ABC):  # noqa: B024, its two kinds have the methods
    """One thing done to documents. Subclass `DocumentStep` or `CorpusStep` as a frozen dataclass: fields are options."""

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Called once, before any document, with a folder of the step's own; returns what the manifest should tell."""
        del folder
        return {}

    def inputs(self) -> list[Path]:
        """Files that the step reads; another content asks for another preparation."""
        return []

    def columns(self) -> tuple[str, ...]:
        """Metadata columns that the step looks at; sources then read them."""
        return ()


@dataclass(frozen=True, kw_only=True)
class DocumentStep(Step):
    """A step that sees one document at a time, so that parts of a corpus pass through it in any process."""

    @abstractmethod
    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        """The documents that go on, in order. What is left out is counted in ``report.dropped`` by reason."""


@dataclass(frozen=True, kw_only=True)
class CorpusStep(Step):
    """A step that compares each document with all others: signs them one by one, then decides over the signatures."""

    @abstractmethod
    def sign(self, document: Document) -> np.ndarray:
        """uint64 [k], k the same for every document."""

    @abstractmethod
    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        """int64 [n]: for each document the index of the one it repeats, which stays, or -1.

        Args:
            signatures: Of all n documents, in order.
            alive: bool [n]: False where an earlier step has removed the document already.
        """


class Signatures:
    """Signatures of a corpus, uint64 [n, k], kept in files so that memory stays at a few columns."""

    def __init__(self, files: Sequence[Path], counts: Sequence[int]) -> None:
        self.files = files
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, j: int) -> np.ndarray:
        """uint64 [n]."""
        return np.concatenate([np.load(file, mmap_mode="r")[:, j] for file in self.files])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """uint64 [len(indices), k]. ``indices`` in any order."""
        found = None
        part_of = np.searchsorted(self.starts, indices, side="right") - 1
        for part in np.unique(part_of):
            signed, here = np.load(self.files[part], mmap_mode="r"), part_of == part
            found = np.empty((len(indices), signed.shape[1]), np.uint64) if found is None else found
            found[here] = signed[indices[here] - self.starts[part]]
        assert found is not None  # the caller has at least one index
        return found


kinds: Kinds[Step] = Kinds("steps")
register, build = kinds.register, kinds.build


def value_of(document: Document, column: str) -> Any:
    """A metadata column, or "language", "license" or "id"; None where the document has none."""
    if column in ("language", "license", "id"):
        return getattr(document, column)
    return (document.metadata or {}).get(column)


def matches(value: Any, condition: str) -> bool:
    """Whether a value is the one that is named, or fits a comparison such as ">= 3"; None fits nothing.

    Numbers are compared as numbers, so that "4" is 4.0; of a list one value must be the one that is named.
    """
    if value is None:
        return False
    comparison = COMPARISON.fullmatch(condition.strip())
    sign, limit = comparison.groups() if comparison else ("==", condition.strip())
    if sign in ("==", "!="):
        values = value if isinstance(value, list) else [value]
        return any(_equal(each, limit) for each in values) == (sign == "==")
    try:
        return OPERATORS[sign](float(value), float(limit))
    except (TypeError, ValueError):
        return False


def _equal(value: Any, named: str) -> bool:
    try:
        return float(value) == float(named)
    except (TypeError, ValueError):
        return str(value) == named
