"""What worker processes do: read a unit into parts, and take a part through a run of steps.

A preparation is a few passes over the parts. Pass 0 reads. Each further pass takes a part through the steps up to the
next one that must compare whole corpora, for which it leaves signatures; the last pass ends in tokens. Whatever a pass
leaves is whole or absent, and is never looked at again once the pass after it is through.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from detour.corpus import readers, steps
from detour.corpus.config import PrepareConfig, SourceConfig
from detour.corpus.document_encoder import document_encoder_of
from detour.corpus.document_shards import load_documents, load_json, save_arrays, save_documents, save_json, whole_file
from detour.corpus.input_files import files_under
from detour.corpus.readers import Unit
from detour.corpus.steps import CorpusStep, DocumentStep, Step, StepReport
from detour.corpus.text import MAX_RECORD_BYTES, TOO_LONG, Columns, Document, ReadReport
from detour.errors import DataError
from detour.files import sha256_of


class Part(NamedTuple):
    """A stretch of one unit's documents. Sorted, parts are in the order of the corpus."""

    source: int
    unit: int
    number: int

    @property
    def stem(self) -> str:
        return f"s{self.source:03}-u{self.unit:06}-p{self.number:06}"


@dataclass(frozen=True)
class Job:
    """A preparation as its workers see it.

    Attributes:
        config: What was asked for.
        units: Of each source, in order; (unit, whether it is held out as it is).
        work: Where parts lie.
    """

    config: PrepareConfig
    units: tuple[tuple[tuple[Unit, bool], ...], ...]
    work: Path

    @property
    def passes(self) -> list[range]:
        """Indices of the steps of pass 1, 2, ...; each but the last ends with its corpus steps."""
        cuts, built = [0], self.steps
        for i, step in enumerate(built):
            following = built[i + 1] if i + 1 < len(built) else None
            if isinstance(step, CorpusStep) and not isinstance(following, CorpusStep):
                cuts.append(i + 1)
        return [range(a, b) for a, b in zip(cuts, [*cuts[1:], len(built)], strict=True)]

    @property
    def steps(self) -> list[Step]:
        return [_step(step.kind, json.dumps(step.options, sort_keys=True)) for step in self.config.steps]

    def applies(self, step: int, source: int) -> bool:
        """Whether a step works on a source."""
        named = self.config.steps[step].sources
        return not named or self.config.sources[source].name in named

    def file(self, pass_index: int, part: Part, suffix: str) -> Path:
        return self.work / str(pass_index) / f"{part.stem}.{suffix}"

    def unit_file(self, source: int, unit: int) -> Path:
        """What `read_unit` says it has read, once it is through."""
        return self.work / "0" / f"s{source:03}-u{unit:06}.json"

    def revisions_file(self, source: int, unit: int) -> Path:
        """What a unit's records replace or delete; only of kinds whose records are revised."""
        return self.work / "0" / f"s{source:03}-u{unit:06}.revisions.npz"

    def decision_file(self, pass_index: int, part: Part) -> Path:
        """Which documents of a part go on to the next pass."""
        return self.work / str(pass_index) / "decision" / f"{part.stem}.npy"

    def step_folder(self, step: int) -> Path:
        return self.work / f"step-{step:02}"

    def is_corpus_step(self, step: int) -> bool:
        return isinstance(self.steps[step], CorpusStep)


@cache
def _step(kind: str, options: str) -> Step:
    return steps.build(kind, json.loads(options))


def read_unit(job: Job, source: int, unit: int) -> None:
    """Pass 0: a unit's documents into parts of about ``part_megabytes`` of text, and a record of what was read.

    Damage to the file ends the unit, not the preparation, unless that is strict; documents before it are kept.
    """
    settings, (this, _) = job.config.sources[source], job.units[source][unit]
    kind = readers.build(settings.kind, settings.options)
    report = ReadReport(strict=job.config.strict)
    documents = _complete(kind.read(this, _columns(job, source), report), settings, report)
    sizes, damage = [], None
    held, size = list[Document](), 0

    def save() -> None:
        save_documents(job.file(0, Part(source, unit, len(sizes)), "docs"), held)
        sizes.append(len(held))
        held.clear()

    try:
        for document in documents:
            held.append(document)
            size += len(document.text)
            if size >= job.config.part_megabytes << 20:
                save()
                size = 0
    except DataError as error:
        if job.config.strict:
            raise
        damage = str(error).replace(str(this.path), this.name)
    if held:
        save()
    if report.revisions:
        key, version, deleted, first = zip(*report.revisions, strict=True)
        save_arrays(
            job.revisions_file(source, unit), key=np.array(key, np.int64), version=np.array(version, np.int64),
            deleted=np.array(deleted, bool), first=np.array([*first, report.documents], np.int64),
        )  # fmt: skip
    save_json(job.unit_file(source, unit), {
        "name": this.name, "parts": len(sizes), "part_documents": sizes, "damage": damage, "documents": report.documents,
        "bytes": this.path.stat().st_size if this.path.is_file() else 0, "sha256": digest_of(this.path),
        "skipped": dict(report.skipped),
        "examples": {
            reason: [place.replace(str(this.path), this.name) for place in places]
            for reason, places in report.examples.items()
        },
    })  # fmt: skip


def digest_of(path: Path) -> str:
    """sha256 of a file; of a folder, that of its files' names and hashes; empty for a name on the hub."""
    if not path.is_dir():
        return sha256_of(path) if path.is_file() else ""
    files = [f"{file.relative_to(path).as_posix()} {sha256_of(file)}" for file in files_under(path) if file.is_file()]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def process_part(job: Job, pass_index: int, part: Part) -> None:
    """Pass 1 and on: a part's documents through the steps of the pass, then to signatures, or to tokens in the last."""
    run = job.passes[pass_index - 1]
    mine = [i for i in run if job.applies(i, part.source)]
    reports = {i: StepReport(folder=job.step_folder(i)) for i in mine}
    documents = _kept(job, pass_index, part)
    for i in mine:
        step = job.steps[i]
        if isinstance(step, DocumentStep):
            documents = _counted(step, documents, reports[i])
    if pass_index < len(job.passes):
        result = _sign(job, pass_index, part, documents, run)
    else:
        result = _tokenize(job, pass_index, part, documents)
    counted = [{**vars(reports[i]), "folder": None, "step": i} for i in mine if not job.is_corpus_step(i)]
    save_json(job.file(pass_index, part, "json"), {**result, "steps": counted})  # last: its presence says all is there


def _kept(job: Job, pass_index: int, part: Part) -> Iterator[Document]:
    """What the pass before left of the part, less what its corpus steps removed, or what was revised after reading."""
    documents = load_documents(job.file(pass_index - 1, part, "docs"))
    decision = job.decision_file(pass_index - 1, part)
    if pass_index == 1 and not decision.exists():
        yield from documents
    else:
        yield from (document for document, keep in zip(documents, np.load(decision), strict=True) if keep)


def _counted(step: DocumentStep, documents: Iterable[Document], report: StepReport) -> Iterator[Document]:
    def coming() -> Iterator[Document]:
        for document in documents:
            report.documents_in += 1
            report.characters_in += len(document.text)
            yield document

    for document in step.apply(coming(), report):
        report.documents_out += 1
        report.characters_out += len(document.text)
        yield document


def _sign(job: Job, pass_index: int, part: Part, documents: Iterator[Document], run: range) -> dict[str, Any]:
    signing = {i: step for i in run if isinstance(step := job.steps[i], CorpusStep)}
    signed: dict[int, list[np.ndarray]] = {i: [] for i in signing}
    names: list[str] = []
    sizes: list[int] = []

    def noted() -> Iterator[Document]:
        for document in documents:
            for i, step in signing.items():
                signed[i].append(step.sign(document))
            names.append(document.id)
            sizes.append(len(document.text))
            yield document

    save_documents(job.file(pass_index, part, "docs"), noted())
    save_json(job.file(pass_index, part, "names"), names)
    for i in signing:
        with whole_file(job.file(pass_index, part, f"{i}.npy")) as file:
            np.save(file, np.stack(signed[i]) if names else np.empty((0, 0), np.uint64))
    with whole_file(job.file(pass_index, part, "sizes.npy")) as file:
        np.save(file, np.array(sizes, np.int64))
    return {"documents": len(names)}


def _tokenize(job: Job, pass_index: int, part: Part, documents: Iterator[Document]) -> dict[str, Any]:
    document_encoder = document_encoder_of(job.config.tokenizer, job.config.special_tokens_in_text)
    literal = {"train": 0, "validation": 0}
    lengths, repeats, keys, held_out, empty = [], [], [], [], 0
    seen: dict[str, dict[str, set[str]]] = {
        side: {"license": set(), "language": set()} for side in ("train", "validation")
    }
    with whole_file(job.file(pass_index, part, "tokens")) as file:
        for document, ids in document_encoder(documents):
            if ids is None:
                empty += 1
                continue
            file.write(ids.tobytes())
            lengths.append(len(ids))
            repeats.append(document.repeats)
            keys.append(xxhash.xxh64_intdigest(document.id, seed=job.config.seed))
            held_out.append(_is_held_out(job, part, document))
            literal["validation" if held_out[-1] else "train"] += document_encoder.literal_specials(document.text)
            for what in ("license", "language"):
                if value := getattr(document, what):
                    seen["validation" if held_out[-1] else "train"][what].add(value)
    save_arrays(
        job.file(pass_index, part, "npz"),
        length=np.array(lengths, np.uint32),
        repeats=np.array(repeats, np.uint32),
        key=np.array(keys, np.uint64),
        held_out=np.array(held_out, bool),
    )
    said = {side: {what: sorted(values) for what, values in found.items()} for side, found in seen.items()}
    return {"documents": len(lengths), "without_tokens": empty, "literal_specials": literal, "seen": said}


def _is_held_out(job: Job, part: Part, document: Document) -> bool:
    """By the hash of the document's name, so that a document is on one side with all its rows and copies."""
    if job.config.sources[part.source].validation_paths:
        return job.units[part.source][part.unit][1]
    drawn = xxhash.xxh64_intdigest(f"validation {document.id}", seed=job.config.seed) / 2**64
    return drawn < job.config.validation_fraction


def _columns(job: Job, source: int) -> Columns:
    given = job.config.sources[source].columns
    named = [*given.more_text, *given.metadata, *filter(None, [given.license])]
    named += [column for column in (given.id, given.language) if column not in ("id", "language")]
    wanted = [column for i, step in enumerate(job.steps) if job.applies(i, source) for column in step.columns()]
    return Columns(
        text=given.text,
        more_text=tuple(given.more_text),
        id=given.id,
        language=given.language,
        license=(given.license,) if given.license else ("license", "license"),
        metadata=tuple(dict.fromkeys([*given.metadata, *wanted])),
        named=tuple(named),
    )


def _complete(documents: Iterable[Document], settings: SourceConfig, report: ReadReport) -> Iterator[Document]:
    """Documents with text, with the source's language and license where they state none."""
    for document in documents:
        if not document.text.strip():
            report.skip("empty text", f"{document.path}: {document.id}")
            continue
        if len(document.text) > MAX_RECORD_BYTES:  # of a kind that has no lines; those are measured as they are read
            report.skip(TOO_LONG, f"{document.path}: {document.id}")
            continue
        report.documents += 1
        yield document._replace(
            language=document.language or settings.language, license=document.license or settings.license
        )


def parts_of(job: Job) -> list[Part]:
    """All parts, in the order of the corpus, once pass 0 is through."""
    return [
        Part(source, unit, number)
        for source, units in enumerate(job.units)
        for unit in range(len(units))
        for number in range(load_json(job.unit_file(source, unit))["parts"])
    ]
