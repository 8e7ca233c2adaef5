"""What a source is: something that lists its units, and reads one of them in order."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from detour.corpus.text import Columns, Document, ReadReport, UnusableRecordError, format_of
from detour.errors import DataError
from detour.options import Kinds


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one process reads in order: a file, or one shard of a hub dataset.

    Attributes:
        path: The file; for a hub dataset its name.
        name: What the manifest calls it and unnamed documents are named after: no folder of the machine is in it.
        index: Which shard of a hub dataset; 0 for files.
    """

    path: Path
    name: str
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A kind of corpus. Subclass as a frozen dataclass; its fields are the YAML `options`.

    Attributes:
        suffixes: Of the files found in a folder; each also with .gz and .zst where ``compressed``.
        compressed: Whether `read` decompresses.
    """

    suffixes: ClassVar[tuple[str, ...]]
    compressed: ClassVar[bool] = True

    @abstractmethod
    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        """The unit's documents, in order, in bounded memory. What cannot be used goes to ``report.skip`` by its place.

        Raises:
            DataError: The unit cannot be opened, or is damaged beyond the documents already yielded.
        """

    def units(self, paths: Sequence[str]) -> list[Unit]:
        """The units behind the paths, in a fixed order.

        Raises:
            DataError: A path does not exist, holds no file of this kind, or is named twice.
        """
        units = [unit for path in paths for unit in self._expand(path)]
        if twice := _first_repeated([unit.path.resolve() for unit in units]):
            raise DataError(f"{twice}: named twice among the paths")
        return units

    def _expand(self, given: str) -> list[Unit]:
        pattern = any(sign in given for sign in "*?[")
        root = Path(given)
        if root.is_dir():
            found = [p for p in root.rglob("*") if p.is_file() and self._fits(p)]
        elif pattern and not root.exists():
            plain = given[: min(given.index(sign) for sign in "*?[" if sign in given)]
            root = Path(plain[: plain.rfind("/") + 1])  # the folder that the pattern begins in
            found = [p for p in map(Path, glob.glob(given, recursive=True)) if p.is_file() and self._fits(p)]
        elif not root.exists():
            raise DataError(f"{given}: no such file or folder")
        else:
            if not self._fits(root):
                raise DataError(f"{given}: unexpected suffix, expected {', '.join(self.suffixes)}{self._also}")
            return [Unit(path=root, name=root.name)]
        if not found:
            raise DataError(f"{given}: no {' or '.join(self.suffixes)} file{self._also} there")
        return [Unit(path=p, name=p.relative_to(root).as_posix()) for p in sorted(found)]

    @property
    def _also(self) -> str:
        return " (also .gz, .zst)" if self.compressed else ""

    def _fits(self, path: Path) -> bool:
        return (format_of(path) if self.compressed else path.suffix.lower()) in self.suffixes


def documents_of(
    records: Iterator[tuple[str, Mapping[str, Any]]], unit: Unit, columns: Columns, report: ReadReport
) -> Iterator[Document]:
    """Documents from (place in the unit, record); a record that is none is reported as ``path:place``."""
    for place, record in records:
        try:
            yield columns.document(record, name=f"{unit.name}:{place}", path=unit.path)
        except UnusableRecordError as problem:
            report.skip(str(problem), f"{unit.path}:{place}")


def _first_repeated(items: Sequence[Path]) -> Path | None:
    seen: set[Path] = set()
    return next((item for item in items if item in seen or seen.add(item)), None)


kinds: Kinds[Source] = Kinds("sources")
register, build = kinds.register, kinds.build
