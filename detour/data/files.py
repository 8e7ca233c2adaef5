"""The files of a folder: every one, so that what is not read can be counted."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from detour.errors import UnreachableError

CHECKSUMS = (".md5", ".sha1", ".sha256", ".sha512")


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
