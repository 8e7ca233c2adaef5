"""Length filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.steps.base import DocumentStep, StepReport, register
from detour.corpus.text import Document


@register("length")
@dataclass(frozen=True, kw_only=True)
class Length(DocumentStep):
    """Keeps documents of a certain length. A long document needs no limit: it is cut into rows, and nothing is lost.

    Attributes:
        min_characters: At least so many, white space at the ends not counted.
        max_characters: At most so many; null for no limit.
        min_words: At least so many runs without white space.
    """

    min_characters: int = 0
    max_characters: int | None = None
    min_words: int = 0

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        for document in documents:
            size = len(document.text.strip())
            if size < self.min_characters:
                report.dropped[f"under {self.min_characters} characters"] += 1
            elif self.max_characters is not None and size > self.max_characters:
                report.dropped[f"over {self.max_characters} characters"] += 1
            elif self.min_words and len(document.text.split()) < self.min_words:
                report.dropped[f"under {self.min_words} words"] += 1
            else:
                yield document
