"""Reads files and folders for a look at the text of a new project (`detour.init.text`), large ones in part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detour.corpus.document import Columns, Document
from detour.corpus.input_files import CHECKSUMS, describe_ignored, files_under, format_of, is_worth_reporting
from detour.corpus.readers import InputFile, build
from detour.corpus.text import MAX_RECORD_BYTES, TOO_LONG, ReadReport, read_chunks
from detour.errors import ConfigError, DataError
from detour.init.columns import table_of
from detour.init.start import MAIN_LANGUAGE
from detour.init.text import LANGUAGE_DOCUMENTS, Source, Text, evenly, languages_of

LOOK_BYTES = 32 << 20  # on disk, of all files together; a corpus of at most this size is read completely
LOOK_FILES = 4096
LANGUAGE_FILES = 16  # of which each is looked at for its language: a source lists them in the recipe
LANGUAGE_LEAST = 50  # documents of a language that makes a source
LOOK_CHARACTERS = 1 << 28  # of one file that is read completely: a small compressed file may hold any amount of text
LOOK_FILE_BYTES = 1 << 20  # of a sampled file, at least
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
         ".txt": "text", ".xml": "xml"}  # fmt: skip
MANIFESTS = {"config.json", "tokenizer.json", "tokenizer_config.json", "prepared.json", "manifest.json"}  # no documents


def look(paths: Sequence[str], *, text_column: str | None = None, encoding: str = "utf-8") -> Text:
    """Looks at files and folders of text.

    Args:
        paths: Files or folders.
        text_column: Column or key of the text; None chooses the one with the most text.
        encoding: Of text, CSV and JSON files.

    Raises:
        DataError: A path does not exist, no file has a known format, or no document can be used; the error says why.
        ConfigError: Another text column than the given one has to be named.
    """
    by_kind: dict[str, list[Path]] = {}
    roots: dict[str, list[str]] = {}
    ignored: list[str] = []
    for given in paths:
        root = Path(given)
        if not root.exists():
            raise DataError(f"{given}: no such file or folder")
        if "${" in str(root.resolve()):
            raise ConfigError(f"{given}: a path with '${{' cannot be written into a YAML; rename it")
        for file in files_under(root) if root.is_dir() else [root]:
            kind = _kind_of(file)
            if kind is None:
                ignored += [str(file)] if is_worth_reporting(file) else []
                continue
            by_kind.setdefault(kind, []).append(file)
            if str(root) not in roots.setdefault(kind, []):
                roots[kind].append(str(root))
    if not by_kind:
        found = f"; {describe_ignored(ignored)}" if ignored else "; it is empty" if _is_empty(paths) else ""
        raise DataError(f"{', '.join(paths)}: no text found, expected {', '.join(KINDS)} files{found}")
    total = sum(file.stat().st_size for files in by_kind.values() for file in files)
    sources = [
        source
        for kind, files in by_kind.items()
        for source in _source(kind, roots[kind], files, total, text_column=text_column, encoding=encoding)
    ]
    if not any(source.documents for source in sources):
        raise DataError(f"{', '.join(paths)}: no document can be used: {_why(sources)}")
    return Text(sources=[source for source in sources if source.documents], ignored=ignored)


def _kind_of(path: Path) -> str | None:
    """The reader of a file; None if there is none."""
    suffix = format_of(path)
    if path.name.startswith(".") or path.name in MANIFESTS or path.suffix.lower() in CHECKSUMS:
        return None
    if suffix != ".xml":
        return KINDS.get(suffix)
    head = b"".join(read_chunks(path, ReadReport(most_bytes=1)))[: 1 << 16]
    return "pubmed" if b"<PubmedArticle" in head else "jats" if re.search(rb"<(\w+:)?article[\s>]", head) else None


def _source(
    kind: str, roots: list[str], files: list[Path], total: int, *, text_column: str | None, encoding: str
) -> list[Source]:
    """The source of a format, or one per language (`_by_language`)."""
    size = sum(file.stat().st_size for file in files)
    entire = total <= LOOK_BYTES and len(files) <= LOOK_FILES
    budget = max(LOOK_FILE_BYTES, LOOK_BYTES * size // max(1, total))
    wanted = min(LOOK_FILES, max(16, budget * len(files) // max(1, size)))
    chosen = files if entire else evenly(files, wanted)
    most = None if entire else max(LOOK_FILE_BYTES, budget // len(chosen))
    table = table_of(kind, files, text_column=text_column, encoding=encoding)
    options = {"delimiter": table.delimiter} if table.delimiter else {}
    options |= {"encoding": encoding} if encoding != "utf-8" and kind in ("jsonl", "csv", "text") else {}
    reader, columns = build(kind, options), Columns(text=table.text)
    documents: list[Document] = []
    weights: list[float] = []
    complete = entire
    skipped: Counter[str] = Counter()
    where: dict[str, str] = {}
    ends: list[int] = []  # number of documents up to the end of each file
    for file in chosen:
        report = ReadReport(most_bytes=most)
        found = list(_documents(reader, file, columns, report, most))
        stopped = sum(len(document.text) for document in found) > _characters(most)
        complete = complete and not stopped
        documents += found
        skipped += report.skipped
        where = {reason: examples[0] for reason, examples in report.examples.items()} | where
        if entire and not stopped:
            weights += [1.0] * len(found)
        elif kind == "parquet":
            weights += [_parquet_rows(file) / max(1, len(found))] * len(found)
        else:
            read = max(1, report.bytes_read) if kind != "text" else file.stat().st_size  # a text is one file
            weights += [file.stat().st_size / read] * len(found)
        ends.append(len(documents))
    unread = size / max(1, sum(file.stat().st_size for file in chosen))
    source = Source(
        name=kind,
        kind=kind,
        paths=[str(Path(root).resolve()) for root in roots],
        table=table,
        options=options,
        files=len(files),
        bytes=size,
        complete=complete,
        documents=documents,
        weights=[max(1.0, weight) * unread for weight in weights],
        skipped=skipped,
        where=where,
    )
    return _by_language(source, chosen, ends) if len(files) > 1 else [source]


def _by_language(source: Source, files: list[Path], ends: list[int]) -> list[Source]:
    """The source, or one per language if its files are few, each is in one language, and they differ.

    Args:
        source: The files of a format.
        files: Those that were looked at.
        ends: Number of documents up to the end of each.
    """
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    overall = languages_of(source.documents, LANGUAGE_DOCUMENTS)
    is_mixed = next(iter(overall.values()), 1.0) < MAIN_LANGUAGE
    if len(files) > LANGUAGE_FILES:
        return [replace(source, mixed=f"they are more than {LANGUAGE_FILES}" if is_mixed else "")]
    main: list[str | None] = []  # of each file; None: a mixture, or nothing
    for start, end in spans:
        found = languages_of(source.documents[start:end], LANGUAGE_DOCUMENTS // len(files))
        code, part = next(iter(found.items()), (None, 0.0))
        main.append(code if part >= MAIN_LANGUAGE else None)
    documents: Counter[str | None] = Counter()
    for language, (start, end) in zip(main, spans, strict=True):
        documents[language] += round(sum(source.weights[start:end]))
    if None in main:
        return [replace(source, mixed="some files hold several languages" if is_mixed else "")]
    if len(documents) == 1 or min(documents.values()) < LANGUAGE_LEAST:
        few = f"a language has fewer than {LANGUAGE_LEAST} documents"
        return [replace(source, mixed=few if is_mixed and len(documents) > 1 else "")]
    parts = []
    for language in dict.fromkeys(main):
        chosen = [i for i, each in enumerate(main) if each == language]
        first = not parts  # what was skipped is counted once
        parts.append(replace(
            source,
            name=f"{source.kind}-{language}",
            paths=[str(files[i].resolve()) for i in chosen],
            files=len(chosen),
            bytes=sum(files[i].stat().st_size for i in chosen),
            documents=[document for i in chosen for document in source.documents[slice(*spans[i])]],
            weights=[weight for i in chosen for weight in source.weights[slice(*spans[i])]],
            skipped=source.skipped if first else Counter(),
            where=source.where if first else {},
        ))  # fmt: skip
    return parts


def _documents(reader: Any, file: Path, columns: Columns, report: ReadReport, most: int | None) -> Iterator[Document]:
    """The usable documents at the beginning of a file, at most about ``most`` bytes of it."""
    if format_of(file) == ".txt" and file.suffix.lower() == ".txt" and file.stat().st_size > MAX_RECORD_BYTES:
        report.skip(TOO_LONG, str(file))  # a preparation would not read it either
        return
    size = 0
    try:
        for document in reader.read(InputFile(path=file, name=file.name), columns, report):
            if "\0" in document.text:
                report.skip("holds NUL characters, as binary files do", str(file))
            elif not document.text.strip():
                report.skip("empty text", str(file))
            else:
                yield document
            size += len(document.text)
            if size > _characters(most):
                return
    except DataError as error:
        if not (most and report.bytes_read >= most):  # else the format ends where the look ends
            report.skip("a damaged file", str(error))


def _characters(most: int | None) -> int:
    """Characters after which a file is not read further; compressed files unpack to several times their size."""
    return 4 * most if most else LOOK_CHARACTERS


def _parquet_rows(file: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        return table.metadata.num_rows


def _why(sources: Sequence[Source]) -> str:
    counts: Counter[str] = Counter()
    for source in sources:
        counts += source.skipped
    where = {reason: place for source in reversed(sources) for reason, place in source.where.items()}
    if not counts:
        return "the files hold no records"
    text = "; ".join(f"{reason} ({n:,}, the first at {where.get(reason, '?')})" for reason, n in counts.most_common(3))
    return text + ("; name another --encoding" if any("not valid" in reason for reason in counts) else "")


def _is_empty(paths: Sequence[str]) -> bool:
    return all(Path(path).is_dir() and not files_under(Path(path)) for path in paths)
