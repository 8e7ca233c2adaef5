"""Packed rows on disk: the column contract and the writer.

Columns of a row of T tokens, in MDS shards (mosaicml-streaming, format version 2):
    input_ids    uint16 [T] if the vocabulary has at most 65,536 ids, else uint32 [T]; padded with pad_id at the end
    doc_lengths  uint32 [documents in the row]: tokens of each document or piece, in order; sum <= T
and, in rows with labeled spans:
    doc_classes  int32 [documents in the row]: class of each document, an index into the manifest's `classes`
    doc_spans    uint32 [documents in the row, 4]: start and end of the two spans, in tokens from the row's start

``lengths.npy``, int64 [n, 2], holds (tokens, documents): the histogram of document lengths before splitting.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import detour
from detour.data.manifest import FORMAT, MANIFEST, Counts, ShardFile, ShardManifest, SourceFile, TokenizerInfo
from detour.errors import DataError
from detour.files import flush

INDEX = "index.json"
LENGTHS = "lengths.npy"
SHARD_BYTES = 1 << 26
HASHES = ["sha256", "xxh64"]


def ids_dtype(vocab_size: int) -> str:
    """The smaller of uint16 and uint32 that can represent every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def columns_of(*, seq_len: int, dtype: str, spans: bool = False) -> dict[str, str]:
    """Column name -> MDS encoding, in the order in which streaming stores them.

    Args:
        seq_len: Tokens per row, T.
        dtype: Type of the ids.
        spans: Whether the documents have labeled spans.
    """
    labeled = {"doc_classes": "ndarray:int32", "doc_spans": "ndarray:uint32"} if spans else {}
    return dict(sorted({**labeled, "doc_lengths": "ndarray:uint32", "input_ids": f"ndarray:{dtype}:{seq_len}"}.items()))


@dataclass(frozen=True, kw_only=True)
class LabeledSpans:
    """The class of a document's two spans.

    Attributes:
        label: Index into the classes.
        spans: Start and end of the first and of the second span, in tokens from the document's start.
    """

    label: int
    spans: tuple[int, int, int, int]


class RowWriter:
    """Writes rows to a hidden folder beside ``out``, which `finish` renames to ``out``.

    Leaving the `with` block without `finish` removes the hidden folder, so ``out`` is always complete.

    Args:
        out: Folder to write.
        seq_len: Tokens per row, T.
        tokenizer: For the manifest; its vocabulary size determines the type of the ids.
        seed: Seed of the packing, for the manifest.
        overwrite: Replace ``out`` if it is a dataset. Any other folder that is not empty is refused.
        shard_bytes: Maximum size of a shard.
        classes: Names of the classes of rows with labeled spans; empty for rows of plain text.

    Raises:
        DataError: ``out`` exists and may not be replaced.
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
        classes: Sequence[str] = (),
    ) -> None:
        from streaming import MDSWriter  # takes seconds to import

        self.out, self.seq_len, self.tokenizer, self.seed = Path(out), seq_len, tokenizer, seed
        self.dtype, self.classes = ids_dtype(tokenizer.vocab_size), tuple(classes)
        self.rows = self.pieces = self.tokens = self.longest = 0
        _check_free(self.out, overwrite=overwrite)
        self.partial = self.out.absolute().with_name(f".{self.out.name}.{os.getpid()}.partial")
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        columns = columns_of(seq_len=seq_len, dtype=self.dtype, spans=bool(classes))
        self._mds = MDSWriter(out=str(self.partial), columns=columns, hashes=HASHES, size_limit=shard_bytes)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mds.executor.shutdown()
        shutil.rmtree(self.partial, ignore_errors=True)  # renamed already if finish succeeded

    def write(self, row: Sequence[np.ndarray], labeled: Sequence[LabeledSpans] = ()) -> None:
        """Adds a row.

        Args:
            row: The ids of its pieces: uint16 or uint32 [n] each, at most T tokens in total.
            labeled: The spans of each piece, in rows with labeled spans.
        """
        ids_T = np.full(self.seq_len, self.tokenizer.pad_id, self.dtype)
        lengths_D = np.array([len(piece) for piece in row], np.uint32)
        filled = int(lengths_D.sum())
        np.concatenate(row, out=ids_T[:filled], casting="safe")
        columns = {"input_ids": ids_T, "doc_lengths": lengths_D}
        if self.classes:
            start_D = np.cumsum(lengths_D, dtype=np.uint32) - lengths_D
            columns["doc_classes"] = np.array([spans.label for spans in labeled], np.int32)
            columns["doc_spans"] = np.array([spans.spans for spans in labeled], np.uint32) + start_D[:, None]
        self._mds.write(columns)
        self.rows, self.pieces, self.tokens = self.rows + 1, self.pieces + len(row), self.tokens + filled
        self.longest = max(self.longest, int(lengths_D.max()))

    def finish(
        self,
        *,
        sources: Sequence[SourceFile],
        documents: int,
        empty_skipped: int,
        documents_split: int,
        document_lengths: Mapping[int, int] | None = None,
        literal_special_tokens: int = 0,
    ) -> ShardManifest:
        """Writes index and manifest, flushes all files to disk and renames the folder to ``out``.

        Args:
            sources: The input files.
            documents: See `Counts`.
            empty_skipped: See `Counts`.
            documents_split: See `Counts`.
            document_lengths: Number of tokens -> number of documents, before splitting; written to ``lengths.npy``.
            literal_special_tokens: See `Counts`.

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
                longest=self.longest,
            ),
            sources=tuple(sources),
            shards=tuple(_shard_file(shard["raw_data"]) for shard in self._mds.shards),
            classes=self.classes,
        )
        if document_lengths is not None:
            np.save(self.partial / LENGTHS, np.array(sorted(document_lengths.items()), np.int64))
        manifest.save(self.partial)
        if self.out.exists():
            shutil.rmtree(self.out)  # empty, or a dataset to overwrite: checked at the start
        for path in [*self.partial.iterdir(), self.partial]:
            flush(path)
        self.partial.rename(self.out)
        flush(self.out.absolute().parent)
        return manifest


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise DataError(f"{out}: exists and is not empty; choose another folder or pass --overwrite")
    if not (out / MANIFEST).is_file():
        raise DataError(f"{out}: holds no {MANIFEST}, so it is not a dataset and is not overwritten")


def _shard_file(raw: dict[str, Any]) -> ShardFile:
    return ShardFile(file=raw["basename"], bytes=raw["bytes"], **raw["hashes"])
