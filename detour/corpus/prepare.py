"""Corpora -> packed rows for training: ``detour data prepare CONFIG [key=value ...]``.

Killed at any moment, the same command goes on from the parts that are finished; when all is done, it does nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from detour.corpus import readers
from detour.corpus.config import PrepareConfig, SourceConfig
from detour.corpus.document_encoder import document_encoder_of
from detour.corpus.document_shards import load_json, save_json, whole_file
from detour.corpus.global_dedup import decide
from detour.corpus.input_files import files_under, told_of
from detour.corpus.passes import Job, digest_of, parts_of, process_part, read_unit
from detour.corpus.prepared import RECORD, SIDES, differences, identity_of, record_of, streams_yaml, write_lists
from detour.corpus.readers import Unit
from detour.corpus.revisions import apply_revisions
from detour.corpus.rows import write_rows
from detour.corpus.show import refuse_nothing_left
from detour.corpus.text import HARMLESS
from detour.corpus.workers import Workers
from detour.errors import DataError
from detour.files import naming, sha256_of, try_lock
from detour.redact import redacted

WORK = ".work"
Say = Callable[[str], None]


def prepare(config: PrepareConfig, say: Say = lambda line: None) -> tuple[dict[str, Any], bool]:
    """Runs a preparation to its end, from wherever an earlier one was stopped.

    Args:
        config: What to do.
        say: Told what is being done.

    Returns:
        What ``prepared.json`` holds, and whether anything had to be done.

    Raises:
        DataError: Something cannot be read or written, ``out`` holds another preparation, or (strict) a line is unusable.

    Cost: memory of each process a part's documents and one batch of the tokenizer; of this one about 100 bytes a
    document where corpora are compared. Disk: besides the rows, the text compressed and the tokens, until the end.
    """
    config = replace(config, sources=[replace(s, license=redacted(s.license)) for s in config.sources])  # it is written
    out = Path(config.out)
    units = tuple(_units_of(source) for source in config.sources)
    job = Job(config=config, units=units, work=out / WORK)
    passed_over = _passed_over(config)
    inputs = _inputs(job)
    identity = identity_of(config, inputs)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        if (record := _finished(out, identity, inputs)) is not None:
            shutil.rmtree(job.work, ignore_errors=True)
            if config.strict:
                for name, source in record["sources"].items():
                    _refuse_faults(name, source["files"], source["skipped"], source["first_skipped"])
            return record, False
        _claim(job, identity)
        with Workers(config.processes) as workers:
            prepared = _run(job, workers, say)
        document_encoder_of(config.tokenizer).tokenizer.save_pretrained(out / "tokenizer")
        write_lists(job, out)
        hashes = _hashes(inputs)
        _refuse_changed(job, hashes)
        record = record_of(job, identity | {"sha256": hashes}, prepared, passed_over)
        refuse_nothing_left(record, out)
        with whole_file(out / "streams.yaml") as file:
            file.write(streams_yaml(config, record).encode())
        save_json(out / RECORD, redacted(record))  # last: its presence says that all is done
        shutil.rmtree(job.work)
    return record, True


def _run(job: Job, workers: Workers, say: Say) -> list[dict[str, Any]]:
    """All passes and the packing; returns what the steps' preparation told."""
    prepared = []
    for i, step in enumerate(job.steps):
        done = job.step_folder(i) / "prepared.json"
        if not done.exists():
            job.step_folder(i).mkdir(parents=True, exist_ok=True)
            save_json(done, step.prepare(job.step_folder(i)))
        prepared.append(load_json(done))

    def run(what: str, task: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
        ticks = iter(range(1, len(arguments) + 1))
        workers.run(task, arguments, lambda: say(f"{what}: {next(ticks)} of {len(arguments)}"))

    unread = [
        (s, u) for s, units in enumerate(job.units) for u in range(len(units)) if not job.unit_file(s, u).exists()
    ]
    run("reading files", read_unit, [(job, s, u) for s, u in unread])
    if job.config.strict:  # what was read before may have been read without it
        for s, u in ((s, u) for s, units in enumerate(job.units) for u in range(len(units))):
            read = load_json(job.unit_file(s, u))
            _refuse_faults(job.config.sources[s].name, [read], read["skipped"], read["examples"])
    apply_revisions(job)
    parts = parts_of(job)
    for k in range(1, len(job.passes) + 1):
        todo = [part for part in parts if not job.file(k, part, "json").exists()]
        last = k == len(job.passes)
        run("tokenizing parts" if last else "cleaning parts", process_part, [(job, k, part) for part in todo])
        for part in parts:
            job.file(k - 1, part, "docs").unlink(missing_ok=True)
        if not last and not (job.work / str(k) / "decision.json").exists():
            say("comparing documents")
            decide(job, k, parts)
    for side in SIDES:
        for leftover in (Path(job.config.out) / side).glob(".*.partial"):
            shutil.rmtree(leftover)
    run("packing rows", write_rows, [(job, s, side) for s in range(len(job.units)) for side in SIDES])
    return prepared


def _refuse_faults(source: str, files: list[dict[str, Any]], skipped: dict[str, int], places: dict[str, Any]) -> None:
    """Raises DataError if something could not be used: what strict refuses, though an earlier run let it pass."""
    faults = [f"{places[reason][0]}: {reason}" for reason in skipped if reason not in HARMLESS]
    faults += [file["damage"] for file in files if file.get("damage")]
    if faults:
        raise DataError(f"{source}: read without --strict before, and not all of it could be used; {faults[0]}")


def _units_of(source: SourceConfig) -> tuple[tuple[Unit, bool], ...]:
    """The source's units; True marks those that are held out as they are."""
    kind = readers.build(source.kind, source.options)
    held_out = kind.units(source.validation_paths) if source.validation_paths else []
    return tuple(
        (unit, side) for side, units in ((False, kind.units(source.paths)), (True, held_out)) for unit in units
    )


def _passed_over(config: PrepareConfig) -> dict[str, list[str]]:
    """Of each source the files that its folders and patterns hold and that are not read. Strict refuses them."""
    found = {}
    for source in config.sources:
        kind = readers.build(source.kind, source.options)
        found[source.name] = kind.passed_over([*source.paths, *source.validation_paths])
        if config.strict and found[source.name]:
            raise DataError(f"source '{source.name}': {told_of(found[source.name])}; name the files that are meant")
    return found


def _inputs(job: Job) -> dict[str, Path]:
    """Everything that is read, by a name without folders of this machine."""
    inputs = {}
    for source, units in zip(job.config.sources, job.units, strict=True):
        for unit, held_out in units:
            name = _name_of(source, unit, held_out)
            if name in inputs:
                raise DataError(
                    f"{unit.path}: source '{source.name}' has two files named {unit.name}; give their folder"
                )
            inputs[name] = unit.path
            if unit.path.is_dir():  # a saved dataset
                inputs |= {f"{name}/{p.relative_to(unit.path).as_posix()}": p for p in files_under(unit.path)}
    for i, step in enumerate(job.steps):
        inputs |= {f"step {i}/{path.parent.parent.name}/{path.parent.name}/{path.name}": path for path in step.inputs()}
    return inputs


def _name_of(source: SourceConfig, unit: Unit, held_out: bool) -> str:
    return f"{source.name}/{'held out/' if held_out else ''}{unit.name}"


def _refuse_changed(job: Job, hashes: dict[str, str]) -> None:
    """Raises DataError if a file is not any more what it was when it was read, perhaps by an earlier, killed run."""
    for s, units in enumerate(job.units):
        for u, (unit, held_out) in enumerate(units):
            read = load_json(job.unit_file(s, u))["sha256"]
            name = _name_of(job.config.sources[s], unit, held_out)
            if read and read != (hashes.get(name) or digest_of(unit.path)):
                raise DataError(
                    f"{unit.path}: has changed since it was read; delete {job.config.out} and prepare it again"
                )


def _hashes(inputs: dict[str, Path]) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in inputs.items() if path.is_file()}


def _finished(out: Path, identity: dict[str, Any], inputs: dict[str, Path]) -> dict[str, Any] | None:
    """The record of a finished preparation of the same; None if there is none. Raises DataError if it is of another."""
    path = out / RECORD
    if not path.exists():
        return None
    record = load_json(path)
    known = dict(record["identity"])
    hashes = known.pop("sha256")
    differing = differences(known, identity)
    made = path.stat().st_mtime  # only what was written since is read again
    changed = {name: file for name, file in inputs.items() if file.is_file() and file.stat().st_mtime > made}
    differing += [name for name, found in _hashes(changed).items() if hashes.get(name) != found]
    if differing:
        raise DataError(
            f"{out}: holds a finished preparation that differs in {', '.join(differing[:5])}; "
            "choose another out, or delete this one"
        )
    return record


def _claim(job: Job, identity: dict[str, Any]) -> None:
    """Makes the work folder this preparation's. Raises DataError if it is another's, or ``out`` is in use."""
    plan = job.work / "plan.json"
    identity = {**identity, "part_megabytes": job.config.part_megabytes}
    if plan.exists():
        if differing := differences(load_json(plan), identity):
            raise DataError(
                f"{job.work}: an unfinished preparation that differs in {', '.join(differing[:5])}; "
                "finish it with its own config, or delete that folder and what stands beside it"
            )
        return
    taken = [path.name for path in Path(job.config.out).iterdir() if path.name != WORK]
    if taken:
        raise DataError(f"{job.config.out}: holds {', '.join(sorted(taken)[:3])}, expected an empty folder or none")
    save_json(plan, identity)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuses a second preparation of the same folder while one runs; the system drops the lock with the process."""
    lock = out.with_name(f".{out.name}.lock")
    with lock.open("w") as file:
        with naming(lock, DataError):
            held = try_lock(file)
        if not held:
            raise DataError(f"{out}: is being prepared by another process")
        yield
