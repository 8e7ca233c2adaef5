"""Escapes arbitrary text for Markdown, LaTeX and CSV, so that it shows verbatim, on one line."""

from __future__ import annotations

import re

# an underscore between letters is literal in Markdown, and frequent in names
_MARKDOWN = re.compile(r"[\\`*\[\]|~$#!]|(?<![^\W_])_|_(?![^\W_])")
_BEGINS = re.compile(r"^(\d*)([-+.)])(?=[-+ ]|$)")  # list items and thematic breaks
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "%&#_${}"}
    | {sign: f"${sign}$" for sign in "<>|"}  # otherwise other characters in the OT1 font encoding
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--"}
    | {"[": "{[}", "]": "{]}"}  # after \\ a bracket would be its optional argument
)


def markdown(text: object) -> str:
    """A text escaped for Markdown (CommonMark and GitHub's tables). White space is collapsed."""
    line = _BEGINS.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split())))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(text: object) -> str:
    """A text escaped for LaTeX."""
    return "".join(c if c.isprintable() else " " for c in str(text)).translate(_LATEX)


def spreadsheet(value: object) -> object:
    """A cell of a CSV file. A text that a spreadsheet would evaluate as a formula is prefixed with an apostrophe (OWASP)."""
    formula = isinstance(value, str) and (value.lstrip().startswith(("=", "+", "-", "@")) or value[:1] in ("\t", "\r"))
    return f"'{value}" if formula else value
