"""``prepared.json``: the configuration, what was read, what each step did, and the folders that were written."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import detour
from detour.corpus.config import PrepareConfig
from detour.corpus.document_encoder import document_encoder_of
from detour.corpus.document_shards import append_jsonl, load_json
from detour.corpus.job import Job, document_shards_of
from detour.corpus.revisions import removed_by_revision
from detour.data.manifest import MANIFEST, SPLITS, ShardManifest
from detour.files import atomic_write
from detour.options import flatten
from detour.redact import redacted

FORMAT = 2  # of prepared.json
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # needs no quotes in YAML
EXECUTION_KEYS = ("out", "processes", "executor", "strict", "shard_megabytes")  # these do not change the rows


def identity_of(config: PrepareConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    """Everything that determines the result: the configuration, and names and sizes of the inputs, without local folders.

    Secrets and values from the environment are hidden; a hash over all values tells whether they are the same.
    """
    settings = {key: value for key, value in asdict(config).items() if key not in EXECUTION_KEYS}
    settings["tokenizer"] = document_encoder_of(config.tokenizer).info.sha256
    for source in settings["sources"]:
        del source["paths"], source["validation_paths"]
    for step in settings["steps"]:
        step["options"] = {key: value for key, value in step["options"].items() if key != "paths"}
    if (shown := redacted(settings)) != settings:
        hidden = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        settings = {**shown, "hidden_values": hidden}
    return {**settings, "inputs": {name: path.stat().st_size for name, path in inputs.items() if path.is_file()}}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ."""
    a, b = flatten(found), flatten(wanted)
    return [key for key in [*a, *(key for key in b if key not in a)] if a.get(key) != b.get(key)]


def record_of(
    job: Job, identity: dict[str, Any], step_records: list[dict[str, Any]], ignored_files: dict[str, list[str]]
) -> dict[str, Any]:
    """The content of ``prepared.json``. Deterministic: it contains no time, process or local folder.

    Args:
        job: The preparation.
        identity: See `identity_of`; with the inputs' hashes under ``sha256``.
        step_records: What `Step.prepare` returned, for each step.
        ignored_files: For each source, the files that its reader did not read.
    """
    out, info = Path(job.config.out), document_encoder_of(job.config.tokenizer).info
    counts = _step_counts(job)
    steps = [
        {
            "kind": step.kind, "options": identity["steps"][i]["options"], **step_records[i],
            "by_source": {job.config.sources[s].name: n for (j, s), n in sorted(counts.items()) if i == j},
        }
        for i, step in enumerate(job.config.steps)
    ]  # fmt: skip
    sources = {}
    for s, source in enumerate(job.config.sources):
        folders = {split: folder for split in SPLITS if (folder := _folder(out / split / source.name))}
        sources[source.name] = {
            "proportion": source.proportion,
            "ignored_files": ignored_files[source.name],
            **_read_counts(job, s),
            "folders": folders,
        }
    return {
        "format": FORMAT,
        "created_by": f"detour {detour.__version__}",
        "seq_len": job.config.seq_len,
        "seed": job.config.seed,
        "tokenizer": asdict(info),
        "sources": sources,
        "steps": steps,
        "identity": identity,
    }


def write_removals(job: Job, out: Path) -> None:
    """Writes ``removed/<step>.jsonl`` for each step that lists the documents it removed."""
    shards = document_shards_of(job)
    for i, step in enumerate(job.config.steps):
        name = f"{i:02}.jsonl"
        if job.is_corpus_step(i):
            removals: Iterable[dict[str, Any]] = ()
            text = (job.work / "removed" / name).read_bytes()
        else:
            text, pass_index = b"", next(k for k, steps in enumerate(job.passes, start=1) if i in steps)
            removals = [
                {"source": job.config.sources[shard.source].name, **removal}
                for shard in shards
                for counts in load_json(job.file(pass_index, shard, "json"))["steps"]
                if counts["step"] == i
                for removal in counts["removals"]
            ]
        if text or removals:
            with atomic_write(out / "removed" / f"{i:02}_{step.kind}.jsonl") as file:
                file.write(text)
                append_jsonl(file, removals)


def streams_yaml(config: PrepareConfig, record: dict[str, Any]) -> str:
    """The ``data:`` section of a run that trains on these rows; proportions are normalized to sum to 1."""
    given = [source.proportion for source in config.sources if "train" in record["sources"][source.name]["folders"]]
    total = sum(proportion for proportion in given if proportion is not None)
    lines = ["# for a run's YAML", "data:"]
    for split in SPLITS:
        lines.append(f"  {split}:")
        for source in config.sources:
            if split not in record["sources"][source.name]["folders"]:
                continue
            weight = f", proportion: {source.proportion / total!r}" if source.proportion and split == "train" else ""
            path = redacted(f"{config.out}/{split}/{source.name}")  # a run's YAML reads ${oc.env:NAME} as well
            lines.append(f"    - {{path: {path if PLAIN.fullmatch(path) else json.dumps(path)}{weight}}}")
        if lines[-1].endswith(":"):
            lines[-1] += " []"
    return "\n".join([*lines, f"  seq_len: {config.seq_len}", ""])


def _step_counts(job: Job) -> dict[tuple[int, int], dict[str, Any]]:
    """(step, source) -> its counts over all document shards."""
    all_counts: list[dict[str, Any]] = []
    for k in range(1, len(job.passes) + 1):
        for shard in document_shards_of(job):
            steps = load_json(job.file(k, shard, "json"))["steps"]
            all_counts += [{**counts, "source": shard.source} for counts in steps]
        decision = job.work / str(k) / "decision.json"
        all_counts += load_json(decision)["steps"] if decision.exists() else []
    totals: dict[tuple[int, int], dict[str, Any]] = {}
    for counts in all_counts:
        key = counts["step"], counts["source"]
        into = totals.setdefault(key, {"dropped": {}})
        for name in ("documents_in", "documents_out", "characters_in", "characters_out", "changed"):
            into[name] = into.get(name, 0) + counts[name]
        into["dropped"] = dict(sorted((Counter(into["dropped"]) + Counter(counts["dropped"])).items()))
    return totals


def _read_counts(job: Job, source: int) -> dict[str, Any]:
    """What was read of a source's files and what was skipped."""
    files, skipped, examples = [], Counter[str](), {}
    removals = removed_by_revision(job, source)
    for f, read in enumerate(job.files_read(source)):
        removed = removals.get(f, {})
        read["documents"] -= sum(removed.values())
        for reason, n in removed.items():
            read["skipped"][reason] = n
            read["examples"][reason] = [read["name"]]
        keys = ("name", "bytes", "sha256", "documents", *(["damage"] if read["damage"] else []))
        files.append({key: read[key] for key in keys})
        skipped.update(read["skipped"])
        for reason, locations in read["examples"].items():
            known = examples.setdefault(reason, [])
            known += locations[: max(0, 5 - len(known))]
    return {
        "documents_read": sum(file["documents"] for file in files),
        "files": files,
        "skipped": dict(sorted(skipped.items())),
        "first_skipped": dict(sorted(examples.items())),
    }


def _folder(path: Path) -> dict[str, Any] | None:
    if not (path / MANIFEST).is_file():
        return None
    manifest = ShardManifest.load(path)
    return {
        **asdict(manifest.counts),
        "packing_efficiency": round(manifest.packing_efficiency, 6),
        "rows_sha256": manifest.rows_sha256,
    }
