"""Text that others wrote, made safe to stand in Markdown."""

from __future__ import annotations

import html
import re

_SIGNS = re.compile(
    r"([\\`*_\[\]#|~$])"
)  # that begin or end something within a line of CommonMark or of GitHub's Markdown


def markdown(text: object) -> str:
    """The text on one line of Markdown or in a table cell, where a reader sees it as it is; white space is collapsed."""
    line = " ".join(str(text).split())
    return _SIGNS.sub(r"\\\1", html.escape(line, quote=False))
