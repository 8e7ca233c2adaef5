"""Upsampling of selected documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.document import Document
from detour.corpus.steps.base import DocumentStep, StepReport, matches, register, value_of


@register("upsample")
@dataclass(frozen=True, kw_only=True)
class Upsample(DocumentStep):
    """Repeats documents in the training rows, such as 100 copies of each clinical case.

    Copies are spread evenly over the source, and each is packed with other documents. Documents of the validation split
    are never repeated. With several upsample steps, the largest number applies. To repeat an entire source, raise its
    proportion instead, which takes no disk space.

    Attributes:
        column: A metadata column, or "language", "license", "id".
        times: Copies by value ("clinical_case": 100) or comparison (">= 4": 3); the first match applies.
    """

    column: str
    times: dict[str, int]

    def __post_init__(self) -> None:
        if not self.times or any(type(n) is not int or n < 1 for n in self.times.values()):
            raise ValueError(f"times is {self.times}, expected copies of at least 1 by value")

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        times = {str(condition): n for condition, n in self.times.items()}
        for document in documents:
            value = value_of(document, self.column)
            n = next((n for condition, n in times.items() if matches(value, condition)), 1)
            report.changed += n > 1
            yield document._replace(repeats=max(document.repeats, n))
