"""Finding input files. Files that no reader takes are listed as well, so that they can be reported."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detour.corpus.compression import COMPRESSIONS
from detour.errors import DataError, UnreachableError

if TYPE_CHECKING:
    from detour.corpus.text import ReadReport

log = logging.getLogger(__name__)
FORMATS = (".jsonl", ".ndjson", ".json", ".txt")
COMPRESSED = f"also {', '.join(COMPRESSIONS)}"
CHECKSUMS = (".md5", ".sha1", ".sha256", ".sha512")


def find_files(inputs: Sequence[str | Path], report: ReadReport | None = None) -> list[Path]:
    """The files in the order given; a folder is replaced by the readable files under it, sorted.

    Args:
        inputs: Files and folders.
        report: Receives the ignored files of the folders; without it they are logged.

    Raises:
        DataError: A path does not exist, a file's format is unknown, a folder holds no readable file, or a file is
            named twice; or the report is strict and a file is ignored.
    """
    files, ignored_files = [], []
    for path in map(Path, inputs):
        if path.is_dir():
            all_files = files_under(path)
            found = [p for p in all_files if p.is_file() and format_of(p) in FORMATS]
            ignored_files += [str(p) for p in all_files if p not in {*found} and is_worth_reporting(p)]
            if not found:
                raise DataError(f"{path}: no {' or '.join(FORMATS)} file ({COMPRESSED}) in this folder")
            files += found
        elif not path.exists():
            raise DataError(f"{path}: no such file or folder")
        elif format_of(path) not in FORMATS:
            raise DataError(f"{path}: unknown format, expected {' or '.join(FORMATS)}, {COMPRESSED}")
        else:
            files.append(path)
    if twice := [str(path) for path, n in Counter(path.resolve() for path in files).items() if n > 1]:
        raise DataError(f"{twice[0]}: named twice among the inputs")
    if ignored_files and report is None:
        log.warning("%s", describe_ignored(ignored_files))
    if report is not None:
        report.ignored_files = ignored_files
        if ignored_files and report.strict:
            raise DataError(f"{describe_ignored(ignored_files)}; name the files that are meant")
    return files


def format_of(path: Path) -> str:
    """The last suffix that is not a compression's, in lower case: ``.jsonl`` for ``a.JSONL.GZ``. May be empty."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def files_under(folder: Path) -> list[Path]:
    """All files under a folder, sorted. Links to folders are followed; each folder is visited once.

    Hidden files and folders are left out, as by patterns: they are checkpoints of notebooks, or what other systems leave
    beside each file.

    Raises:
        UnreachableError: A folder cannot be listed.
    """
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".")
        )  # sorted, since one may have two names
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(found)


def files_of_pattern(pattern: str) -> list[Path]:
    """All matches of a glob pattern, folders included, sorted."""
    return sorted(map(Path, glob.glob(pattern, recursive=True)))


def is_worth_reporting(path: Path) -> bool:
    """Whether an ignored file should be reported; hidden files and checksums should not."""
    return not path.name.startswith(".") and path.suffix.lower() not in CHECKSUMS


def describe_ignored(ignored_files: list[str], shown: int = 3) -> str:
    """One line: the number of ignored files, their suffixes, and the first ``shown`` names."""
    kinds: dict[str, int] = {}
    for name in ignored_files:
        kind = "folder" if name.endswith("/") else "".join(Path(name).suffixes[-2:]).lower() or "no suffix"
        kinds[kind] = kinds.get(kind, 0) + 1
    counted = ", ".join(f"{kind}: {n:,}" for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    more = ", ..." if len(ignored_files) > shown else ""
    return f"{len(ignored_files):,} files ignored ({counted}): {', '.join(ignored_files[:shown])}{more}"


def _refuse(error: OSError) -> None:
    raise UnreachableError(f"{error.filename}: this folder cannot be listed: {error.strerror}") from error
