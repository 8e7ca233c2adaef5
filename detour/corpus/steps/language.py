"""Language filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from detour.corpus.steps.base import DocumentStep, StepReport, register
from detour.corpus.text import Document


@register("language")
@dataclass(frozen=True, kw_only=True)
class Language(DocumentStep):
    """Keeps documents in the languages named. Identified by py3langid from the text; works without network.

    Cost: about 4 MB/s of the text looked at. Not for texts of a few words, where any identifier errs.

    Attributes:
        languages: ISO 639-1 codes.
        believe_column: Take the language that a document states, where it states one.
        characters: How much of a text is looked at, from its beginning.
        min_confidence: Least probability, in [0, 1].
    """

    languages: tuple[str, ...]
    believe_column: bool = False
    characters: int = 4000
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("languages is empty, expected codes such as en, fr")
        if unknown := set(self.languages) - set(_identifier().nb_classes):
            raise ValueError(f"languages: {', '.join(sorted(unknown))}: not known, expected ISO 639-1 codes")

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        for document in documents:
            language, confidence = document.language, 1.0
            if not (self.believe_column and language):
                language, confidence = _identifier().classify(document.text[: self.characters])
            if language not in self.languages:
                report.dropped[language] += 1
            elif confidence < self.min_confidence:
                report.dropped[f"{language}, unsure"] += 1
            else:
                yield document._replace(language=language)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes two seconds to load

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
