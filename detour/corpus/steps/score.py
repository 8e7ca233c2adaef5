"""Filter on a score or label column of the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.document import Document
from detour.corpus.steps.base import DocumentStep, StepReport, matches, register, value_of


@register("score")
@dataclass(frozen=True, kw_only=True)
class Score(DocumentStep):
    """Keeps documents whose column satisfies a condition, such as an educational score of at least 3.

    Attributes:
        column: A metadata column, or "language", "license", "id".
        keep: A comparison (">= 3") or a value ("clinical_case"), or a list of alternatives.
        if_missing: Whether to "drop" or "keep" documents without the column.
    """

    column: str
    keep: tuple[str, ...] | str
    if_missing: str = "drop"

    def __post_init__(self) -> None:
        if self.if_missing not in ("drop", "keep"):
            raise ValueError(f"if_missing is {self.if_missing!r}, expected 'drop' or 'keep'")

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        conditions = (self.keep,) if isinstance(self.keep, str) else self.keep
        for document in documents:
            value = value_of(document, self.column)
            if value is None and self.if_missing == "drop":
                report.dropped[f"no '{self.column}'"] += 1
            elif value is None or any(matches(value, condition) for condition in conditions):
                yield document
            else:
                report.dropped[f"'{self.column}' does not match"] += 1
