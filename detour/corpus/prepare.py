"""Corpora -> packed rows for training: ``detour data prepare CONFIG [key=value ...]``.

A killed preparation resumes from the finished document shards when the command is run again; a finished one does
nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from detour.corpus import readers
from detour.corpus.config import PrepareConfig, SourceConfig
from detour.corpus.document_encoder import document_encoder_of
from detour.corpus.document_shards import load_json
from detour.corpus.global_dedup import decide
from detour.corpus.input_files import describe_ignored, files_under
from detour.corpus.job import Job, document_shards_of, group_files
from detour.corpus.passes import digest_of
from detour.corpus.prepared import FORMAT, differences, identity_of, record_of, streams_yaml, write_removals
from detour.corpus.readers import InputFile
from detour.corpus.revisions import apply_revisions
from detour.corpus.show import refuse_nothing_left
from detour.corpus.stages import READ, ROWS, Say, Stage, pass_name, run_part, runner, stage_of
from detour.corpus.text import HARMLESS
from detour.data.manifest import PREPARED, SPLITS
from detour.errors import DataError
from detour.files import naming, sha256_of, try_lock, write_json, write_text
from detour.redact import redacted

WORK = ".work"


def prepare(
    config: PrepareConfig, say: Say = lambda line: None, *, command: Sequence[str] = ()
) -> tuple[dict[str, Any], bool]:
    """Runs a preparation to its end, resuming from the finished files of an earlier one.

    Args:
        config: The preparation.
        say: Called with a line of progress.
        command: The arguments of `detour data prepare` that gave ``config``; needed where it names an executor.

    Returns:
        The content of ``prepared.json``, and whether anything was left to do.

    Raises:
        DataError: Something cannot be read or written, ``out`` holds another preparation, or (strict) a record is
            unusable.
        JobError, StoppedError: Of an executor's jobs; the same call continues.

    Cost: memory of each process: the documents of one document shard and one batch of the tokenizer; of this process:
    about 100 bytes per document if there are corpus steps. Disk, until the end, besides the rows: the compressed text
    and the tokens.
    """
    job = job_of(config)
    config, out = job.config, Path(config.out)
    ignored_files = _ignored_files(config)
    inputs = _inputs(job)
    identity = identity_of(config, inputs)
    out.mkdir(parents=True, exist_ok=True)
    with _exclusive(out):
        if (record := _finished(out, identity, inputs)) is not None:
            shutil.rmtree(job.work, ignore_errors=True)
            if config.strict:
                for name, source in record["sources"].items():
                    _refuse_faults(name, source["files"], source["skipped"], source["first_skipped"])
            return record, False
        _claim(job, identity)
        with runner(job, command, say) as run:
            step_records = _run(job, run, say)
        document_encoder_of(config.tokenizer).tokenizer.save_pretrained(out / "tokenizer")
        write_removals(job, out)
        hashes = _hashes(inputs)
        _refuse_changed(job, hashes)
        record = record_of(job, identity | {"sha256": hashes}, step_records, ignored_files)
        refuse_nothing_left(record, out)
        write_text(out / "streams.yaml", streams_yaml(config, record))
        write_json(out / PREPARED, redacted(record))  # last: marks the preparation as finished
        shutil.rmtree(job.work)
    return record, True


def prepare_part(config: PrepareConfig, stage: str, part: int, parts: int, say: Say) -> None:
    """Runs one of the jobs of an unfinished preparation (`detour.corpus.stages.run_part`).

    Raises:
        DataError: ``out`` does not hold this preparation, or something cannot be read or written.
    """
    job = job_of(config)
    if not _plan(job).exists():
        raise DataError(f"{job.work}: no unfinished preparation")
    _claim(job, identity_of(config, _inputs(job)))
    run_part(job, stage, part, parts, say)


def job_of(config: PrepareConfig) -> Job:
    """The preparation with its input files. Raises DataError if a source has none."""
    # licenses are written to the outputs, so values from the environment are hidden
    config = replace(config, sources=[replace(s, license=redacted(s.license)) for s in config.sources])
    input_files = tuple(_input_files_of(source) for source in config.sources)
    groups = tuple(
        group_files(
            files,
            most_bytes=config.shard_megabytes << 20,
            alone=readers.build(source.kind, source.options).revises,
        )
        for source, files in zip(config.sources, input_files, strict=True)
    )
    return Job(config=config, input_files=input_files, groups=groups, work=Path(config.out) / WORK)


def _run(job: Job, run: Callable[[Stage], None], say: Say) -> list[dict[str, Any]]:
    """Runs all passes and the packing; returns what `Step.prepare` recorded for each step."""
    step_records = []
    for i, step in enumerate(job.steps):
        done = job.step_folder(i) / "prepared.json"
        if not done.exists():
            job.step_folder(i).mkdir(parents=True, exist_ok=True)
            write_json(done, step.prepare(job.step_folder(i)))
        step_records.append(load_json(done))
    run(stage_of(job, READ))
    if job.config.strict:  # an earlier run may have read files without it
        for s, source in enumerate(job.config.sources):
            for read in job.files_read(s):
                _refuse_faults(source.name, [read], read["skipped"], read["examples"])
    apply_revisions(job)
    shards = document_shards_of(job)
    for k in range(1, len(job.passes) + 1):
        last = k == len(job.passes)
        run(stage_of(job, pass_name(k)))
        for shard in shards:
            job.file(k - 1, shard, "docs").unlink(missing_ok=True)
        if not last and not (job.work / str(k) / "decision.json").exists():
            say("comparing documents")
            decide(job, k, shards)
    for split in SPLITS:
        for leftover in (Path(job.config.out) / split).glob(".*.partial"):
            shutil.rmtree(leftover)
    run(stage_of(job, ROWS))
    return step_records


def _refuse_faults(source: str, files: list[dict[str, Any]], skipped: dict[str, int], examples: dict[str, Any]) -> None:
    """Raises DataError if an earlier run without ``strict`` skipped something that ``strict`` refuses."""
    faults = [f"{examples[reason][0]}: {reason}" for reason in skipped if reason not in HARMLESS]
    faults += [file["damage"] for file in files if file.get("damage")]
    if faults:
        raise DataError(f"{source}: read without --strict before, and not all of it could be used; {faults[0]}")


def _input_files_of(source: SourceConfig) -> tuple[tuple[InputFile, bool], ...]:
    """The source's input files; True marks those of ``validation_paths``."""
    reader = readers.build(source.kind, source.options)
    train = [(file, False) for file in reader.input_files(source.paths)]
    validation = reader.input_files(source.validation_paths) if source.validation_paths else []
    return (*train, *((file, True) for file in validation))


def _ignored_files(config: PrepareConfig) -> dict[str, list[str]]:
    """For each source, the files in its folders and patterns that its reader does not read. Strict refuses them."""
    found = {}
    for source in config.sources:
        reader = readers.build(source.kind, source.options)
        ignored = found[source.name] = reader.ignored_files([*source.paths, *source.validation_paths])
        if config.strict and ignored:
            raise DataError(f"source '{source.name}': {describe_ignored(ignored)}; name the files that are meant")
    return found


def _inputs(job: Job) -> dict[str, Path]:
    """Everything that is read, by a name that contains no folder of this machine."""
    inputs = {}
    for source, files in zip(job.config.sources, job.input_files, strict=True):
        for file, in_validation in files:
            name = _name_of(source, file, in_validation)
            if name in inputs:
                raise DataError(
                    f"{file.path}: source '{source.name}' has two files named {file.name}; give their folder"
                )
            inputs[name] = file.path
            if file.path.is_dir():  # a saved dataset
                inputs |= {f"{name}/{p.relative_to(file.path).as_posix()}": p for p in files_under(file.path)}
    for i, step in enumerate(job.steps):
        inputs |= {f"step {i}/{path.parent.parent.name}/{path.parent.name}/{path.name}": path for path in step.inputs()}
    return inputs


def _name_of(source: SourceConfig, file: InputFile, in_validation: bool) -> str:
    return f"{source.name}/{'validation split/' if in_validation else ''}{file.name}"


def _refuse_changed(job: Job, hashes: dict[str, str]) -> None:
    """Raises DataError if a file has changed since it was read, perhaps by an earlier run that was killed."""
    for s, source in enumerate(job.config.sources):
        for (file, in_validation), read in zip(job.input_files[s], job.files_read(s), strict=True):
            found = hashes.get(_name_of(source, file, in_validation)) or digest_of(file.path)
            if read["sha256"] and read["sha256"] != found:
                raise DataError(
                    f"{file.path}: has changed since it was read; delete {job.config.out} and prepare it again"
                )


def _hashes(inputs: dict[str, Path]) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in inputs.items() if path.is_file()}


def _finished(out: Path, identity: dict[str, Any], inputs: dict[str, Path]) -> dict[str, Any] | None:
    """The record in ``out`` if this preparation is finished there; None if ``out`` has no record.

    Raises:
        DataError: The record is of another preparation, or was written by an incompatible version.
    """
    path = out / PREPARED
    if not path.exists():
        return None
    record = load_json(path)
    if record.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {record.get('format')!r}, expected {FORMAT}; prepare it again in another folder"
        )
    known = dict(record["identity"])
    hashes = known.pop("sha256")
    differing = differences(known, identity)
    finished_at = path.stat().st_mtime  # only files modified since are hashed again
    changed = {name: file for name, file in inputs.items() if file.is_file() and file.stat().st_mtime > finished_at}
    differing += [name for name, found in _hashes(changed).items() if hashes.get(name) != found]
    if differing:
        raise DataError(
            f"{out}: holds a finished preparation that differs in {', '.join(differing[:5])}; "
            "choose another out, or delete this one"
        )
    return record


def _plan(job: Job) -> Path:
    return job.work / "plan.json"


def _claim(job: Job, identity: dict[str, Any]) -> None:
    """Reserves the work folder. Raises DataError if it holds another preparation, or ``out`` holds anything else."""
    plan = _plan(job)
    identity = {**identity, "shard_megabytes": job.config.shard_megabytes}
    if plan.exists():
        if differing := differences(load_json(plan), identity):
            raise DataError(
                f"{job.work}: an unfinished preparation that differs in {', '.join(differing[:5])}; "
                f"finish it with its own config, or delete {job.config.out}"
            )
        return
    taken = [path.name for path in Path(job.config.out).iterdir() if path.name != WORK]
    if taken:
        raise DataError(f"{job.config.out}: holds {', '.join(sorted(taken)[:3])}, expected an empty folder or none")
    write_json(plan, identity)


@contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """Refuses a second preparation of a folder while one runs; the system releases the lock when the process ends."""
    lock = out.with_name(f".{out.name}.lock")
    with lock.open("w") as file:
        with naming(lock, DataError):
            held = try_lock(file)
        if not held:
            raise DataError(f"{out}: is being prepared by another process")
        yield
