"""The files of a folder: every one, so that what is not read can be counted."""

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
    """The files named, in order, each folder replaced by the readable files under it, sorted.

    Args:
        inputs: Files and folders.
        report: Told which files of the folders are passed over; without it the log is.

    Raises:
        DataError: A path does not exist, a file's format is unknown, a folder holds no readable file, or a file is
            named twice; or the report is strict and a file is passed over.
    """
    files, passed_over = [], []
    for path in map(Path, inputs):
        if path.is_dir():
            all_files = files_under(path)
            found = [p for p in all_files if p.is_file() and format_of(p) in FORMATS]
            passed_over += [str(p) for p in all_files if p not in {*found} and counts_as_passed_over(p)]
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
    if passed_over and report is None:
        log.warning("%s", told_of(passed_over))
    if report is not None:
        report.passed_over = passed_over
        if passed_over and report.strict:
            raise DataError(f"{told_of(passed_over)}; name the files that are meant")
    return files


def format_of(path: Path) -> str:
    """The last suffix but that of a compression, in small letters: ``.jsonl`` of ``a.JSONL.GZ``; may be empty."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def files_under(folder: Path) -> list[Path]:
    """Everything in a folder that is no folder, sorted; links to folders are followed, each folder once.

    Raises:
        UnreachableError: A folder cannot be listed.
    """
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # so that of two names of one folder it is always the same that counts
        found += [Path(here, name) for name in names]
    return sorted(found)


def files_of_pattern(pattern: str) -> list[Path]:
    """Everything that a pattern with ``*`` finds, folders included, sorted."""
    return sorted(map(Path, glob.glob(pattern, recursive=True)))


def counts_as_passed_over(path: Path) -> bool:
    """Whether a file that is not read is worth a word: hidden files and checksums are no part of a corpus."""
    return not path.name.startswith(".") and path.suffix.lower() not in CHECKSUMS


def told_of(passed_over: list[str], shown: int = 3) -> str:
    """How many files were passed over, of which kinds, and the first of them."""
    kinds: dict[str, int] = {}
    for name in passed_over:
        kind = "folder" if name.endswith("/") else "".join(Path(name).suffixes[-2:]).lower() or "no suffix"
        kinds[kind] = kinds.get(kind, 0) + 1
    counted = ", ".join(f"{kind}: {n:,}" for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    more = ", ..." if len(passed_over) > shown else ""
    return f"{len(passed_over):,} passed over ({counted}): {', '.join(passed_over[:shown])}{more}"


def _refuse(error: OSError) -> None:
    raise UnreachableError(f"{error.filename}: this folder cannot be listed: {error.strerror}") from error
