"""Unicode normalization."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from detour.corpus.document import Document
from detour.corpus.steps.base import DocumentStep, StepReport, register

FORMS = ("NFC", "NFKC", "NFD", "NFKD")


@register("normalize")
@dataclass(frozen=True, kw_only=True)
class Normalize(DocumentStep):
    """Applies a Unicode normalization form. NFC is lossless; NFKC also folds ligatures, widths and superscripts.

    Attributes:
        form: "NFC", "NFKC", "NFD" or "NFKD".
    """

    form: str = "NFC"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}, expected one of {', '.join(FORMS)}")

    def apply(self, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
        for document in documents:
            text = unicodedata.normalize(self.form, document.text)  # type: ignore[arg-type]
            report.changed += text != document.text
            yield document._replace(text=text)
