"""Token files of a source -> one folder of packed rows, in an order that no process count or file layout decides."""

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
from detour.corpus.passes import Job, Part, parts_of
from detour.data.manifest import MANIFEST, Source
from detour.data.packing import pack_rows
from detour.data.shards import RowWriter, ids_dtype

OPEN_FILES = 256
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def write_rows(job: Job, source: int, side: str) -> None:
    """Packs a source's documents of one side, "train" or "validation"; nothing if it has none or they are packed.

    Documents come in an order drawn from their names and the seed. Of a document with n copies one comes in each n-th of
    the stream, and no more than such an n-th is packed together, so that copies meet other neighbors.

    Memory: about 40 bytes a document or copy, and two packing windows (`pack_rows`).
    """
    out = Path(job.config.out) / side / job.config.sources[source].name
    if (out / MANIFEST).is_file():
        return  # RowWriter moves whole folders into place
    last = len(job.passes)
    parts = [part for part in parts_of(job) if part.source == source]
    tokens = _Tokens(job, last, parts, held_out=side == "validation")
    if not len(tokens.length):
        return
    info = document_encoder_of(job.config.tokenizer).info
    lengths = Counter[int]()

    def pieces() -> Iterator[np.ndarray]:
        for index in tokens.order:
            ids = tokens.read(index)
            lengths[len(ids)] += 1
            yield from cut(ids, job.config.seq_len)

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
        tokenized = [load_json(job.file(last, part, "json")) for part in parts]
        without = sum(told["without_tokens"] for told in tokenized)
        units = [load_json(job.unit_file(source, unit)) for unit in range(len(job.units[source]))]
        without += sum(unit["skipped"].get("empty text", 0) for unit in units)
        writer.finish(
            sources=_sources(job, source, side, parts, tokens),
            documents=sum(lengths.values()),
            empty_skipped=without if side == "train" else 0,  # no side is drawn for them; told once
            documents_split=sum(n for length, n in lengths.items() if length > job.config.seq_len),
            document_lengths=lengths,
            literal_special_tokens=sum(told["literal_specials"][side] for told in tokenized),
        )


class _Tokens:
    """Where each document's ids lie, and in which order documents and copies come. To be closed."""

    def __init__(self, job: Job, last: int, parts: list[Part], *, held_out: bool) -> None:
        self.files = [job.file(last, part, "tokens") for part in parts]
        self.opened: dict[int, IO[bytes]] = {}  # the one used last stands last
        self.dtype = np.dtype(ids_dtype(document_encoder_of(job.config.tokenizer).info.vocab_size))
        part, offset, length, repeats, key = [], [], [], [], []
        for p, this in enumerate(parts):
            with np.load(job.file(last, this, "npz")) as arrays:
                mine = arrays["held_out"] == held_out
                ends = np.cumsum(arrays["length"], dtype=np.int64)
                offset.append((ends - arrays["length"])[mine])
                length.append(arrays["length"][mine])
                repeats.append(np.where(held_out, np.uint32(1), arrays["repeats"][mine]))
                key.append(arrays["key"][mine])
                part.append(np.full(int(mine.sum()), p, np.uint32))
        self.part, self.offset, self.length = map(np.concatenate, (part or [()], offset or [()], length or [()]))
        self.repeats, self.key = map(np.concatenate, (repeats or [()], key or [()]))
        self.order = _order(self.repeats.astype(np.int64), self.key) if len(self.length) else np.empty(0, np.uint32)

    def read(self, index: int) -> np.ndarray:
        """The ids of a document. Not by memory mapping: pages once touched would count as memory in use."""
        bytes_, start = int(self.length[index]) * self.dtype.itemsize, int(self.offset[index]) * self.dtype.itemsize
        return np.frombuffer(os.pread(self._opened(int(self.part[index])).fileno(), bytes_, start), self.dtype)

    def _opened(self, part: int) -> IO[bytes]:
        file = self.opened.pop(part, None) or self.files[part].open("rb", buffering=0)
        self.opened[part] = file
        if len(self.opened) > OPEN_FILES:
            self.opened.pop(next(iter(self.opened))).close()
        return file

    def close(self) -> None:
        while self.opened:
            self.opened.popitem()[1].close()

    def window(self, seq_len: int) -> int | None:
        """Tokens packed together: a share of the stream in which no document comes twice; None for the default."""
        most = int(self.repeats.max())
        total = int((self.length.astype(np.int64) * self.repeats).sum())
        return max(seq_len, total // most) if most > 1 and total // most < 1 << 24 else None


def _order(repeats: np.ndarray, key: np.ndarray) -> np.ndarray:
    """uint32 [copies]: document indices, by where in the stream, in [0, 1), each copy belongs."""
    document = np.repeat(np.arange(len(repeats), dtype=np.uint32), repeats)
    first = np.cumsum(repeats) - repeats
    copy = np.arange(len(document), dtype=np.int64) - first[document]
    drawn = _mixed(key[document] + copy.astype(np.uint64) * GOLDEN) / 2.0**64
    return document[np.argsort((copy + drawn) / repeats[document], kind="stable")]


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014): uint64 in, evenly spread uint64 out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _sources(job: Job, source: int, side: str, parts: list[Part], tokens: _Tokens) -> list[Source]:
    """The files that the folder's documents come from, each with how many stand in it and under which licenses."""
    documents, licenses = Counter[int](), dict[int, set[str]]()
    per_part = np.bincount(tokens.part.astype(np.int64), minlength=len(parts))
    for part, n in zip(parts, per_part.tolist(), strict=True):
        documents[part.unit] += n
        said = load_json(job.file(len(job.passes), part, "json"))["seen"][side]["license"]
        licenses.setdefault(part.unit, set()).update(said)
    read = {unit: load_json(job.unit_file(source, unit)) for unit, n in documents.items() if n}
    return [
        Source(
            path=record["name"],
            sha256=record["sha256"],
            bytes=record["bytes"],
            documents=documents[unit],
            license=", ".join(sorted(licenses[unit])) or None,
        )
        for unit, record in sorted(read.items())
    ]
