"""The pages of the project, and what their fenced blocks hold."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [*sorted(DOCS.rglob("*.md")), *ROOT_PAGES, *sorted((ROOT / "data_prep").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands_in(page: Path) -> list[str]:
    """The commands of a page's shell blocks, without comments, environment variables and line continuations."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split(" #")[0].strip()
            words = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", words)
            if words and not words.startswith("#"):
                found.append(" ".join(words.split()))
    return found
