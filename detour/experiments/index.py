"""One page over several experiments: what each asked, what it found, what it cost, and a link to its own page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from detour.errors import ConfigError, DataError
from detour.experiments.page import PAGE, RESULTS
from detour.files import naming, write_text
from detour.report.page import page_environment


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An experiment in the index.

    Attributes:
        name: Its name.
        link: Of its page, relative to the index.
        question: Its question.
        arms: Names of its arms, the baseline first.
        seeds: Training seeds.
        missing: One line per kind of work that is not complete.
        verdicts: (measurement, arm, baseline, verdict in a word, sentence) of each comparison.
        claims: (the paper's claim, status, sentence) of those that it tries.
        total: ``tokens``, ``flops`` and ``device_seconds`` of all its runs.
    """

    name: str
    link: str
    question: str
    arms: list[str]
    seeds: list[int]
    missing: list[str]
    verdicts: list[tuple[str, str, str, str, str]]
    claims: list[tuple[str, str, str]]
    total: dict[str, float]


def write_index(folders: Sequence[Path], out: Path) -> Path:
    """Writes a self-contained HTML page that lists experiments in the given order.

    Args:
        folders: Folders of experiments that have a page (``page/results.json``), or these ``page`` folders themselves.
        out: The file to write; links are relative to it.

    Returns:
        ``out``.

    Raises:
        ConfigError: A folder is given twice.
        DataError: A folder has no page, or its results are damaged or of an earlier version.
    """
    pages = [folder / "page" if (folder / "page").is_dir() else folder for folder in folders]
    resolved = [page.resolve() for page in pages]
    if twice := next((page for i, page in enumerate(pages) if page.resolve() in resolved[:i]), None):
        raise ConfigError(f"{twice}: given twice")
    entries = [read_entry(page, out) for page in pages]
    html = page_environment("detour.experiments").get_template("index.html.j2").render(entries=entries)
    with naming(out):
        write_text(out, html)
    return out


def read_entry(page: Path, out: Path) -> Entry:
    """What the results of a page say, for an index at ``out``. Raises DataError as `write_index`."""
    file = page / RESULTS
    if not file.is_file():
        raise DataError(f"{file}: no such file; `detour experiment report FILE` writes it")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["format"] == 1 and "question" not in found:
            raise DataError(f"{file}: of an earlier version; `detour experiment report FILE` writes it again")
        if found["format"] != 1:
            raise DataError(f"{file}: format {found['format']!r}, expected 1")
        verdicts = [
            (found["titles"][key], c["arm"], c["baseline"], c["verdict"], c["sentence"])
            for key, comparisons in found["comparisons"].items()
            for c in comparisons
        ]
        return Entry(
            name=found["experiment"],
            link=quote(Path(os.path.relpath(page / PAGE, out.parent)).as_posix()),
            question=found["question"],
            arms=[found["baseline"], *(arm for arm in found["arms"] if arm != found["baseline"])],
            seeds=list(found["seeds"]),
            missing=list(found["missing"]),
            verdicts=verdicts,
            claims=[(c["statement"], c["status"], c["ours"]) for c in found["claims"]],
            total={key: float(found["total"][key]) for key in ("tokens", "flops", "device_seconds")},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: damaged ({error!r}); `detour experiment report FILE` writes it again") from error
