"""Packs pairs of texts and the class of each pair into one folder of rows, for the objective `pair_classification`.

``detour data pack-pairs pairs.jsonl --tokenizer DIR --out DIR --seq-len 128 --held-out 0.02``

A pair is one document, with the tokenizer's own template for pairs ([CLS] first [SEP] second [SEP]). Its two spans are the
tokens of the two texts.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from detour.corpus.pack import check_seq_len
from detour.corpus.pairs import HeldOut, PairColumns
from detour.corpus.text import Document, ReadReport, find_files, read_documents
from detour.data.literal_specials import encode_specials_as_text
from detour.data.manifest import SPLITS, ShardManifest, SourceFile
from detour.data.packing import pack_rows
from detour.data.shards import LabeledSpans, RowWriter, ids_dtype
from detour.data.tokenizer import load_tokenizer, tokenizer_info
from detour.errors import DataError
from detour.files import sha256_of

MOST_CLASSES = 1000  # more are free text in the wrong column
PAIRS_AT_ONCE = 4096  # per call of the tokenizer


@dataclass(frozen=True)
class _Pair:
    ids: np.ndarray
    labeled: LabeledSpans

    def __len__(self) -> int:
        return len(self.ids)


class _Pairs:
    """The tokenized pairs, with counts that are updated while the files are read."""

    def __init__(
        self,
        tokenizer: str | Path,
        columns: PairColumns,
        classes: Sequence[str],
        report: ReadReport,
        held_out: HeldOut | None = None,
    ) -> None:
        loaded, self.held_out = load_tokenizer(tokenizer), held_out
        self.info, self.columns, self.classes, self.report = tokenizer_info(loaded), columns, list(classes), report
        self.lengths: Counter[int] = Counter()
        self.per_file: Counter[Path] = Counter()
        self._backend = copy.deepcopy(loaded.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        encode_specials_as_text(self._backend, loaded)

    def of(self, files: Sequence[Path], seq_len: int, split: str = "") -> Iterator[_Pair]:
        """The pairs that fit into a row, in order; those of one side if some are held out."""
        dtype, by = ids_dtype(self.info.vocab_size), self.held_out.by if self.held_out else ""
        read = _records(files, self.columns, self.report, by)
        while some := list(islice(read, PAIRS_AT_ONCE)):
            encodings = self._backend.encode_batch([(pair.text, str(_of(pair)[self.columns.second])) for pair in some])
            for pair, encoding in zip(some, encodings, strict=True):
                spans = _spans(encoding.sequence_ids)
                if spans is None or len(encoding.ids) > seq_len:
                    why = "a text without tokens" if spans is None else f"longer than a row of {seq_len} tokens"
                    self.report.skip(why, pair.id)
                    continue
                if self.held_out and self.held_out.holds(pair, self.columns) != (split == "validation"):
                    continue  # only here, so that the report is that of all pairs
                self.lengths[len(encoding.ids)] += 1
                self.per_file[pair.path] += 1
                label = self.classes.index(_label(pair, self.columns))
                yield _Pair(np.array(encoding.ids, dtype), LabeledSpans(label=label, spans=spans))

    def sources(self, files: Sequence[Path]) -> list[SourceFile]:
        """The input files, with the pairs used of each."""
        return [
            SourceFile(
                path=path.as_posix(),
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                documents=self.per_file[path],
                license=None,
            )
            for path in files
        ]


def pack_pairs(
    inputs: Sequence[Path],
    *,
    tokenizer: str | Path,
    out: Path,
    seq_len: int,
    columns: PairColumns | None = None,
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
) -> tuple[ShardManifest, ReadReport]:
    """Reads, tokenizes, packs and writes pairs. The classes are the labels found, in alphabetical order.

    A pair that is longer than a row is left out and counted.

    Args:
        inputs: Files of JSON objects, or folders of them.
        tokenizer: Name on the hub, or a folder.
        out: Folder to write.
        seq_len: Tokens per row, T.
        columns: Keys of the texts and of the class.
        seed: Seeds the order of the rows.
        strict: Raise at the first unusable record.
        overwrite: Replace a dataset in ``out``.

    Returns:
        The manifest, and the counts of the read.

    Raises:
        DataError: Inputs, options or ``out`` are unusable, there are no pairs, or fewer than two classes.

    Cost: the files are read twice.
    """
    (manifest,), report = _pack(
        inputs,
        {"": out},
        None,
        tokenizer=tokenizer,
        seq_len=seq_len,
        columns=columns,
        seed=seed,
        strict=strict,
        overwrite=overwrite,
    )
    return manifest, report


def pack_pairs_with_held_out(
    inputs: Sequence[Path],
    *,
    held_out: HeldOut,
    tokenizer: str | Path,
    out: Path,
    seq_len: int,
    columns: PairColumns | None = None,
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
) -> tuple[dict[str, ShardManifest], ReadReport]:
    """The same into two folders, ``out/train`` and ``out/validation``, which have no pair in common and the same classes.

    Args:
        inputs: As of `pack_pairs`, as all that is not named here.
        held_out: Which pairs go to ``validation``.
        out: Folder of the two.

    Returns:
        The manifests by folder, and the counts of one read.

    Raises:
        DataError: As of `pack_pairs`; or one of the folders would have no pair.

    Cost: the files are read three times, the texts tokenized twice.
    """
    folders = {split: out / split for split in SPLITS}
    manifests, report = _pack(
        inputs,
        folders,
        held_out,
        tokenizer=tokenizer,
        seq_len=seq_len,
        columns=columns,
        seed=seed,
        strict=strict,
        overwrite=overwrite,
    )
    return dict(zip(SPLITS, manifests, strict=True)), report


def _pack(
    inputs: Sequence[Path],
    folders: Mapping[str, Path],
    held_out: HeldOut | None,
    *,
    tokenizer: str | Path,
    seq_len: int,
    columns: PairColumns | None,
    seed: int,
    strict: bool,
    overwrite: bool,
) -> tuple[list[ShardManifest], ReadReport]:
    check_seq_len(seq_len)
    columns, report, manifests = columns or PairColumns(), ReadReport(strict=strict), []
    files = find_files(inputs, report)
    classes = _classes(files, columns)
    for split, out in folders.items():
        report = ReadReport(strict=strict)
        pairs = _Pairs(tokenizer, columns, classes, report, held_out)
        rows = pack_rows(pairs.of(find_files(inputs, report), seq_len, split), seq_len=seq_len, seed=seed)
        manifests.append(_write(rows, pairs, files, out, seq_len, seed, overwrite))
    return manifests, report


def _write(
    rows: Iterable[Sequence[_Pair]],
    pairs: _Pairs,
    files: Sequence[Path],
    out: Path,
    seq_len: int,
    seed: int,
    overwrite: bool,
) -> ShardManifest:
    with RowWriter(
        out, seq_len=seq_len, tokenizer=pairs.info, seed=seed, overwrite=overwrite, classes=pairs.classes
    ) as writer:
        for row in rows:
            writer.write([pair.ids for pair in row], [pair.labeled for pair in row])
        return writer.finish(
            sources=pairs.sources(files),
            documents=pairs.lengths.total(),
            empty_skipped=pairs.report.skipped["empty text"],
            documents_split=0,
            document_lengths=pairs.lengths,
        )


def _of(pair: Document) -> Mapping[str, object]:
    return pair.metadata or {}


def _label(pair: Document, columns: PairColumns) -> str:
    return str(_of(pair)[columns.label]).strip()


def _records(files: Iterable[Path], columns: PairColumns, report: ReadReport, by: str = "") -> Iterator[Document]:
    """The pairs that have both texts and a label, and a value of the key ``by``; others are counted in the report."""
    keys = (columns.second, columns.label)
    further = () if by in ("", columns.first, *keys) else (by,)
    for document in read_documents(files, text_column=columns.first, report=report, metadata=(*keys, *further)):
        second, label = (_of(document).get(key) for key in keys)
        if further and (not isinstance(value := _of(document).get(by), str | int) or isinstance(value, bool)):
            report.skip(f"no text or number in '{by}'", document.id)
            continue
        if not isinstance(second, str):
            report.skip(f"no text in '{columns.second}'", document.id)
        elif not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
            report.skip(f"no class in '{columns.label}'", document.id)
        elif not second.strip():
            report.skip("empty text", document.id)
        else:
            yield document


def _classes(files: Sequence[Path], columns: PairColumns) -> list[str]:
    """The labels found, in alphabetical order. Raises DataError if there are too few or too many."""
    found: set[str] = set()
    for pair in _records(files, columns, ReadReport()):
        found.add(_label(pair, columns))
        if len(found) > MOST_CLASSES:
            raise DataError(f"{pair.path}: more than {MOST_CLASSES} classes in '{columns.label}', expected a label")
    if len(found) < 2:
        raise DataError(
            f"{files[0]}: classes {sorted(found)} in '{columns.label}' of the objects with texts in '{columns.first}' and "
            f"'{columns.second}', expected at least two"
        )
    return sorted(found)


def _spans(sequence_N: Sequence[int | None]) -> tuple[int, int, int, int] | None:
    """Start and end of the tokens of each text; None if one has none."""
    edges = []
    for text in (0, 1):
        at = [i for i, sequence in enumerate(sequence_N) if sequence == text]
        if not at:
            return None
        edges += [at[0], at[-1] + 1]
    return edges[0], edges[1], edges[2], edges[3]
