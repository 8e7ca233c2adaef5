"""The interface of readers: a reader lists its input files and reads the documents of one file in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from detour.corpus.encoding import check_encoding
from detour.corpus.input_files import files_of_pattern, files_under, is_worth_reporting
from detour.corpus.text import COMPRESSED, Columns, Document, ReadReport, UnusableRecordError, format_of
from detour.errors import DataError
from detour.options import Kinds


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """The unit of reading, by one process in order: a file, or one shard of a dataset on the hub.

    Attributes:
        path: The file; for a dataset on the hub, its name.
        name: Name in manifests and in the ids of documents that have none. Contains no local folder.
        index: Index of the shard of a dataset on the hub; 0 for files.
    """

    path: Path
    name: str
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """Reads one corpus format. Subclass it as a frozen dataclass; its fields are the YAML `options`.

    Attributes:
        suffixes: Suffixes of the files to read; also followed by a compression suffix if ``compressed``.
        companions: Suffixes of accompanying files without documents, which are not reported as ignored.
        compressed: Whether `read` decompresses.
        revises: Whether records of one file may replace those of another (`ReadReport.revise`).
    """

    suffixes: ClassVar[tuple[str, ...]]
    companions: ClassVar[tuple[str, ...]] = ()
    compressed: ClassVar[bool] = True
    revises: ClassVar[bool] = False

    @abstractmethod
    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        """Yields the file's documents in order, in bounded memory. Unusable records go to ``report.skip``.

        Raises:
            DataError: The file cannot be opened, or is damaged after the documents already yielded.
        """

    def input_files(self, paths: Sequence[str]) -> list[InputFile]:
        """The input files of the paths, in a deterministic order.

        Raises:
            DataError: A path does not exist or has no file of this format, or a file is named twice.
        """
        files = [file for path in paths for file in self._expand(path)]
        if repeated := _first_repeated([file.path.resolve() for file in files]):
            raise DataError(f"{repeated}: named twice among the paths")
        return files

    def ignored_files(self, paths: Sequence[str]) -> list[str]:
        """Names of the files in the folders and patterns that this reader does not read.

        Hidden files, checksums and companions are not listed.
        """
        return [
            name
            for given in paths
            for path, name in self._found(given)[1]
            if is_worth_reporting(path) and path.suffix.lower() not in self.companions
        ]

    def _expand(self, given: str) -> list[InputFile]:
        if Path(given).is_file() and not self._fits(Path(given)):
            raise DataError(f"{given}: unexpected suffix, expected {', '.join(self.suffixes)}{self._also}")
        fitting, others = self._found(given)
        if not fitting:
            found = f"; found {len(others):,} other files, the first is {others[0][1]}" if others else ""
            raise DataError(f"{given}: no {' or '.join(self.suffixes)} file{self._also}{found}")
        return [InputFile(path=path, name=name) for path, name in fitting]

    def _found(self, given: str) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
        """Matching and other files, each with its name relative to the folder or to the fixed part of the pattern.

        Raises DataError if the path does not exist.
        """
        root = Path(given)
        wildcards = [given.index(sign) for sign in "*?[" if sign in given]
        if root.is_dir():
            paths = files_under(root)
        elif root.is_file():
            return ([(root, root.name)], []) if self._fits(root) else ([], [(root, root.name)])
        elif wildcards and not root.exists():
            fixed = given[: min(wildcards)]
            root = Path(fixed[: fixed.rfind("/") + 1])  # the folder in which the pattern begins
            paths = files_of_pattern(given)
            if "**" in given:  # the pattern descends into folders by itself
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
class TextReader(Reader):
    """Base of readers of text files.

    Attributes:
        encoding: Encoding of the files.
    """

    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)


def documents_of(
    records: Iterator[tuple[str, Mapping[str, Any]]], file: InputFile, columns: Columns, report: ReadReport
) -> Iterator[Document]:
    """Converts (line or number in the file, record) to documents; unusable records are counted in the report."""
    for number, record in records:
        try:
            yield columns.document(record, name=f"{file.name}:{number}", path=file.path)
        except UnusableRecordError as problem:
            report.skip(str(problem), f"{file.path}:{number}{problem.detail}")


def _first_repeated(items: Sequence[Path]) -> Path | None:
    seen: set[Path] = set()
    return next((item for item in items if item in seen or seen.add(item)), None)


kinds: Kinds[Reader] = Kinds("readers")
register, build = kinds.register, kinds.build
