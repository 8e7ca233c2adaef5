"""The tasks of the worker processes: read input files into document shards, and take a shard through a run of steps.

A preparation is a few passes over the document shards. Pass 0 reads. Each later pass applies the steps up to the next
corpus step, for which it writes signatures; the last pass tokenizes. Outputs are written atomically. The outputs of a
pass are not read again after the next pass is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from detour.corpus import readers
from detour.corpus.document import LICENSE_COLUMNS, Columns, Document
from detour.corpus.document_encoder import document_encoder_of
from detour.corpus.document_shards import load_documents, save_array, save_arrays, save_documents
from detour.corpus.input_files import files_under
from detour.corpus.job import DocumentShard, Job
from detour.corpus.readers import InputFile
from detour.corpus.steps import CorpusStep, DocumentStep, StepReport
from detour.corpus.text import MAX_RECORD_BYTES, TOO_LONG, ReadReport
from detour.data.manifest import SPLITS
from detour.errors import DataError
from detour.files import atomic_write, sha256_of, write_json


def read_group(job: Job, source: int, group: int) -> None:
    """Pass 0: reads a group of files into document shards of about ``shard_megabytes`` of text, and records what was read.

    A damaged file ends the reading of this file only; the documents before the damage are kept. If the preparation is
    strict, the damage is raised.
    """
    reader = readers.build(job.config.sources[source].kind, job.config.sources[source].options)
    sizes, records = list[int](), list[dict[str, Any]]()
    pending, size = list[Document](), 0

    def save() -> None:
        save_documents(job.file(0, DocumentShard(source, group, len(sizes)), "docs"), pending)
        sizes.append(len(pending))
        pending.clear()

    for f in job.groups[source][group]:
        report, damage = ReadReport(strict=job.config.strict), None
        try:
            for document in documents_of_file(job, reader, source, f, report):
                pending.append(document)
                size += len(document.text)
                if size >= job.config.shard_megabytes << 20:
                    save()
                    size = 0
        except DataError as error:
            if job.config.strict:
                raise
            damage = str(error)
        if report.revisions:
            assert reader.revises
            _save_revisions(job.revisions_file(source, group), report)
        records.append(_read_record(job.input_files[source][f][0], report, damage))
    if pending:
        save()
    write_json(job.read_record(source, group), {"shard_documents": sizes, "files": records})


def documents_of_file(
    job: Job, reader: readers.Reader, source: int, input_file: int, report: ReadReport
) -> Iterator[Document]:
    """The documents of an input file that have text, with the source's language and license as defaults."""
    settings = job.config.sources[source]
    for document in reader.read(job.input_files[source][input_file][0], _columns(job, source), report):
        if not document.text.strip():
            report.skip("empty text", f"{document.path}: {document.id}")
            continue
        if len(document.text) > MAX_RECORD_BYTES:  # formats without lines; lines are measured while they are read
            report.skip(TOO_LONG, f"{document.path}: {document.id}")
            continue
        report.documents += 1
        yield document._replace(
            language=document.language or settings.language,
            license=document.license or settings.license,
            input_file=input_file,
        )


def _save_revisions(path: Path, report: ReadReport) -> None:
    key, version, deleted, first = zip(*report.revisions, strict=True)
    save_arrays(
        path,
        key=np.array(key, np.int64),
        version=np.array(version, np.int64),
        deleted=np.array(deleted, bool),
        first=np.array([*first, report.documents], np.int64),
    )


def _read_record(file: InputFile, report: ReadReport, damage: str | None) -> dict[str, Any]:
    """What was read of a file, without the folder that it is in."""
    return {
        "name": file.name,
        "damage": damage and damage.replace(str(file.path), file.name),
        "documents": report.documents,
        "bytes": file.path.stat().st_size if file.path.is_file() else 0,
        "sha256": digest_of(file.path),
        "skipped": dict(report.skipped),
        "examples": {
            reason: [where.replace(str(file.path), file.name) for where in locations]
            for reason, locations in report.examples.items()
        },
    }


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, SHA-256 over the names and hashes of its files; empty for a name on the hub."""
    if not path.is_dir():
        return sha256_of(path) if path.is_file() else ""
    files = [f"{file.relative_to(path).as_posix()} {sha256_of(file)}" for file in files_under(path) if file.is_file()]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def process_shard(job: Job, pass_index: int, shard: DocumentShard) -> None:
    """Pass 1 and later: applies the steps of the pass to a document shard, then signs its documents or tokenizes them."""
    steps_of_pass = job.passes[pass_index - 1]
    applicable = [i for i in steps_of_pass if job.applies(i, shard.source)]
    reports = {i: StepReport(folder=job.step_folder(i)) for i in applicable}
    documents = _remaining(job, pass_index, shard)
    for i in applicable:
        step = job.steps[i]
        if isinstance(step, DocumentStep):
            documents = _counted(step, documents, reports[i])
    if pass_index < len(job.passes):
        result = _sign(job, pass_index, shard, documents, steps_of_pass)
    else:
        result = _tokenize(job, pass_index, shard, documents)
    counts = [{**vars(reports[i]), "folder": None, "step": i} for i in applicable if not job.is_corpus_step(i)]
    write_json(job.file(pass_index, shard, "json"), {**result, "steps": counts})  # last: marks the shard as finished


def _remaining(job: Job, pass_index: int, shard: DocumentShard) -> Iterator[Document]:
    """The shard's documents that the previous pass wrote and that no corpus step or revision removed since."""
    documents = load_documents(job.file(pass_index - 1, shard, "docs"))
    decision = job.decision_file(pass_index - 1, shard)
    if pass_index == 1 and not decision.exists():
        yield from documents
    else:
        yield from (document for document, keep in zip(documents, np.load(decision), strict=True) if keep)


def _counted(step: DocumentStep, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
    def counted_inputs() -> Iterator[Document]:
        for document in documents:
            report.documents_in += 1
            report.characters_in += len(document.text)
            yield document

    for document in step.apply(counted_inputs(), report):
        report.documents_out += 1
        report.characters_out += len(document.text)
        yield document


def _sign(
    job: Job, pass_index: int, shard: DocumentShard, documents: Iterator[Document], steps_of_pass: range
) -> dict[str, Any]:
    signing = {i: step for i in steps_of_pass if isinstance(step := job.steps[i], CorpusStep)}
    signatures: dict[int, list[np.ndarray]] = {i: [] for i in signing}
    names: list[str] = []
    sizes: list[int] = []

    def signed() -> Iterator[Document]:
        for document in documents:
            for i, step in signing.items():
                signatures[i].append(step.sign(document))
            names.append(document.id)
            sizes.append(len(document.text))
            yield document

    save_documents(job.file(pass_index, shard, "docs"), signed())
    write_json(job.file(pass_index, shard, "names"), names)
    for i in signing:
        array = np.stack(signatures[i]) if names else np.empty((0, 0), np.uint64)
        save_array(job.file(pass_index, shard, f"{i}.npy"), array)
    save_array(job.file(pass_index, shard, "sizes.npy"), np.array(sizes, np.int64))
    return {"documents": len(names)}


def _tokenize(job: Job, pass_index: int, shard: DocumentShard, documents: Iterator[Document]) -> dict[str, Any]:
    document_encoder = document_encoder_of(job.config.tokenizer, job.config.special_tokens_in_text)
    literal_specials = dict.fromkeys(SPLITS, 0)
    licenses: dict[str, dict[int, set[str]]] = {split: {} for split in SPLITS}
    lengths, repeats, keys, input_files, in_validation, without_tokens = [], [], [], [], [], 0
    with atomic_write(job.file(pass_index, shard, "tokens")) as file:
        for document, ids in document_encoder(documents):
            if ids is None:
                without_tokens += 1
                continue
            file.write(ids.tobytes())
            lengths.append(len(ids))
            repeats.append(document.repeats)
            keys.append(xxhash.xxh64_intdigest(document.id, seed=job.config.seed))
            input_files.append(document.input_file)
            in_validation.append(_is_validation(job, shard.source, document))
            split = "validation" if in_validation[-1] else "train"
            literal_specials[split] += document_encoder.literal_specials(document.text)
            if document.license:
                licenses[split].setdefault(document.input_file, set()).add(document.license)
    save_arrays(
        job.file(pass_index, shard, "npz"),
        length=np.array(lengths, np.uint32),
        repeats=np.array(repeats, np.uint32),
        key=np.array(keys, np.uint64),
        input_file=np.array(input_files, np.uint32),
        in_validation=np.array(in_validation, bool),
    )
    return {
        "documents": len(lengths),
        "without_tokens": without_tokens,
        "literal_specials": literal_specials,
        "licenses": {split: {f: sorted(found) for f, found in of.items()} for split, of in licenses.items()},
    }


def _is_validation(job: Job, source: int, document: Document) -> bool:
    """The split is chosen per document, by hash(id, seed), so all rows and copies of a document are in one split."""
    if job.config.sources[source].validation_paths:
        return job.input_files[source][document.input_file][1]
    drawn = xxhash.xxh64_intdigest(f"validation {document.id}", seed=job.config.seed) / 2**64
    return drawn < job.config.validation_fraction


def _columns(job: Job, source: int) -> Columns:
    given = job.config.sources[source].columns
    required = [*given.more_text, *given.metadata, *filter(None, [given.license])]
    required += [column for column in (given.id, given.language) if column not in ("id", "language")]
    of_steps = [column for i, step in enumerate(job.steps) if job.applies(i, source) for column in step.columns()]
    return Columns(
        text=given.text,
        more_text=tuple(given.more_text),
        id=given.id,
        language=given.language,
        license=(given.license,) if given.license else LICENSE_COLUMNS,
        metadata=tuple(dict.fromkeys([*given.metadata, *of_steps])),
        required=tuple(required),
    )
