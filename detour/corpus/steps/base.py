"""The interfaces of steps: `DocumentStep` for filters and edits, `CorpusStep` for global deduplication."""

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

from detour.corpus.document import Document
from detour.options import Kinds

COMPARISON = re.compile(r"(>=|<=|==|!=|>|<)\s*(.+)")
OPERATORS = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass
class StepReport:
    """Counts of a step on one document shard.

    Attributes:
        folder: Folder of the files that `Step.prepare` wrote.
        documents_in: Documents before the step.
        documents_out: Documents after the step.
        characters_in: Characters of text before the step.
        characters_out: Characters of text after the step.
        changed: Documents that the step modified.
        dropped: Removed documents, by reason.
        removals: Records of removed documents, for steps that list them.
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
class Step(ABC):  # noqa: B024, the abstract methods are in its two subclasses
    """Base of steps. Subclass `DocumentStep` or `CorpusStep` as a frozen dataclass; its fields are the YAML `options`."""

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Called once, before any document, with an empty folder for files; returns entries for ``prepared.json``."""
        del folder
        return {}

    def inputs(self) -> list[Path]:
        """Files that the step reads. Their content is part of the preparation's identity."""
        return []

    def columns(self) -> tuple[str, ...]:
        """Metadata columns that the step uses, so that readers read them."""
        return ()


@dataclass(frozen=True, kw_only=True)
class DocumentStep(Step):
    """A step that handles one document at a time, so document shards are processed in parallel."""

    @abstractmethod
    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        """Yields the documents that are kept, in order. Removed ones are counted in ``report.dropped`` by reason."""


@dataclass(frozen=True, kw_only=True)
class CorpusStep(Step):
    """A step that compares documents across the corpus: signs each document, then decides over all signatures."""

    @abstractmethod
    def sign(self, document: Document) -> np.ndarray:
        """The signature, uint64 [k]; k is the same for every document."""

    @abstractmethod
    def decide(self, signatures: Signatures, alive: np.ndarray) -> np.ndarray:
        """int64 [n]: for each document the index of the kept document that it duplicates, or -1.

        Args:
            signatures: Signatures of all n documents, in corpus order.
            alive: bool [n]: whether a document is in scope and no earlier step removed it.
        """


class Signatures:
    """Signatures of a corpus, uint64 [n, k], read from files so that only a few columns are in memory."""

    def __init__(self, files: Sequence[Path], counts: Sequence[int]) -> None:
        self.files = files
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, j: int) -> np.ndarray:
        """uint64 [n]: column ``j`` of all signatures."""
        return np.concatenate([np.empty(0, np.uint64), *[np.load(file, mmap_mode="r")[:, j] for file in self.files]])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """uint64 [len(indices), k]: signatures of these documents, in any order."""
        found = None
        file_of = np.searchsorted(self.starts, indices, side="right") - 1
        for file in np.unique(file_of):
            signed, here = np.load(self.files[file], mmap_mode="r"), file_of == file
            found = np.empty((len(indices), signed.shape[1]), np.uint64) if found is None else found
            found[here] = signed[indices[here] - self.starts[file]]
        assert found is not None  # there is at least one index
        return found


kinds: Kinds[Step] = Kinds("steps")
register, build = kinds.register, kinds.build


def value_of(document: Document, column: str) -> Any:
    """Value of a metadata column, or of "language", "license" or "id"; None if the document has none."""
    if column in ("language", "license", "id"):
        return getattr(document, column)
    return (document.metadata or {}).get(column)


def matches(value: Any, condition: str) -> bool:
    """Whether a value equals the condition, or satisfies it if it is a comparison such as ">= 3". None never matches.

    Numbers are compared as numbers, so "4" equals 4.0. A list matches if one of its values does.
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
