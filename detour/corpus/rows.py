"""Tokenized document shards of a source -> one folder of packed rows.

The order of rows depends on neither the number of processes nor the layout of the input files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import numpy as np

from detour.corpus.document_encoder import cut, document_encoder_of
from detour.corpus.document_shards import load_json
from detour.corpus.job import DocumentShard, Job, document_shards_of
from detour.data.manifest import MANIFEST, SourceFile
from detour.data.packing import pack_rows
from detour.data.shards import RowWriter, ids_dtype

OPEN_FILES = 256
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def write_rows(job: Job, source: int, split: str) -> None:
    """Packs a source's documents of one split, "train" or "validation". Does nothing if there are none or it is done.

    The order of documents is drawn from their ids and the seed. A document with n copies has one copy in each n-th of the
    stream. A packing window is at most one n-th of the stream, so each copy is packed with different neighbors.

    Memory: about 40 bytes per document or copy, and two packing windows (`pack_rows`).
    """
    out = Path(job.config.out) / split / job.config.sources[source].name
    if (out / MANIFEST).is_file():
        return  # RowWriter writes folders atomically
    last = len(job.passes)
    shards = [shard for shard in document_shards_of(job) if shard.source == source]
    tokens = _Tokens(job, last, shards, validation=split == "validation")
    if not len(tokens.length):
        return
    info = document_encoder_of(job.config.tokenizer).info
    lengths = Counter[int]()

    def pieces() -> Iterator[np.ndarray]:
        for index in tokens.order:
            ids = tokens.read(index)
            lengths[len(ids)] += 1
            yield from cut(ids, job.config.longest_document)

    rows = pack_rows(
        pieces(),
        seq_len=job.config.seq_len,
        seed=job.config.seed,
        window_tokens=tokens.window(job.config.seq_len),
    )
    with (
        closing(tokens),
        RowWriter(out, seq_len=job.config.seq_len, tokenizer=info, seed=job.config.seed) as writer,
    ):
        for row in rows:
            writer.write(row)
        tokenized = [load_json(job.file(last, shard, "json")) for shard in shards]
        empty = sum(record["without_tokens"] for record in tokenized)
        empty += sum(file["skipped"].get("empty text", 0) for file in job.files_read(source))
        writer.finish(
            sources=_source_files(job, source, [record["licenses"][split] for record in tokenized], tokens),
            documents=sum(lengths.values()),
            empty_skipped=empty if split == "train" else 0,  # empty documents have no split; count them once
            documents_split=sum(n for length, n in lengths.items() if length > job.config.longest_document),
            document_lengths=lengths,
            literal_special_tokens=sum(record["literal_specials"][split] for record in tokenized),
        )


class _Tokens:
    """The tokenized documents of one split: where their ids are stored, and the order of documents and copies. Close it."""

    def __init__(self, job: Job, last: int, shards: list[DocumentShard], *, validation: bool) -> None:
        self.files = [job.file(last, shard, "tokens") for shard in shards]
        self.opened: dict[int, IO[bytes]] = {}  # in order of use, the most recent last
        self.dtype = np.dtype(ids_dtype(document_encoder_of(job.config.tokenizer).info.vocab_size))
        self.documents = Counter[int]()  # by input file
        shard, offset, length, repeats, key = [], [], [], [], []
        for s, this in enumerate(shards):
            with np.load(job.file(last, this, "npz")) as arrays:
                selected = arrays["in_validation"] == validation
                ends = np.cumsum(arrays["length"], dtype=np.int64)
                offset.append((ends - arrays["length"])[selected])
                length.append(arrays["length"][selected])
                repeats.append(np.where(validation, np.uint32(1), arrays["repeats"][selected]))
                key.append(arrays["key"][selected])
                files, counts = np.unique(arrays["input_file"][selected], return_counts=True)
                self.documents.update(dict(zip(files.tolist(), counts.tolist(), strict=True)))
                shard.append(np.full(int(selected.sum()), s, np.uint32))
        self.shard, self.offset, self.length = map(np.concatenate, (shard or [()], offset or [()], length or [()]))
        self.repeats, self.key = map(np.concatenate, (repeats or [()], key or [()]))
        self.order = _order(self.repeats.astype(np.int64), self.key) if len(self.length) else np.empty(0, np.uint32)

    def read(self, index: int) -> np.ndarray:
        """The ids of a document. Not memory-mapped, since pages once touched would count as memory in use."""
        n_bytes, start = int(self.length[index]) * self.dtype.itemsize, int(self.offset[index]) * self.dtype.itemsize
        return np.frombuffer(os.pread(self._opened(int(self.shard[index])).fileno(), n_bytes, start), self.dtype)

    def _opened(self, shard: int) -> IO[bytes]:
        file = self.opened.pop(shard, None) or self.files[shard].open("rb", buffering=0)
        self.opened[shard] = file
        if len(self.opened) > OPEN_FILES:
            self.opened.pop(next(iter(self.opened))).close()
        return file

    def close(self) -> None:
        """Closes all open files."""
        while self.opened:
            self.opened.popitem()[1].close()

    def window(self, seq_len: int) -> int | None:
        """Tokens of a packing window within which no document occurs twice; None for the default window."""
        most = int(self.repeats.max())
        total = int((self.length.astype(np.int64) * self.repeats).sum())
        return max(seq_len, total // most) if most > 1 and total // most < 1 << 24 else None


def _order(repeats: np.ndarray, key: np.ndarray) -> np.ndarray:
    """uint32 [copies]: document indices, sorted by the position in the stream, in [0, 1), that each copy is assigned."""
    document = np.repeat(np.arange(len(repeats), dtype=np.uint32), repeats)
    first = np.cumsum(repeats) - repeats
    copy = np.arange(len(document), dtype=np.int64) - first[document]
    drawn = _mixed(key[document] + copy.astype(np.uint64) * GOLDEN) / 2.0**64
    return document[np.argsort((copy + drawn) / repeats[document], kind="stable")]


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014): maps uint64 to uniformly distributed uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _source_files(job: Job, source: int, licenses: list[dict[str, list[str]]], tokens: _Tokens) -> list[SourceFile]:
    """The input files of the folder's documents, with the number of documents and the licenses of each."""
    licenses_of = dict[int, set[str]]()
    for of_shard in licenses:
        for f, found in of_shard.items():
            licenses_of.setdefault(int(f), set()).update(found)
    return [
        SourceFile(
            path=record["name"],
            sha256=record["sha256"],
            bytes=record["bytes"],
            documents=tokens.documents[f],
            license=", ".join(sorted(licenses_of.get(f, ()))) or None,
        )
        for f, record in enumerate(job.files_read(source))
        if tokens.documents[f]
    ]
