"""What a source is: something that lists its units, and reads one of them in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from detour.corpus.encoding import check_encoding
from detour.corpus.input_files import counts_as_passed_over, files_of_pattern, files_under
from detour.corpus.text import COMPRESSED, Columns, Document, ReadReport, UnusableRecordError, format_of
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
        suffixes: Of the files found in a folder; each also compressed where ``compressed``.
        companions: Suffixes of files that belong to these and hold no document of their own.
        compressed: Whether `read` decompresses.
    """

    suffixes: ClassVar[tuple[str, ...]]
    companions: ClassVar[tuple[str, ...]] = ()
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

    def passed_over(self, paths: Sequence[str]) -> list[str]:
        """The files in the folders and patterns that are no unit of this kind, by their names there.

        Hidden files, checksums, and the companions of units are left out.
        """
        return [
            name
            for given in paths
            for path, name in self._found(given)[1]
            if counts_as_passed_over(path) and path.suffix.lower() not in self.companions
        ]

    def _expand(self, given: str) -> list[Unit]:
        if Path(given).is_file() and not self._fits(Path(given)):
            raise DataError(f"{given}: unexpected suffix, expected {', '.join(self.suffixes)}{self._also}")
        fitting, others = self._found(given)
        if not fitting:
            beside = f"; {len(others):,} others are, the first of them {others[0][1]}" if others else ""
            raise DataError(f"{given}: no {' or '.join(self.suffixes)} file{self._also} there{beside}")
        return [Unit(path=path, name=name) for path, name in fitting]

    def _found(self, given: str) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
        """Files that fit and others, each with its name, which is relative to the folder or the pattern's beginning.

        Raises DataError if there is neither file nor folder.
        """
        root = Path(given)
        signs = [given.index(sign) for sign in "*?[" if sign in given]
        if root.is_dir():
            paths = files_under(root)
        elif root.is_file():
            return ([(root, root.name)], []) if self._fits(root) else ([], [(root, root.name)])
        elif signs and not root.exists():
            plain = given[: min(signs)]
            root = Path(plain[: plain.rfind("/") + 1])  # the folder that the pattern begins in
            paths = files_of_pattern(given)
            if "**" in given:  # which goes into folders itself
                paths = [path for path in paths if not path.is_dir()]
        else:
            raise DataError(f"{given}: no such file or folder")
        fitting, others = [], []
        for path in paths:
            name = path.relative_to(root).as_posix() + ("/" if path.is_dir() else "")
            (fitting if path.is_file() and self._fits(path) else others).append((path, name))
        return fitting, others

    @property
    def _also(self) -> str:
        return f" ({COMPRESSED})" if self.compressed else ""

    def _fits(self, path: Path) -> bool:
        return (format_of(path) if self.compressed else path.suffix.lower()) in self.suffixes


@dataclass(frozen=True, kw_only=True)
class TextSource(Source):
    """A kind whose files are plain text.

    Attributes:
        encoding: Of its files.
    """

    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)


def documents_of(
    records: Iterator[tuple[str, Mapping[str, Any]]], unit: Unit, columns: Columns, report: ReadReport
) -> Iterator[Document]:
    """Documents from (place in the unit, record); a record that is none is reported as ``path:place``."""
    for place, record in records:
        try:
            yield columns.document(record, name=f"{unit.name}:{place}", path=unit.path)
        except UnusableRecordError as problem:
            report.skip(str(problem), f"{unit.path}:{place}{problem.detail}")


def _first_repeated(items: Sequence[Path]) -> Path | None:
    seen: set[Path] = set()
    return next((item for item in items if item in seen or seen.add(item)), None)


kinds: Kinds[Source] = Kinds("sources")
register, build = kinds.register, kinds.build
