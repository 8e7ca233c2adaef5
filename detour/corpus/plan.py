"""What a preparation will take (``detour data plan``): a sample of each source is prepared, and scaled up."""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from detour.corpus import readers
from detour.corpus.config import ColumnsConfig, PrepareConfig
from detour.corpus.document import Document
from detour.corpus.job import Job
from detour.corpus.passes import documents_of_file
from detour.corpus.prepare import WORK, job_of, prepare
from detour.corpus.text import ReadReport
from detour.data.manifest import SPLITS
from detour.errors import DataError

SAMPLED_FILES = 64  # of a source, drawn by a fixed seed
READ_PER_PREPARED = 16  # more is read than prepared: files are not alike from beginning to end, and reading is fast
WARM_UP = 8  # a run over one part in eight tells what does not grow with the text
BYTES_PER_DOCUMENT = 100  # of memory, where duplicates are decided (`detour.corpus.global_dedup`)


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What a source will take. All but files, bytes and fraction are scaled up from the sample.

    Attributes:
        name: The source.
        files: Number of its input files.
        bytes: Their size on disk.
        fraction: Fraction of these bytes that was read.
        documents: Documents that can be read.
        kept: Those that the steps leave, in both splits.
        tokens: Tokens in the rows.
        core_seconds: CPU time of reading, cleaning, tokenizing and packing.
        row_bytes: Size of the rows.
        work_bytes: Largest size of the intermediate files.
    """

    name: str
    files: int
    bytes: int
    fraction: float
    documents: float
    kept: float
    tokens: float
    core_seconds: float
    row_bytes: float
    work_bytes: float


@dataclass(frozen=True, kw_only=True)
class PreparationPlan:
    """What a preparation will take.

    Attributes:
        sources: The plan of each source whose size is known.
        unknown: Names of the others, which are on the hub or saved data sets.
        main_bytes: Memory of the process that decides duplicates, for its documents; 0 without such a step.
        process_bytes: Largest memory of this process while it prepared the samples.
    """

    sources: list[SourcePlan]
    unknown: list[str]
    main_bytes: float
    process_bytes: int


def plan_preparation(config: PrepareConfig, *, megabytes: float = 4.0) -> PreparationPlan:
    """Prepares a sample of each source in a temporary folder, and scales up what was read, kept and spent.

    The beginnings of up to 64 files of a source are read, and every so many documents of them are prepared. Duplicates are
    rarer in a sample than in the whole, so that ``kept``, ``tokens`` and ``row_bytes`` are upper bounds where there is a
    deduplication.

    Args:
        config: The preparation. Its output folder is neither needed nor changed.
        megabytes: Text of each source to prepare, in MB; 16 times as much is read.

    Raises:
        DataError: A source cannot be read, or no document of its sample is left.
    """
    job = job_of(config)
    plans, unknown = [], []
    for index, source in enumerate(config.sources):
        if all(file.path.is_file() for file, _ in job.input_files[index]):
            plans.append(_plan_source(job, index, megabytes * 1e6))
        else:
            unknown.append(source.name)
    compares = any(job.is_corpus_step(step) for step in range(len(job.steps)))
    return PreparationPlan(
        sources=plans,
        unknown=unknown,
        main_bytes=BYTES_PER_DOCUMENT * sum(plan.documents for plan in plans) if compares else 0.0,
        process_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


def _plan_source(job: Job, source: int, characters: float) -> SourcePlan:
    settings, files = job.config.sources[source], job.input_files[source]
    sizes = [file.path.stat().st_size for file, _ in files]
    began = time.process_time()
    documents, sampled = _sample(job, source, sizes, READ_PER_PREPARED * characters)
    reading = time.process_time() - began
    if not documents:
        raise DataError(f"source '{settings.name}': no document in the beginnings of its files")
    length = sum(len(document.text) for document in documents)
    some = documents[:: max(1, round(length / characters))]
    with tempfile.TemporaryDirectory(prefix="detour-plan-") as folder:
        few = some[: max(1, len(some) // WARM_UP)]
        for name in ("first", "few"):  # the first loads the tokenizer and what the steps compare with
            fixed = _prepare(job.config, source, few, Path(folder) / name)
        whole = _prepare(job.config, source, some, Path(folder) / "whole")
    more = len(some) - len(few)
    seconds = (whole.seconds - fixed.seconds) / more * len(some) if more else whole.seconds
    read = sum(sizes) / sampled  # what was read to everything, and what was prepared to that
    scale = read * length / sum(len(document.text) for document in some)
    return SourcePlan(
        name=settings.name,
        files=len(files),
        bytes=sum(sizes),
        fraction=sampled / sum(sizes),
        documents=len(documents) * read,
        kept=len(documents) * read * whole.kept / len(some),
        tokens=whole.tokens * scale,
        core_seconds=reading * read + max(seconds, 0.0) * scale,
        row_bytes=whole.row_bytes * scale,
        work_bytes=whole.work_bytes * scale,
    )


def _sample(job: Job, source: int, sizes: Sequence[int], characters: float) -> tuple[list[Document], float]:
    """The first documents of some files of a source, the same fraction of each, and the bytes on disk that they stand for."""
    count = min(SAMPLED_FILES, len(sizes)) if sum(sizes) > characters else len(sizes)
    chosen = [index for index in sorted(random.Random(0).sample(range(len(sizes)), count)) if sizes[index]]
    together = sum(sizes[index] for index in chosen)
    if not together:
        raise DataError(f"source '{job.config.sources[source].name}': nothing but empty files")
    read = [_beginning(job, source, index, characters * sizes[index] / together) for index in chosen]
    least = min(fraction for _, fraction in read)
    documents = [document for taken, fraction in read for document in taken[: math.ceil(len(taken) * least / fraction)]]
    return documents, least * together


def _beginning(job: Job, source: int, index: int, characters: float) -> tuple[list[Document], float]:
    """The first documents of a file, up to a number of characters or a little more, and which fraction of the file they are."""
    file, settings = job.input_files[source][index][0], job.config.sources[source]
    reader = readers.build(settings.kind, settings.options)
    size, rows = file.path.stat().st_size, _rows_of(file.path)
    report, documents, seen, complete = ReadReport(), list[Document](), 0, 0
    for document in documents_of_file(job, reader, source, index, report):
        if seen >= characters:
            # up to here the documents are those of the bytes read before; formats read as a whole are read to their end
            if rows:
                return documents, (len(documents) + sum(report.skipped.values())) / rows
            if complete and report.bytes_read > complete:
                return documents, complete / size
        complete = report.bytes_read
        documents.append(document)
        seen += len(document.text)
    return documents, 1.0


def _rows_of(path: Path) -> int:
    """Rows of a Parquet file; 0 for other formats, of which the bytes read are known."""
    return pq.read_metadata(path).num_rows if path.suffix.lower() == ".parquet" and path.stat().st_size else 0


@dataclass(frozen=True)
class _Prepared:
    seconds: float
    kept: int
    tokens: int
    row_bytes: int
    work_bytes: int


def _prepare(config: PrepareConfig, source: int, documents: Sequence[Document], folder: Path) -> _Prepared:
    """Prepares documents with the steps of their source, in this process."""
    folder.mkdir()
    with (folder / "sample.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in _records(documents))
    settings = replace(
        config.sources[source],
        kind="jsonl",
        paths=[str(folder / "sample.jsonl")],
        validation_paths=[],
        columns=ColumnsConfig(metadata=sorted({key for document in documents for key in document.metadata or {}})),
        proportion=None,
        options={},
    )
    out, most = folder / "out", 0

    def measure(line: str) -> None:
        nonlocal most
        most = max(most, _bytes_below(out / WORK))

    sample = replace(config, out=str(out), sources=[settings], processes=1, executor=None, strict=False)
    began = time.process_time()
    record, _ = prepare(sample, measure)
    seconds = time.process_time() - began
    folders = record["sources"][settings.name]["folders"].values()
    return _Prepared(
        seconds=seconds,
        kept=sum(each["documents"] for each in folders),
        tokens=sum(each["tokens"] for each in folders),
        row_bytes=sum(_bytes_below(out / split) for split in SPLITS),
        work_bytes=most,
    )


def _records(documents: Sequence[Document]) -> Iterator[dict]:
    for number, document in enumerate(documents):
        known = {"id": document.id or str(number), "language": document.language, "license": document.license}
        yield {**(document.metadata or {}), **known, "text": document.text}


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
