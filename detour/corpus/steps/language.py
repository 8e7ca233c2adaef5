"""Language filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from detour.corpus.document import Document
from detour.corpus.steps.base import DocumentStep, StepReport, register


@register("language")
@dataclass(frozen=True, kw_only=True)
class Language(DocumentStep):
    """Keeps documents in the given languages, as identified by py3langid, offline.

    Cost: about 4 MB/s of classified text. Identification is unreliable for texts of a few words.

    Attributes:
        languages: ISO 639-1 codes.
        trust_column: Use the language that a document states, if it states one.
        characters: Number of characters to classify, from the beginning of the text.
        min_confidence: Minimum probability of the language, in [0, 1].
    """

    languages: tuple[str, ...]
    trust_column: bool = False
    characters: int = 4000
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("languages is empty, expected codes such as en, fr")
        if unknown := set(self.languages) - set(_identifier().nb_classes):
            raise ValueError(f"languages: {', '.join(sorted(unknown))}: unknown, expected ISO 639-1 codes")

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        for document in documents:
            language, confidence = document.language, 1.0
            if not (self.trust_column and language):
                language, confidence = identify(document.text[: self.characters])
            if language not in self.languages:
                report.dropped[language] += 1
            elif confidence < self.min_confidence:
                report.dropped[f"{language}, below min_confidence"] += 1
            else:
                yield document._replace(language=language)


def identify(text: str) -> tuple[str, float]:
    """The language of a text by py3langid: its ISO 639-1 code and probability. Cost: about 4 MB/s."""
    language, confidence = _identifier().classify(text)
    return str(language), float(confidence)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # loading its model takes two seconds

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
