"""Numbers and errors as text for people: one function per form."""

from __future__ import annotations


def short(number: float, digits: int = 3) -> str:
    """A number with a suffix: 1234567 -> '1.23M'.

    Args:
        number: Any finite number; suffixes are k, M, B and T.
        digits: Significant digits before a suffix. Numbers below 1000 have three.
    """
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.{digits}g}{unit}"
    return f"{number:.3g}"


def scientific(number: float, decimals: int | None = None) -> str:
    """A number in scientific notation without exponent padding: 0.0002 -> '2e-4'.

    Args:
        number: Any finite number; zero is '0'.
        decimals: Decimals of the mantissa; by default up to two, without trailing zeros.
    """
    if not number:
        return "0"
    mantissa, exponent = f"{number:.{2 if decimals is None else decimals}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if decimals is None else mantissa}e{int(exponent)}"


def disk_size(size: float) -> str:
    """A number of bytes of weights or files: 12345678 -> '12 MB', 3.45e9 -> '3.5 GB'; from 100 MB in GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 9.95e7 else f"{size / 1e6:,.2g} MB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1, 'file' -> '1 file'; 2000, 'file' -> '2,000 files'."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def part_of(done: float, total: float) -> str:
    """What is done of a total: 2000, 5000 -> '2k of 5k (40%)'; at most 100%."""
    return f"{short(done)} of {short(total)} ({min(done / max(total, 1), 1):.0%})"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours: 5400 -> '90.0 min'."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
