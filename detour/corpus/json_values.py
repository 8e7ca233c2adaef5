"""Streams JSON values from a file: one per line, the elements of an array, or values that span several lines."""

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
UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, decoded with "surrogateescape"


class RepeatedKeyError(ValueError):
    """An object has a key twice, so one of the two values would be lost."""


class _RepeatedKeys(dict):
    """An object that has a key twice."""


def load_json_value(text: str) -> Any:
    """Like `json.loads`, but raises RepeatedKeyError if the outermost object has a key twice."""
    return _checked(_DECODER.decode(text))


def is_one_per_line(head: bytes) -> bool:
    """Whether the first bytes of a file show one value per line, as opposed to an array or values that span lines."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, newline, _ = text.partition(b"\n")
    if first[:1] == b"[":
        return False
    try:
        json.loads(first.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        broken = (
            "nterminated" in error.msg or "control character" in error.msg
        )  # a JSON string cannot contain a line break
        return not newline or broken or error.pos < len(first.decode("utf-8", "replace").rstrip())
    except (ValueError, RecursionError):
        pass
    return True


def multiline_values(chunks: Iterator[bytes], path: Path, longest: int) -> Iterator[tuple[int, Any | Exception]]:
    """Yields (number from 1, value) from a file without one value per line; an outermost array yields its elements.

    Yields an exception in place of a value that is complete but cannot be used.

    Args:
        chunks: The file's content, UTF-8.
        path: For errors.
        longest: Maximum characters of a value.

    Raises:
        DataError: The content is not JSON, or the file ends within a value; the rest of the file cannot be read.

    Memory: twice the longest value.
    """
    text, number, in_array, expects_value = _Text(chunks, longest), 0, False, True
    while character := text.next_character():
        if not in_array and character == "[":
            in_array = expects_value = True
            text.at += 1
        elif in_array and character == "]":
            in_array, expects_value = False, True
            text.at += 1
        elif in_array and character == "," and not expects_value:
            expects_value = True
            text.at += 1
        else:
            try:
                if in_array and not expects_value:
                    raise ValueError("no comma between two elements")
                value = text.value()
            except (ValueError, RecursionError) as error:
                why = "too deep" if isinstance(error, RecursionError) else str(error).split(": line")[0]
                raise DataError(f"{path}: not valid JSON after record {number} ({why}); nothing more is read") from None
            number, expects_value = number + 1, False
            yield number, value
    if in_array:
        raise DataError(f"{path}: ends in the middle of a JSON array, after record {number}")


class _Text:
    """The part of a file that was read and not yet parsed: ``text`` from index ``at`` on."""

    def __init__(self, chunks: Iterator[bytes], longest: int) -> None:
        self.text, self.at, self.ended = "", 0, False
        self._chunks, self._longest = chunks, longest
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def next_character(self) -> str:
        """The next character that is not white space, without consuming it; empty at the end."""
        while True:
            match = SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._read(1)

    def value(self) -> Any | Exception:
        """Parses the value that begins at ``at``. Raises ValueError if there is none or it exceeds the maximum length."""
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
                raise ValueError(f"no value that ends within {self._longest:,} characters")
            self._read(len(self.text) - self.at)  # doubles the text, so that all attempts together cost O(length)

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
    return found if len(found) == len(pairs) else _RepeatedKeys(found)


def _checked(value: Any) -> Any:
    if isinstance(value, _RepeatedKeys):
        raise RepeatedKeyError("a key twice in one object")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of)
