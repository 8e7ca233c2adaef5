"""Records that later records replace or delete, across all input files: PubMed's baseline and its updates."""

from __future__ import annotations

import re

import numpy as np

from detour.corpus.document_shards import load_json, save_array
from detour.corpus.job import DocumentShard, Job
from detour.files import write_json

NUMBERED = re.compile(r"pubmed(\d+)n(\d+)", re.IGNORECASE)
KEPT, REVISED, DELETED = 0, 1, 2
REASONS = {REVISED: "revised by a later record", DELETED: "deleted by a later update"}


def apply_revisions(job: Job) -> None:
    """Removes the documents that a later record replaces or deletes, and counts them in ``0/revisions.json``.

    A record is identified by key and version. The last record of a version replaces earlier ones, and the highest version
    that is not deleted replaces lower ones. Deterministic in the names and the order of the files. Memory: about 50 bytes
    per record.
    """
    done = job.work / "0" / "revisions.json"
    if done.exists():
        return
    files = _chronological(job)
    records = [dict(np.load(job.revisions_file(s, g))) for s, g in files]
    sizes = [len(of_file["key"]) for of_file in records]
    key, version, deleted = (
        np.concatenate([np.empty(0, np.int64), *[of_file[name] for of_file in records]])
        for name in ("key", "version", "deleted")
    )
    fates = np.split(_fates(key, version, deleted.astype(bool)), np.cumsum(sizes)[:-1]) if records else []
    counts = {}
    for (s, g), of_file, fate in zip(files, records, fates, strict=True):
        of_document = np.repeat(fate, np.diff(of_file["first"]))  # documents before the first record belong to none
        of_document = np.concatenate([np.zeros(of_file["first"][0], np.int8), of_document])
        _save_decisions(job, s, g, of_document == KEPT)
        counts[job.read_record(s, g).stem] = {
            reason: int((of_document == code).sum()) for code, reason in REASONS.items()
        }
    write_json(done, counts)  # last: marks all decisions as written


def removed_by_revision(job: Job, source: int) -> dict[int, dict[str, int]]:
    """Documents that `apply_revisions` removed, by input file and reason."""
    counts = load_json(job.work / "0" / "revisions.json")
    found = {files[0]: counts.get(job.read_record(source, g).stem, {}) for g, files in enumerate(job.groups[source])}
    return {f: {reason: n for reason, n in of_file.items() if n} for f, of_file in found.items()}


def _fates(key: np.ndarray, version: np.ndarray, deleted: np.ndarray) -> np.ndarray:
    """int8 [n]: KEPT, REVISED or DELETED for each record.

    Args:
        key: int64 [n], in chronological order.
        version: int64 [n].
        deleted: bool [n]: whether the entry deletes a record instead of giving one.
    """
    n = len(key)
    fate = np.full(n, REVISED, np.int8)
    order = np.lexsort((np.arange(n), version, key))
    last = _run_ends(key[order], version[order])  # the last record of each key and version
    final = np.flatnonzero(last)[np.cumsum(last) - last]  # for each position, where its run of equal values ends
    fate[order[deleted[order[final]]]] = DELETED
    current = order[last & ~deleted[order]]
    fate[current[_run_ends(key[current])]] = KEPT
    return fate


def _run_ends(*columns: np.ndarray) -> np.ndarray:
    """bool [n]: whether a run of equal values ends at this position."""
    differs = np.zeros(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        differs |= column[1:] != column[:-1]
    return np.concatenate([differs, np.ones(min(len(columns[0]), 1), bool)])


def _chronological(job: Job) -> list[tuple[int, int]]:
    """(source, group) of the files with revisions: by NLM's year and number if all names have them, else in corpus order.

    Each of these files is a group of its own.
    """
    files = [(s, g) for s, g in job.group_indices if job.revisions_file(s, g).exists()]
    numbers = [NUMBERED.search(job.input_files[s][job.groups[s][g][0]][0].path.name) for s, g in files]
    if all(numbers):
        number_of = {file: (int(n[1]), int(n[2])) for file, n in zip(files, numbers, strict=True) if n}
        files.sort(key=lambda file: (number_of[file], file))
    return files


def _save_decisions(job: Job, source: int, group: int, keep: np.ndarray) -> None:
    """Writes the mask of each document shard, as `global_dedup.decide` does."""
    sizes = load_json(job.read_record(source, group))["shard_documents"]
    for number, of_shard in enumerate(np.split(keep, np.cumsum(sizes)[:-1]) if sizes else []):
        save_array(job.decision_file(0, DocumentShard(source, group, number)), of_shard)
