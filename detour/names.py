"""Names that become parts of paths and of tables: of runs, phases, tasks and models."""

from __future__ import annotations

import unicodedata

LONGEST_BYTES = 200  # file systems take 255 for one part of a path; suffixes and a temporary prefix need room
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators


def fault_of_name(name: str) -> str | None:
    """What keeps a name from being one part of a path, in words that follow the name; None if nothing does.

    A name that passes stays inside the folder that it is joined to, and makes one file or folder there.
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
    """What keeps a label from standing on one line of a log or table, in words that follow it; None if nothing does."""
    if not label.strip():
        return "is empty"
    if label != label.strip():
        return "begins or ends with white space"
    if sign := next((sign for sign in label if unicodedata.category(sign) in _UNPRINTABLE), None):
        return f"holds the character U+{ord(sign):04X}, which ends a line or cannot be shown"
    return None
