"""Numbers as people read them."""

from __future__ import annotations


def short(number: float) -> str:
    """1234567 -> '1.23M'; three digits, with k, M, B or T."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
