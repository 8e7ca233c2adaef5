"""``prepared.json``: what was asked for, what was read, what each step did, and which folders came of it."""

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
from detour.corpus.document_shards import append_jsonl, load_json, whole_file
from detour.corpus.passes import Job, parts_of
from detour.corpus.revisions import revised
from detour.data.manifest import MANIFEST, ShardManifest
from detour.redact import redacted

RECORD = "prepared.json"
SIDES = ("train", "validation")
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # needs no quotes in YAML
UNASKED = ("out", "processes", "strict", "part_megabytes")  # they decide how the work goes, not what comes of it


def identity_of(config: PrepareConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    """All that decides the result, without a folder of this machine: config, and names and sizes of what is read.

    Secrets, and what came from the environment, are hidden; a hash over all tells whether they are the same.
    """
    asked = {key: value for key, value in asdict(config).items() if key not in UNASKED}
    asked["tokenizer"] = document_encoder_of(config.tokenizer).info.sha256
    for source in asked["sources"]:
        del source["paths"], source["validation_paths"]
    for step in asked["steps"]:
        step["options"] = {key: value for key, value in step["options"].items() if key != "paths"}
    if (shown := redacted(asked)) != asked:
        hidden = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        asked = {**shown, "hidden_values": hidden}
    return {**asked, "inputs": {name: path.stat().st_size for name, path in inputs.items() if path.is_file()}}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Keys whose values differ, with dots."""
    a, b = _flat(found), _flat(wanted)
    return [key for key in [*a, *(key for key in b if key not in a)] if a.get(key) != b.get(key)]


def record_of(
    job: Job, identity: dict[str, Any], prepared: list[dict[str, Any]], passed_over: dict[str, list[str]]
) -> dict[str, Any]:
    """The whole record. Deterministic: no time, process or place is in it."""
    out, info = Path(job.config.out), document_encoder_of(job.config.tokenizer).info
    counted = _step_counts(job)
    steps = [
        {
            "kind": step.kind, "options": identity["steps"][i]["options"], **prepared[i],
            "by_source": {job.config.sources[s].name: counts for (j, s), counts in sorted(counted.items()) if i == j},
        }
        for i, step in enumerate(job.config.steps)
    ]  # fmt: skip
    sources = {}
    for s, source in enumerate(job.config.sources):
        folders = {side: folder for side in SIDES if (folder := _folder(out / side / source.name))}
        sources[source.name] = {
            "proportion": source.proportion,
            "passed_over": passed_over[source.name],
            **_reading(job, s),
            "folders": folders,
        }
    return {
        "format": 1,
        "created_by": f"detour {detour.__version__}",
        "seq_len": job.config.seq_len,
        "seed": job.config.seed,
        "tokenizer": asdict(info),
        "sources": sources,
        "steps": steps,
        "identity": identity,
    }


def write_lists(job: Job, out: Path) -> None:
    """``removed/<step>.jsonl`` for each step that names what it removed."""
    parts = parts_of(job)
    for i, step in enumerate(job.config.steps):
        name = f"{i:02}.jsonl"
        if job.is_corpus_step(i):
            lines: Iterable[dict[str, Any]] = ()
            text = (job.work / "removed" / name).read_bytes()
        else:
            text, pass_index = b"", next(k for k, run in enumerate(job.passes, start=1) if i in run)
            lines = [
                {"source": job.config.sources[part.source].name, **removal}
                for part in parts
                for told in load_json(job.file(pass_index, part, "json"))["steps"]
                if told["step"] == i
                for removal in told["removals"]
            ]
        if text or lines:
            with whole_file(out / "removed" / f"{i:02}_{step.kind}.jsonl") as file:
                file.write(text)
                append_jsonl(file, lines)


def streams_yaml(config: PrepareConfig, record: dict[str, Any]) -> str:
    """The ``data:`` section of a run that trains on these rows."""
    given = [source.proportion for source in config.sources if "train" in record["sources"][source.name]["folders"]]
    total = sum(proportion for proportion in given if proportion is not None)
    lines = ["# for a run's YAML", "data:"]
    for side in SIDES:
        lines.append(f"  {side}:")
        for source in config.sources:
            if side not in record["sources"][source.name]["folders"]:
                continue
            share = f", proportion: {source.proportion / total!r}" if source.proportion and side == "train" else ""
            path = redacted(f"{config.out}/{side}/{source.name}")  # a run's YAML reads ${oc.env:NAME} as well
            lines.append(f"    - {{path: {path if PLAIN.fullmatch(path) else json.dumps(path)}{share}}}")
        if lines[-1].endswith(":"):
            lines[-1] += " []"
    return "\n".join([*lines, f"  seq_len: {config.seq_len}", ""])


def _step_counts(job: Job) -> dict[tuple[int, int], dict[str, Any]]:
    """(step, source) -> its counts over all parts."""
    told: list[dict[str, Any]] = []
    for k in range(1, len(job.passes) + 1):
        for part in parts_of(job):
            steps = load_json(job.file(k, part, "json"))["steps"]
            told += [{**counts, "source": part.source} for counts in steps]
        decision = job.work / str(k) / "decision.json"
        told += load_json(decision)["steps"] if decision.exists() else []
    totals: dict[tuple[int, int], dict[str, Any]] = {}
    for counts in told:
        key = counts["step"], counts["source"]
        into = totals.setdefault(key, {"dropped": {}})
        for name in ("documents_in", "documents_out", "characters_in", "characters_out", "changed"):
            into[name] = into.get(name, 0) + counts[name]
        into["dropped"] = dict(sorted((Counter(into["dropped"]) + Counter(counts["dropped"])).items()))
    return totals


def _reading(job: Job, source: int) -> dict[str, Any]:
    """What the reading of a source's files came to."""
    files, skipped, examples = [], Counter[str](), {}
    for unit in range(len(job.units[source])):
        read = load_json(job.unit_file(source, unit))
        gone = revised(job, source, unit)
        read["documents"] -= sum(gone.values())
        for reason, n in gone.items():
            read["skipped"][reason] = n
            read["examples"][reason] = [read["name"]]
        told = ("name", "bytes", "sha256", "documents", *(["damage"] if read["damage"] else []))
        files.append({key: read[key] for key in told})
        skipped.update(read["skipped"])
        for reason, places in read["examples"].items():
            known = examples.setdefault(reason, [])
            known += places[: max(0, 5 - len(known))]
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
        "utilisation": round(manifest.utilisation, 6),
        "rows_sha256": manifest.rows_sha256,
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}.{key}".strip(".")).items()}
    if isinstance(value, list) and value:
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{prefix}[{i}]").items()}
    return {prefix: value}
