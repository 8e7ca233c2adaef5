"""Decompression in chunks of bounded size. A truncated or damaged file is an error, never a shorter file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import zstandard

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # raised by `decompressed`
CHUNK_BYTES = 1 << 18
ZSTD_STEP_BYTES = 1 << 10  # read at once; decompresses to at most 32 MiB
ZSTD_PIECE_BYTES = 1 << 11  # fed at once; a compressed block of four bytes may hold 128 KiB
ZSTD_WINDOW_BYTES = 1 << 27  # written by `zstd --long`; readers refuse more than 8 MiB by default
XZ_MEMORY_BYTES = 1 << 28  # `xz -9` needs 65 MiB to unpack


def decompressed(raw: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The decompressed content of an open file.

    Args:
        raw: The file.
        suffix: Its suffix with the dot, in any case. If it is not one of COMPRESSIONS, the content is unchanged.

    Raises:
        One of `ERRORS`: The file is truncated or damaged.
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
    """Decompresses concatenated streams, as parallel compressors write them.

    The standard library's file objects take damaged data after the first stream for the end of the file.
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
    """Decompresses concatenated frames. Unlike zstandard's own stream reader, raises for a truncated file.

    The compression ratio can be extreme, so the input is fed in small pieces: no chunk exceeds about 64 MiB.
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
