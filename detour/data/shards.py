"""Packed rows on the disk: the column contract, the writer, and the check at open.

Columns of a row of T tokens, in MDS shards (mosaicml-streaming, format version 2):
    input_ids    uint16 [T] where the vocabulary has at most 65,536 ids, else uint32 [T]; the tail is pad_id
    doc_lengths  uint32 [documents in the row]: tokens of each document or piece, in order; sum <= T

Beside them, for `detour data inspect`: ``lengths.npy``, int64 [n, 2], how many documents have how many tokens uncut.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xxhash

import detour
from detour.data.manifest import FORMAT, MANIFEST, Counts, ShardFile, ShardManifest, Source, TokenizerInfo, read_json
from detour.errors import DataError

log = logging.getLogger(__name__)

INDEX = "index.json"
LENGTHS = "lengths.npy"
SHARD_BYTES = 1 << 26
HASHES = ["sha256", "xxh64"]


def ids_dtype(vocab_size: int) -> str:
    """The smallest of uint16 and uint32 that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def columns_of(*, seq_len: int, dtype: str) -> dict[str, str]:
    """Column names and MDS encodings."""
    return {"doc_lengths": "ndarray:uint32", "input_ids": f"ndarray:{dtype}:{seq_len}"}


class RowWriter:
    """Writes rows into a hidden folder beside ``out`` and moves it into place in `finish`.

    Leaving the `with` block without `finish`, by an error or not, removes what was written, so a folder that exists is
    whole.

    Args:
        out: The dataset's folder.
        seq_len: T.
        tokenizer: Goes into the manifest and decides the type of the ids.
        seed: The packing's, for the manifest.
        overwrite: Replace ``out`` where it holds a dataset; any other folder that is not empty is refused regardless.
        shard_bytes: Upper limit of a shard's size.

    Raises:
        DataError: ``out`` is taken.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        seq_len: int,
        tokenizer: TokenizerInfo,
        seed: int,
        overwrite: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        from streaming import MDSWriter  # takes seconds, and checking rows needs none of it

        self.out, self.seq_len, self.tokenizer, self.seed = Path(out), seq_len, tokenizer, seed
        self.dtype = ids_dtype(tokenizer.vocab_size)
        self.rows = self.pieces = self.tokens = 0
        _check_free(self.out, overwrite=overwrite)
        self.partial = self.out.absolute().with_name(f".{self.out.name}.{os.getpid()}.partial")
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        columns = columns_of(seq_len=seq_len, dtype=self.dtype)
        self._mds = MDSWriter(out=str(self.partial), columns=columns, hashes=HASHES, size_limit=shard_bytes)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mds.executor.shutdown()
        shutil.rmtree(self.partial, ignore_errors=True)  # gone already if finish was reached

    def write(self, row: Sequence[np.ndarray]) -> None:
        """Adds a row: its pieces' ids, uint16 or uint32 [n] each, together at most T tokens."""
        ids_T = np.full(self.seq_len, self.tokenizer.pad_id, self.dtype)
        lengths_D = np.array([len(piece) for piece in row], np.uint32)
        filled = int(lengths_D.sum())
        np.concatenate(row, out=ids_T[:filled], casting="safe")
        self._mds.write({"input_ids": ids_T, "doc_lengths": lengths_D})
        self.rows, self.pieces, self.tokens = self.rows + 1, self.pieces + len(row), self.tokens + filled

    def finish(
        self,
        *,
        sources: Sequence[Source],
        documents: int,
        empty_skipped: int,
        documents_split: int,
        document_lengths: Mapping[int, int] | None = None,
        literal_special_tokens: int = 0,
    ) -> ShardManifest:
        """Writes index and manifest and moves the folder into place.

        Args:
            sources: For the manifest, as the next three.
            documents: As above.
            empty_skipped: As above.
            documents_split: As above.
            document_lengths: Documents by their number of tokens, before they were cut; goes into ``lengths.npy``.
            literal_special_tokens: For the manifest, see `Counts`.

        Raises:
            DataError: No row was written.
        """
        if not self.rows:
            raise DataError(f"{self.out}: no document with text was found, so there is nothing to write")
        self._mds.finish()
        manifest = ShardManifest(
            format=FORMAT,
            created_by=f"detour {detour.__version__}",
            seq_len=self.seq_len,
            dtype=self.dtype,
            seed=self.seed,
            tokenizer=self.tokenizer,
            counts=Counts(
                documents=documents,
                empty_skipped=empty_skipped,
                documents_split=documents_split,
                pieces=self.pieces,
                tokens=self.tokens,
                rows=self.rows,
                literal_special_tokens=literal_special_tokens,
            ),
            sources=tuple(sources),
            shards=tuple(_shard_file(shard["raw_data"]) for shard in self._mds.shards),
        )
        if document_lengths is not None:
            np.save(self.partial / LENGTHS, np.array(sorted(document_lengths.items()), np.int64))
        manifest.save(self.partial)
        if self.out.exists():
            shutil.rmtree(self.out)  # empty, or a dataset to overwrite: checked at the start
        self.partial.rename(self.out)
        return manifest


def verify_rows(
    folder: str | Path,
    *,
    hashes: bool,
    seq_len: int | None = None,
    vocab_fingerprint: str | None = None,
    is_cache: bool = False,
    verified: Callable[[Path], None] | None = None,
) -> ShardManifest:
    """Checks a folder of packed rows against its manifest and against what the run expects.

    Args:
        folder: As `RowWriter` left it.
        hashes: Also read every shard and compare its xxh64. Cost: the disk's speed; without, a few file-system calls.
        seq_len: The run's T, if it must fit.
        vocab_fingerprint: `fingerprint` of the run's tokenizer, if it must fit.
        is_cache: Shards may be absent, and a copy that is damaged is deleted, to be fetched again; the rest is no
            different.
        verified: Called with the path of each shard whose hash was compared.

    Raises:
        DataError: Something is missing, damaged, of another layout, made with another tokenizer, or points out of the
            folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    manifest = ShardManifest.load(folder)
    if seq_len not in (None, manifest.seq_len):
        raise DataError(f"{folder}: rows of {manifest.seq_len} tokens, expected {seq_len}; pack the corpus again")
    found = manifest.tokenizer
    if vocab_fingerprint not in (None, found.sha256):
        raise DataError(
            f"{folder}: made with tokenizer '{found.name}' ({found.sha256[:12]}), not {str(vocab_fingerprint)[:12]}"
        )
    for shard, samples in zip(manifest.shards, check_index(folder, manifest), strict=True):
        if is_cache and (folder / shard.file).is_symlink():  # what is fetched would be written through it
            raise DataError(f"{folder / shard.file}: is a symbolic link, expected a file of this cache itself")
        if is_cache and not (folder / shard.file).exists():
            continue
        try:
            check_shard(folder, shard, samples, hashes=hashes)
            if hashes and verified is not None:
                verified(folder / shard.file)
        except (DataError, FileNotFoundError) as problem:  # gone: another process has just deleted it
            if not is_cache:
                raise
            log.warning("%s; the cached copy is deleted", problem)
            (folder / shard.file).unlink(missing_ok=True)
    return manifest


def check_shard(folder: Path, shard: ShardFile, samples: int, *, hashes: bool) -> None:
    """Raises DataError unless the shard is there, of its size and number of rows, and (``hashes``) of its xxh64."""
    _check_file(folder / shard.file, samples, shard)
    if hashes:
        _check_hash(folder / shard.file, shard)


def check_index(folder: Path, manifest: ShardManifest) -> list[int]:
    """Rows of each shard, once the index is found to agree with the manifest."""
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
    # only what the writer calls its shards: index and manifest lie in the same folder, and bad shards are deleted
    if not (isinstance(name, str) and re.fullmatch(r"shard\.[0-9]{5,}\.mds", name)):
        raise DataError(f"{folder / INDEX}: shard name {name!r}, expected one as 'shard.00000.mds', in this folder")


def _check_shard_entry(path: Path, shard: dict[str, Any], known: ShardFile, manifest: ShardManifest) -> None:
    """Every field is checked: streaming believes all of them, and some decide what it reads and how."""
    if manifest.dtype not in ("uint16", "uint32"):
        raise DataError(f"{path.parent / MANIFEST}: dtype: {manifest.dtype!r}, expected uint16 or uint32")
    columns = columns_of(seq_len=manifest.seq_len, dtype=manifest.dtype)
    expected = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "zip_data": None,
        "hashes": HASHES,
        "column_names": list(columns),
        "column_encodings": list(columns.values()),
        "column_sizes": [None, manifest.seq_len * np.dtype(manifest.dtype).itemsize],
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


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise DataError(f"{out}: exists and is not empty; choose another folder or pass --overwrite")
    if not (out / MANIFEST).is_file():
        raise DataError(f"{out}: holds no {MANIFEST}, so it is not a dataset and is not overwritten")


def _shard_file(raw: dict[str, Any]) -> ShardFile:
    return ShardFile(file=raw["basename"], bytes=raw["bytes"], **raw["hashes"])
