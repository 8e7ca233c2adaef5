"""Upsampling of the documents that matter most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.steps.base import DocumentStep, StepReport, matches, register, value_of
from detour.corpus.text import Document


@register("upsample")
@dataclass(frozen=True, kw_only=True)
class Upsample(DocumentStep):
    """Gives documents several copies in the training rows: the paper's clinical cases count 100 times.

    Copies are spread evenly over the source and packed anew each time, among other documents. Held-out documents are
    never repeated. Of several such steps the largest number counts. To repeat a whole source, give it a larger
    proportion: that costs no disk.

    Attributes:
        column: A metadata column, or "language", "license", "id".
        times: Copies by value ("clinical_case": 100) or comparison (">= 4": 3); the first that fits counts.
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
