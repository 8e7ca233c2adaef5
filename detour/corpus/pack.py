"""Packs text files into one folder of rows.

``detour data pack corpus.jsonl.zst --tokenizer DIR --out DIR --seq-len 1024``

Each document is tokenized with the tokenizer's own template ([CLS] text [SEP]), split if it is longer than a row or
``--max-document``, and packed with others into rows. For cleaning, deduplication, validation splits and several sources, see
`detour.corpus.prepare`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from detour.corpus.document_encoder import DocumentEncoder, cut
from detour.corpus.encoding import check_encoding
from detour.corpus.input_files import describe_ignored
from detour.corpus.text import Document, ReadReport, find_files, read_documents
from detour.data.manifest import ShardManifest, SourceFile
from detour.data.packing import LONGEST_ROW, SHORTEST_ROW, pack_rows
from detour.data.shards import RowWriter
from detour.errors import DataError
from detour.files import sha256_of


class _Pieces:
    """The tokenized pieces of documents, and counts by input file that are updated while the documents are read."""

    def __init__(self, document_encoder: DocumentEncoder, longest: int) -> None:
        self.document_encoder, self.longest = document_encoder, longest
        self.without_tokens = 0
        self.literal_specials = 0
        self.lengths: Counter[int] = Counter()
        self.per_file: dict[Path, int] = {}
        self.licenses: dict[Path, set[str]] = {}

    def of(self, documents: Iterable[Document]) -> Iterator[np.ndarray]:
        """The ids of each document, cut into pieces of at most ``longest``."""
        for document, ids in self.document_encoder(map(self._counted, documents)):
            self.literal_specials += self.document_encoder.literal_specials(document.text)
            if ids is None:
                self.without_tokens += 1
                continue
            self.lengths[len(ids)] += 1
            yield from cut(ids, self.longest)

    def _counted(self, document: Document) -> Document:
        self.per_file[document.path] = self.per_file.get(document.path, 0) + 1
        if document.license:
            self.licenses.setdefault(document.path, set()).add(document.license)
        return document

    def totals(self, report: ReadReport) -> dict[str, Any]:
        """What `RowWriter.finish` records of the documents."""
        return {
            "documents": sum(self.lengths.values()),
            "empty_skipped": report.skipped["empty text"] + self.without_tokens,
            "documents_split": sum(n for length, n in self.lengths.items() if length > self.longest),
            "document_lengths": self.lengths,
            "literal_special_tokens": self.literal_specials,
        }

    def sources(self, files: Iterable[Path]) -> list[SourceFile]:
        return [
            SourceFile(
                path=path.as_posix(),
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                documents=self.per_file.get(path, 0),
                license=", ".join(sorted(self.licenses.get(path, ()))) or None,
            )
            for path in files
        ]


def pack_corpus(
    inputs: list[Path],
    *,
    tokenizer: str | Path,
    out: Path,
    seq_len: int,
    text_column: str = "text",
    encoding: str = "utf-8",
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    special_tokens_in_text: str = "text",
    max_document: int | None = None,
    on_read: Callable[[int], None] = lambda bytes_read: None,
) -> tuple[ShardManifest, ReadReport]:
    """Reads, tokenizes, packs and writes a corpus.

    Args:
        inputs: Files or folders, see `find_files`.
        tokenizer: Name on the hub, or a folder.
        out: Folder to write.
        seq_len: Tokens per row, T.
        text_column: Key of the text in JSON objects.
        encoding: Encoding of the files.
        seed: Seeds the order of the rows.
        strict: Raise at the first unusable record, or if a folder holds a file in no readable format.
        overwrite: Replace a dataset in ``out``.
        special_tokens_in_text: See `DocumentEncoder`.
        max_document: Most tokens of a document; a longer one is split. None for ``seq_len``.
        on_read: Called with the bytes read so far.

    Returns:
        The manifest, and the counts of the read.

    Raises:
        DataError: Inputs, options, or ``out`` are unusable, or no text was found; then nothing is written to ``out``.

    Cost: bound by the tokenizer. Memory: two packing windows (see `pack_rows`) and one shard.
    """
    longest = _checked_limit(seq_len, max_document, encoding)
    report = ReadReport(strict=strict)
    files, pieces = find_files(inputs, report), _Pieces(DocumentEncoder(tokenizer, special_tokens_in_text), longest)
    read = read_documents(files, text_column=text_column, encoding=encoding, report=report)
    with RowWriter(
        out, seq_len=seq_len, tokenizer=pieces.document_encoder.info, seed=seed, overwrite=overwrite
    ) as writer:
        for row in pack_rows(
            pieces.of(_reporting(read, lambda: on_read(report.bytes_read))), seq_len=seq_len, seed=seed
        ):
            writer.write(row)
        if not pieces.lengths:
            raise DataError("\n  ".join([f"{out}: no document with text", *_faults(report, pieces)]))
        manifest = writer.finish(sources=pieces.sources(files), **pieces.totals(report))
    on_read(report.bytes_read)
    return manifest, report


def _reporting(documents: Iterable[Document], progressed: Callable[[], None]) -> Iterator[Document]:
    for document in documents:
        progressed()
        yield document


def check_seq_len(seq_len: int) -> None:
    """Raises DataError for a row length that is out of range."""
    if not SHORTEST_ROW <= seq_len <= LONGEST_ROW:
        raise DataError(f"--seq-len is {seq_len}, expected {SHORTEST_ROW} to {LONGEST_ROW:,}")


def _checked_limit(seq_len: int, max_document: int | None, encoding: str) -> int:
    """Most tokens of a document. Raises DataError for an option out of range or an unknown encoding."""
    check_seq_len(seq_len)
    longest = seq_len if max_document is None else max_document
    if not 8 <= longest <= seq_len:
        raise DataError(f"--max-document is {longest}, expected 8 to --seq-len, {seq_len}")
    try:
        check_encoding(encoding)
    except ValueError as error:
        raise DataError(f"--{error}") from None
    return longest


def print_report(manifest: ShardManifest, report: ReadReport, out: Path, special_tokens_in_text: str) -> None:
    """Prints the counts of what `pack_corpus` wrote, and what it skipped."""
    console, counts = Console(), manifest.counts
    table = Table("", "", title=str(out), show_header=False)
    for name, value in (
        ("documents", counts.documents),
        ("  split into pieces", counts.documents_split),
        ("tokens", counts.tokens),
        (f"rows of {manifest.seq_len}", counts.rows),
        ("shards", len(manifest.shards)),
        ("empty documents skipped", counts.empty_skipped),
    ):
        table.add_row(name, f"{value:,}")
    table.add_row("packing efficiency", f"{manifest.packing_efficiency:.2%}")
    console.print(table)
    if counts.literal_special_tokens:
        became = "encoded as text" if special_tokens_in_text == "text" else "encoded as special tokens"
        console.print(f"special tokens spelled out in the text: {counts.literal_special_tokens:,}, {became}")
    for line in _faults(report):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _faults(report: ReadReport, pieces: _Pieces | None = None) -> Iterator[str]:
    """One line for each kind of record or file that was not used; with ``pieces``, also documents without tokens."""
    if report.ignored_files:
        yield describe_ignored(report.ignored_files)
    for reason, n in report.skipped.items():
        if reason != "empty text" or pieces is not None:
            advice = "; if the files have another encoding, give --encoding" if reason == "not valid UTF-8" else ""
            yield f"skipped {n:,} records, {reason}; first at {', '.join(report.examples[reason])}{advice}"
    if pieces is not None and pieces.without_tokens:
        yield f"{pieces.without_tokens:,} documents have no tokens"
