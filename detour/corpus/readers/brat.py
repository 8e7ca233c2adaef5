"""brat folders: the texts, without their annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detour.corpus.readers.base import register
from detour.corpus.readers.text import Text


@register("brat")
@dataclass(frozen=True, kw_only=True)
class Brat(Text):
    """The ``.txt`` files that stand beside an ``.ann`` file; a README.txt is no document.

    Attributes:
        annotated_only: Off takes every ``.txt`` file.
    """

    companions = (".ann", ".conf")
    compressed = False
    annotated_only: bool = True

    def _fits(self, path: Path) -> bool:
        return super()._fits(path) and (
            not self.annotated_only or any(path.with_suffix(s).is_file() for s in (".ann", ".ANN"))
        )
