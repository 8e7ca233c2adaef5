"""Checks of names used in paths and tables: runs, phases, tasks, models."""

from __future__ import annotations

import unicodedata

LONGEST_BYTES = 200  # file systems allow 255 per path component; this leaves room for suffixes and temporary prefixes
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators


def fault_of_name(name: str) -> str | None:
    """Why a name cannot be one component of a path, as a predicate ("is empty"); None if it can.

    A valid name, joined to a folder, is a direct child of that folder.
    """
    if fault := fault_of_label(name):
        return fault
    if sign := next((sign for sign in name if sign in "/\\"), None):
        return f"holds '{sign}', which would make it a path"
    if name.startswith("."):
        return "begins with a dot, as hidden and parent folders do"
    if (size := len(name.encode())) > LONGEST_BYTES:
        return f"is {size} bytes long, expected at most {LONGEST_BYTES}"
    return None


def fault_of_label(label: str) -> str | None:
    """Why a label cannot be shown on one line of a log or table, as a predicate ("is empty"); None if it can."""
    if not label.strip():
        return "is empty"
    if label != label.strip():
        return "begins or ends with white space"
    if sign := next((sign for sign in label if unicodedata.category(sign) in _UNPRINTABLE), None):
        return f"holds the character U+{ord(sign):04X}, which ends a line or cannot be shown"
    return None
