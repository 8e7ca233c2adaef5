"""Checks of a folder of packed rows: manifest, index, and every shard."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from detour.data.manifest import MANIFEST, ShardFile, ShardManifest, read_json
from detour.data.shards import HASHES, INDEX, columns_of
from detour.errors import DataError

log = logging.getLogger(__name__)


def verify_rows(
    folder: str | Path,
    *,
    hashes: bool,
    seq_len: int | None = None,
    tokenizer_sha256: str | None = None,
    is_cache: bool = False,
    verified: Callable[[Path], None] | None = None,
) -> ShardManifest:
    """Checks a folder of packed rows against its manifest, and against the run's row length and tokenizer.

    Args:
        folder: The folder, as written by `RowWriter`.
        hashes: Also read every shard and compare its xxh64. Cost: one read of all shards; without, a few system calls.
        seq_len: Required row length T; None to accept any.
        tokenizer_sha256: Required hash of the tokenizer, see `detour.data.tokenizer`; None to accept any.
        is_cache: The folder caches a remote one: shards may be absent, and damaged shards are deleted, to be fetched
            again.
        verified: Called with the path of each shard whose hash was compared.

    Raises:
        DataError: Something is missing or damaged, has another layout or tokenizer, or refers to a path outside the
            folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    manifest = ShardManifest.load(folder)
    if seq_len not in (None, manifest.seq_len):
        raise DataError(f"{folder}: rows of {manifest.seq_len} tokens, expected {seq_len}; pack the corpus again")
    found = manifest.tokenizer
    if tokenizer_sha256 not in (None, found.sha256):
        raise DataError(
            f"{folder}: made with tokenizer '{found.name}' ({found.sha256[:12]}), not {str(tokenizer_sha256)[:12]}"
        )
    for shard, samples in zip(manifest.shards, check_index(folder, manifest), strict=True):
        if is_cache and (folder / shard.file).is_symlink():  # a fetch would write through it
            raise DataError(f"{folder / shard.file}: is a symbolic link, expected a file of this cache itself")
        if is_cache and not (folder / shard.file).exists():
            continue
        try:
            check_shard(folder, shard, samples, hashes=hashes)
            if hashes and verified is not None:
                verified(folder / shard.file)
        except (DataError, FileNotFoundError) as problem:  # not found: another process has just deleted it
            if not is_cache:
                raise
            log.warning("%s; the cached copy is deleted", problem)
            (folder / shard.file).unlink(missing_ok=True)
    return manifest


def check_shard(folder: Path, shard: ShardFile, samples: int, *, hashes: bool) -> None:
    """Checks a shard's existence, size and number of rows, and (``hashes``) its xxh64. Raises DataError."""
    _check_file(folder / shard.file, samples, shard)
    if hashes:
        _check_hash(folder / shard.file, shard)


def check_index(folder: Path, manifest: ShardManifest) -> list[int]:
    """Checks the index against the manifest. Returns the number of rows of each shard. Raises DataError."""
    path = folder / INDEX
    index = read_json(path)
    try:
        version, shards = index["version"], index["shards"]
        names = [shard["raw_data"]["basename"] for shard in shards]
        rows = sum(shard["samples"] for shard in shards)
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an MDS index: {error!r}") from None
    for name in names:
        _check_name(folder, name)
    known = [shard.file for shard in manifest.shards]
    if version != 2 or names != known:
        raise DataError(f"{path}: version {version} with shards {names[:3]}..., expected version 2 with {known[:3]}...")
    if rows != manifest.counts.rows:
        raise DataError(f"{path}: {rows} rows, expected {manifest.counts.rows} as in {MANIFEST}")
    for shard, expected in zip(shards, manifest.shards, strict=True):
        _check_shard_entry(path, shard, expected, manifest)
    return [shard["samples"] for shard in shards]


def _check_name(folder: Path, name: Any) -> None:
    # only names that the writer gives: index and manifest are in the same folder, and damaged shards are deleted
    if not (isinstance(name, str) and re.fullmatch(r"shard\.[0-9]{5,}\.mds", name)):
        raise DataError(f"{folder / INDEX}: shard name {name!r}, expected one as 'shard.00000.mds', in this folder")


def _check_shard_entry(path: Path, shard: dict[str, Any], known: ShardFile, manifest: ShardManifest) -> None:
    """Checks every field of a shard's index entry: streaming trusts them, and some determine what it reads and how."""
    if manifest.dtype not in ("uint16", "uint32"):
        raise DataError(f"{path.parent / MANIFEST}: dtype: {manifest.dtype!r}, expected uint16 or uint32")
    columns = columns_of(seq_len=manifest.seq_len, dtype=manifest.dtype, spans=bool(manifest.classes))
    expected = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "zip_data": None,
        "hashes": HASHES,
        "column_names": list(columns),
        "column_encodings": list(columns.values()),
        "column_sizes": [*[None] * (len(columns) - 1), manifest.seq_len * np.dtype(manifest.dtype).itemsize],
    }
    raw = shard["raw_data"]
    if raw.get("bytes") != known.bytes or not isinstance(raw.get("hashes"), dict) or len(raw) != 3:
        raise DataError(f"{path}: {known.file}: raw_data is {raw!r}, expected {known.bytes} bytes, as in {MANIFEST}")
    if odd := shard.keys() ^ {*expected, "raw_data", "samples", "size_limit"}:
        raise DataError(f"{path}: {known.file}: {', '.join(sorted(odd))} missing or unknown")
    for key, value in expected.items():
        if shard.get(key) != value:
            raise DataError(f"{path}: {known.file}: {key} is {shard.get(key)!r}, expected {value!r}")
    for key in ("samples", "size_limit"):
        if type(shard.get(key)) is not int or shard[key] < 1:
            raise DataError(f"{path}: {known.file}: {key} is {shard.get(key)!r}, expected a whole number above 0")


def _check_file(path: Path, samples: Any, expected: ShardFile) -> None:
    if not path.is_file():
        raise DataError(f"{path}: this shard is missing")
    if (size := path.stat().st_size) != expected.bytes:
        raise DataError(f"{path}: {size} bytes, expected {expected.bytes}; copy it again")
    with path.open("rb") as file:
        head = struct.unpack("<I", file.read(4))[0] if size >= 4 else 0
    if head != samples:
        raise DataError(f"{path}: holds {head} rows, expected {samples} as in {INDEX}")


def _check_hash(path: Path, expected: ShardFile) -> None:
    digest = xxhash.xxh64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected.xxh64:
        raise DataError(f"{path}: xxh64 {digest.hexdigest()}, expected {expected.xxh64}; copy it again")
