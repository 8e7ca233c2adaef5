"""Escapes arbitrary text for Markdown."""

from __future__ import annotations

import html
import re

_SIGNS = re.compile(r"([\\`*_\[\]#|~$])")  # inline syntax of CommonMark and of GitHub's Markdown


def markdown(text: object) -> str:
    """Escapes text so that it shows verbatim on one line of Markdown or in a table cell. White space is collapsed."""
    line = " ".join(str(text).split())
    return _SIGNS.sub(r"\\\1", html.escape(line, quote=False))
