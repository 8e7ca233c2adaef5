"""Text files -> one folder of packed rows.

``detour data pack corpus.jsonl.zst --tokenizer DIR --out DIR --seq-len 1024``

Each document is tokenized with the tokenizer's own template ([CLS] text [SEP]), cut where it is longer than a row, and
packed with others into rows. Another row length is another run of this command. Cleaning, deduplication, splits and
several sources: `detour.corpus.prepare`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from detour.corpus.document_encoder import DocumentEncoder, cut
from detour.corpus.encoding import check_encoding
from detour.corpus.input_files import told_of
from detour.corpus.text import Document, ReadReport, find_files, read_documents
from detour.data.manifest import ShardManifest, Source
from detour.data.packing import pack_rows
from detour.data.shards import RowWriter
from detour.errors import DataError
from detour.files import sha256_of


class _Tally:
    """Counts and sources, noted while the documents stream by."""

    def __init__(self) -> None:
        self.without_tokens = 0
        self.literal_specials = 0
        self.lengths: Counter[int] = Counter()
        self.per_file: dict[Path, int] = {}
        self.licenses: dict[Path, set[str]] = {}

    def see(self, document: Document) -> None:
        self.per_file[document.path] = self.per_file.get(document.path, 0) + 1
        if document.license:
            self.licenses.setdefault(document.path, set()).add(document.license)

    def sources(self, files: Iterable[Path]) -> list[Source]:
        return [
            Source(
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
    on_read: Callable[[int], None] = lambda bytes_read: None,
) -> tuple[ShardManifest, ReadReport]:
    """Reads, tokenizes, packs and writes a corpus.

    Args:
        inputs: Files or folders, see `find_files`.
        tokenizer: Name or folder.
        out: Folder of the dataset.
        seq_len: T.
        text_column: Key of the text in JSON objects.
        encoding: Of the files.
        seed: Seeds the order of the rows.
        strict: Stop at the first unusable line, or if a folder holds a file that is not read.
        overwrite: Replace a dataset in ``out``.
        special_tokens_in_text: See `DocumentEncoder`.
        on_read: Told the bytes read so far.

    Returns:
        The manifest written, and what was read and skipped.

    Raises:
        DataError: Inputs, tokenizer or ``out`` are unusable, or no text was found. Nothing is left in ``out`` then.

    Cost: the tokenizer's speed; memory two windows of tokens (see `pack_rows`) and one shard.
    """
    if seq_len < 8:
        raise DataError(f"--seq-len is {seq_len}, expected 8 or more")
    try:
        check_encoding(encoding)
    except ValueError as error:
        raise DataError(f"--{error}") from None
    report, tally = ReadReport(strict=strict), _Tally()
    files, document_encoder = find_files(inputs, report), DocumentEncoder(tokenizer, special_tokens_in_text)

    def documents() -> Iterator[Document]:
        for document in read_documents(files, text_column=text_column, encoding=encoding, report=report):
            on_read(report.bytes_read)
            tally.see(document)
            yield document

    def pieces() -> Iterator[np.ndarray]:
        for document, ids in document_encoder(documents()):
            tally.literal_specials += document_encoder.literal_specials(document.text)
            if ids is None:
                tally.without_tokens += 1
                continue
            tally.lengths[len(ids)] += 1
            yield from cut(ids, seq_len)

    with RowWriter(out, seq_len=seq_len, tokenizer=document_encoder.info, seed=seed, overwrite=overwrite) as writer:
        for row in pack_rows(pieces(), seq_len=seq_len, seed=seed):
            writer.write(row)
        if not tally.lengths:
            raise DataError("\n  ".join([f"{out}: no document with text", *_faults(report, tally)]))
        manifest = writer.finish(
            sources=tally.sources(files),
            documents=sum(tally.lengths.values()),
            empty_skipped=report.skipped["empty text"] + tally.without_tokens,
            documents_split=sum(n for length, n in tally.lengths.items() if length > seq_len),
            document_lengths=tally.lengths,
            literal_special_tokens=tally.literal_specials,
        )
    on_read(report.bytes_read)
    return manifest, report


def print_report(manifest: ShardManifest, report: ReadReport, out: Path, special_tokens_in_text: str) -> None:
    """Prints the counts of what `pack_corpus` wrote, and what it skipped."""
    console, counts = Console(), manifest.counts
    table = Table("", "", title=str(out), show_header=False)
    for name, value in (
        ("documents", counts.documents),
        ("  of these split", counts.documents_split),
        ("tokens", counts.tokens),
        (f"rows of {manifest.seq_len}", counts.rows),
        ("shards", len(manifest.shards)),
        ("empty documents skipped", counts.empty_skipped),
    ):
        table.add_row(name, f"{value:,}")
    table.add_row("utilisation", f"{manifest.utilisation:.2%}")
    console.print(table)
    if counts.literal_special_tokens:
        became = "encoded as text" if special_tokens_in_text == "text" else "encoded as special tokens"
        console.print(f"special tokens spelled out in the text: {counts.literal_special_tokens:,}, {became}")
    for line in _faults(report):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _faults(report: ReadReport, tally: _Tally | None = None) -> Iterator[str]:
    """What was not used, a line each; with a tally also what came to nothing."""
    if report.passed_over:
        yield f"files {told_of(report.passed_over)}"
    for reason, n in report.skipped.items():
        if reason != "empty text" or tally is not None:
            advice = "; if the files have another encoding, give --encoding" if reason == "not valid UTF-8" else ""
            yield f"skipped {n:,} lines, {reason}; first at {', '.join(report.examples[reason])}{advice}"
    if tally is not None and tally.without_tokens:
        yield f"{tally.without_tokens:,} documents come to no token"
