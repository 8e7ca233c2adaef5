"""JSON values from a file, one at a time: one a line, the elements of an array, or values spread over several lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detour.errors import DataError

HEAD_BYTES = 4096
SPACE = re.compile(r"[ \t\r\n\ufeff]*")
ENDS_NUMBER = tuple(" \t\r\n,]}")
UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as Python's "surrogateescape" reads them


class RepeatedKeyError(ValueError):
    """An object holds a key twice, so that one of two values would be lost."""


class _Twice(dict):
    """An object that holds a key twice."""


def load_json_value(text: str) -> Any:
    """As `json.loads`. Raises RepeatedKeyError for an outermost object with a key twice, else as that function."""
    return _checked(_DECODER.decode(text))


def is_one_a_line(head: bytes) -> bool:
    """Whether a file that begins so holds one value a line, as opposed to an array or values over several lines."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, newline, _ = text.partition(b"\n")
    if first[:1] == b"[":
        return False
    try:
        json.loads(first.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        broken = "nterminated" in error.msg or "control character" in error.msg  # no string goes over a line's end
        return not newline or broken or error.pos < len(first.decode("utf-8", "replace").rstrip())
    except (ValueError, RecursionError):
        pass
    return True


def spread_values(chunks: Iterator[bytes], path: Path, longest: int) -> Iterator[tuple[int, Any | Exception]]:
    """(number from 1, value) of a file that has not one value a line; outermost arrays give their elements.

    In place of a value that is whole but cannot be used comes the exception that says why.

    Args:
        chunks: The file's content, UTF-8.
        path: For errors.
        longest: Characters of a value from which on it is not held in memory.

    Raises:
        DataError: Something is no JSON, or the file ends in the middle; nothing can be read from there on.

    Cost: memory of the longest value, twice.
    """
    text, number, inside, due = _Text(chunks, longest), 0, False, True
    while sign := text.next_sign():
        if not inside and sign == "[":
            inside = due = True
            text.at += 1
        elif inside and sign == "]":
            inside, due = False, True
            text.at += 1
        elif inside and sign == "," and not due:
            due = True
            text.at += 1
        else:
            try:
                if inside and not due:
                    raise ValueError("no comma between two elements")
                value = text.value()
            except (ValueError, RecursionError) as error:
                why = "too deep" if isinstance(error, RecursionError) else str(error).split(": line")[0]
                raise DataError(f"{path}: not valid JSON after record {number} ({why}); nothing more is read") from None
            number, due = number + 1, False
            yield number, value
    if inside:
        raise DataError(f"{path}: ends in the middle of a JSON array, after record {number}")


class _Text:
    """What was read of a file and not yet used: ``text`` from ``at`` on."""

    def __init__(self, chunks: Iterator[bytes], longest: int) -> None:
        self.text, self.at, self.ended = "", 0, False
        self._chunks, self._longest = chunks, longest
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def next_sign(self) -> str:
        """The next character that is no white space, and stays; empty at the end."""
        while True:
            match = SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._read(1)

    def value(self) -> Any | Exception:
        """The value that begins here. Raises ValueError if none does, or it is longer than may be held."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                if self.ended:
                    raise
            else:
                number_goes_on = isinstance(value, int | float) and self.text[end : end + 1] not in ENDS_NUMBER
                if self.ended or not number_goes_on:
                    raw, self.at = self.text[self.at : end], end
                    if UNDECODED.search(raw):
                        return UnicodeError("not valid UTF-8")
                    try:
                        return _checked(value)
                    except RepeatedKeyError as error:
                        return error
            if len(self.text) - self.at > self._longest:
                raise ValueError(f"nothing that ends within {self._longest:,} characters")
            self._read(len(self.text) - self.at)  # twice as much, so that trying again costs no more than reading

    def _read(self, characters: int) -> None:
        parts = [self.text[self.at :]]
        while characters > 0 and not self.ended:
            chunk = next(self._chunks, None)
            self.ended = chunk is None
            parts.append(self._decoder.decode(chunk or b"", final=self.ended))
            characters -= len(parts[-1])
        self.text, self.at = "".join(parts), 0


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Twice(found)


def _checked(value: Any) -> Any:
    if isinstance(value, _Twice):
        raise RepeatedKeyError("a key twice in one object")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of)
