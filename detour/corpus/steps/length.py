"""Length filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.document import Document
from detour.corpus.shingles import word_count
from detour.corpus.steps.base import DocumentStep, StepReport, register


@register("length")
@dataclass(frozen=True, kw_only=True)
class Length(DocumentStep):
    """Keeps documents within length limits. Long documents need no limit: they are split over rows without loss.

    Attributes:
        min_characters: Minimum number of characters, without leading and trailing white space.
        max_characters: Maximum number of characters; null for no limit.
        min_words: Minimum number of words, separated by white space; in scripts without spaces between words, such as
            Chinese, each character counts as a word.
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
            elif self.min_words and word_count(document.text) < self.min_words:
                report.dropped[f"under {self.min_words} words"] += 1
            else:
                yield document
