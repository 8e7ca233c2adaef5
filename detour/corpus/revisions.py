"""Records that later records replace or delete, over all files of all sources: PubMed's baseline and its updates."""

from __future__ import annotations

import re

import numpy as np

from detour.corpus.document_shards import load_json, save_json, whole_file
from detour.corpus.passes import Job, Part

NUMBERED = re.compile(r"pubmed(\d+)n(\d+)", re.IGNORECASE)
REVISED, DELETED = "revised by a later record", "deleted by a later update"


def apply_revisions(job: Job) -> None:
    """Marks the documents that a later record replaces or deletes, and counts them in ``0/revisions.json``.

    A record is what stands under one key and version; of a record the last one counts, of a key its highest version
    that is not deleted. Deterministic in the names and the order of files. Memory: about 50 bytes a record.
    """
    done = job.work / "0" / "revisions.json"
    if done.exists():
        return
    units = _in_time(job)
    loaded = [dict(np.load(job.revisions_file(s, u))) for s, u in units]
    counts = [len(unit["key"]) for unit in loaded]
    key, version, deleted = (
        np.concatenate([np.empty(0, np.int64), *[unit[name] for unit in loaded]])
        for name in ("key", "version", "deleted")
    )
    fate = np.split(_fates(key, version, deleted.astype(bool)), np.cumsum(counts)[:-1]) if loaded else []
    told = {}
    for (s, u), unit, fates in zip(units, loaded, fate, strict=True):
        of_document = np.repeat(fates, np.diff(unit["first"]))  # documents before the first record belong to none
        of_document = np.concatenate([np.zeros(unit["first"][0], np.int8), of_document])
        _mark(job, s, u, of_document == 0)
        told[job.unit_file(s, u).stem] = {
            reason: int((of_document == sign).sum()) for sign, reason in ((1, REVISED), (2, DELETED))
        }
    save_json(done, told)  # last: its presence says that all is marked


def revised(job: Job, source: int, unit: int) -> dict[str, int]:
    """How many documents of a unit `apply_revisions` removed, by reason."""
    told = load_json(job.work / "0" / "revisions.json").get(job.unit_file(source, unit).stem, {})
    return {reason: n for reason, n in told.items() if n}


def _fates(key: np.ndarray, version: np.ndarray, deleted: np.ndarray) -> np.ndarray:
    """int8 [n]: 0 for a record that stays, 1 for one that another replaces, 2 for one that is deleted.

    Args:
        key: int64 [n], in the order of time.
        version: int64 [n].
        deleted: bool [n]: whether this is no record but the deletion of one.
    """
    n = len(key)
    fate = np.ones(n, np.int8)
    order = np.lexsort((np.arange(n), version, key))
    last = _ends(key[order], version[order])  # of each key and version
    final = np.flatnonzero(last)[np.cumsum(last) - last]  # where in the order the end of each one's stretch lies
    fate[order[deleted[order[final]]]] = 2
    standing = order[last & ~deleted[order]]
    fate[standing[_ends(key[standing])]] = 0
    return fate


def _ends(*columns: np.ndarray) -> np.ndarray:
    """bool [n]: where a stretch of equal values ends."""
    differs = np.zeros(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        differs |= column[1:] != column[:-1]
    return np.concatenate([differs, np.ones(min(len(columns[0]), 1), bool)])


def _in_time(job: Job) -> list[tuple[int, int]]:
    """(source, unit), the earliest first: by NLM's year and number if all names have them, else as they are named."""
    units = [(s, u) for s, units in enumerate(job.units) for u in range(len(units))]
    units = [(s, u) for s, u in units if job.revisions_file(s, u).exists()]
    numbers = [NUMBERED.search(job.units[s][u][0].path.name) for s, u in units]
    if all(numbers):
        by = {unit: (int(n[1]), int(n[2])) for unit, n in zip(units, numbers, strict=True) if n}
        units.sort(key=lambda unit: (by[unit], unit))
    return units


def _mark(job: Job, source: int, unit: int, keep: np.ndarray) -> None:
    """A decision for each part, as `barrier.decide` leaves them."""
    sizes = load_json(job.unit_file(source, unit))["part_documents"]
    for number, these in enumerate(np.split(keep, np.cumsum(sizes)[:-1]) if sizes else []):
        with whole_file(job.decision_file(0, Part(source, unit, number))) as file:
            np.save(file, these)
