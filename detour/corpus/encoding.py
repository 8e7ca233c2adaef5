"""Text that is not UTF-8: converted where the user names the encoding, detected and refused where not."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from detour.errors import DataError

HEAD_BYTES = 4096
UTF_8 = ("utf-8", "utf-8-sig")
OTHER_FORMATS = {  # first bytes of files that are not UTF-8 text; longer ones first where one is a prefix of another
    codecs.BOM_UTF32_LE: "UTF-32 text; set the option `encoding: utf-32`",
    codecs.BOM_UTF32_BE: "UTF-32 text; set the option `encoding: utf-32`",
    codecs.BOM_UTF16_LE: "UTF-16 text; set the option `encoding: utf-16`",
    codecs.BOM_UTF16_BE: "UTF-16 text; set the option `encoding: utf-16`",
    b"\x1f\x8b": "compressed by gzip, which its suffix does not show",
    b"BZh91AY&SY": "compressed by bzip2, which its suffix does not show",
    b"\xfd7zXZ\0": "compressed by xz, which its suffix does not show",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, which its suffix does not show",
    b"PK\x03\x04": "a zip archive; unpack it",
}


def check_encoding(name: str) -> None:
    """Raises ValueError if Python knows no text encoding of this name."""
    try:
        codecs.getincrementaldecoder(name)
        "a".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError(
            f"encoding is {name!r}, expected a name such as utf-8, utf-16, windows-1252 or iso-8859-1"
        ) from None


def as_utf8(chunks: Iterator[bytes], encoding: str, path: Path) -> Iterator[bytes]:
    """Converts the content of a text file to UTF-8. Undecodable bytes are passed through, so that their line is refused.

    Args:
        chunks: The file's content.
        encoding: Its encoding.
        path: For errors.

    Raises:
        DataError: UTF-8 was expected and the file begins like one of another encoding or like a compressed one; or a
            multi-byte encoding cannot be decoded beyond some byte.
    """
    if codecs.lookup(encoding).name in UTF_8:
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
        if other := _other_format(head[:HEAD_BYTES]):
            raise DataError(f"{path}: not UTF-8 but {other}")
        if head:
            yield head
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogateescape")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise DataError(f"{path}: not valid {encoding}: {error}") from None


def _other_format(head: bytes) -> str | None:
    """What the first bytes show the file to be instead of UTF-8 text; None if it may be UTF-8."""
    for magic, what in OTHER_FORMATS.items():
        if head.startswith(magic):
            return what
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 5 > len(head) and min(even, odd) * 10 < max(even, odd):  # Latin letters of two bytes each
        name = "utf-16-le" if odd > even else "utf-16-be"
        return f"UTF-16 text without a byte order mark; set the option `encoding: {name}`"
    return None
