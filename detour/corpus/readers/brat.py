"""Reader of brat folders: the texts without their annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detour.corpus.readers.base import register
from detour.corpus.readers.text import Text


@register("brat")
@dataclass(frozen=True, kw_only=True)
class Brat(Text):
    """Reads ``.txt`` files that have an ``.ann`` file beside them, so a README.txt is not a document.

    Attributes:
        annotated_only: Set to false to read every ``.txt`` file.
    """

    companions = (".ann", ".conf")
    compressed = False
    annotated_only: bool = True

    def _fits(self, path: Path) -> bool:
        return super()._fits(path) and (
            not self.annotated_only or any(path.with_suffix(s).is_file() for s in (".ann", ".ANN"))
        )
