"""Compressed files as chunks of bounded size. A file cut short or damaged is an error, never a shorter file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import zstandard

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # what `decompressed` may raise
CHUNK_BYTES = 1 << 18
ZSTD_STEP_BYTES = 1 << 10  # decompressed at once: comes to at most 32 MiB
ZSTD_PIECE_BYTES = 1 << 11  # compressed; a block of four bytes may hold 128 KiB
ZSTD_WINDOW_BYTES = 1 << 27  # what `zstd --long` writes; a reader refuses over 8 MiB unless told
XZ_MEMORY_BYTES = 1 << 28  # `xz -9` needs 65 MiB to unpack


def decompressed(raw: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The content of an open file; a suffix (with its dot, in any case) that is no compression's gives it unchanged.

    Raises:
        One of `ERRORS`: the file is cut short or damaged.
    """
    suffix = suffix.lower()
    if suffix == ".zst":
        yield from _zstd_chunks(raw)
    elif suffix == ".bz2":
        yield from _stream_chunks(raw, bz2.BZ2Decompressor)
    elif suffix == ".xz":
        yield from _stream_chunks(raw, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES))
    else:
        stream = gzip.GzipFile(fileobj=raw) if suffix == ".gz" else raw
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _stream_chunks(raw: BinaryIO, new: Callable[[], Any]) -> Iterator[bytes]:
    """Stream after stream, as parallel compressors write them.

    The standard library's file objects take whatever follows the first stream and is damaged for the end of the file.
    """
    unpacker, data = None, b""
    while True:
        if not data and (unpacker is None or unpacker.needs_input) and not (data := raw.read(CHUNK_BYTES)):
            break
        if unpacker is None:
            if not (data := data.lstrip(b"\0")):  # padding between streams
                continue
            unpacker = new()
        yield unpacker.decompress(data, CHUNK_BYTES)
        data = b""
        if unpacker.eof:
            unpacker, data = None, unpacker.unused_data
    if unpacker is not None:
        raise EOFError("the file ends in the middle of a compressed stream")


def _zstd_chunks(raw: BinaryIO) -> Iterator[bytes]:
    """Frame after frame. Unlike zstandard's own stream reader, does not take a file cut short for a whole one.

    A few bytes may stand for a great many, so little is fed at a time: no chunk is longer than about 64 MiB.
    """
    library = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = None
    while data := raw.read(ZSTD_STEP_BYTES):
        left = memoryview(data)
        while left:
            frame = frame or library.decompressobj()
            yield frame.decompress(left[:ZSTD_PIECE_BYTES])
            unused = len(frame.unused_data) if frame.eof else 0
            left = left[len(left[:ZSTD_PIECE_BYTES]) - unused :]
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the file ends in the middle of a zstd frame")
