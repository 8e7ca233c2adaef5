"""Filter on a score or label that the corpus brings along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.steps.base import DocumentStep, StepReport, matches, register, value_of
from detour.corpus.text import Document


@register("score")
@dataclass(frozen=True, kw_only=True)
class Score(DocumentStep):
    """Keeps documents whose column fits a condition, such as an educational score of 3 and more.

    Attributes:
        column: A metadata column, or "language", "license", "id".
        keep: A comparison (">= 3") or a value ("clinical_case"); several are alternatives.
        without: What becomes of documents that lack the column: "drop" or "keep".
    """

    column: str
    keep: tuple[str, ...] | str
    without: str = "drop"

    def __post_init__(self) -> None:
        if self.without not in ("drop", "keep"):
            raise ValueError(f"without is {self.without!r}, expected 'drop' or 'keep'")

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        conditions = (self.keep,) if isinstance(self.keep, str) else self.keep
        for document in documents:
            value = value_of(document, self.column)
            if value is None and self.without == "drop":
                report.dropped[f"no '{self.column}'"] += 1
            elif value is None or any(matches(value, condition) for condition in conditions):
                yield document
            else:
                report.dropped[f"'{self.column}' does not fit"] += 1
