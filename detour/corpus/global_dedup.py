"""Between two passes: the steps that compare each document with all others decide, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from detour.corpus.document_shards import append_jsonl, load_json, save_json, whole_file
from detour.corpus.passes import Job, Part
from detour.corpus.steps import CorpusStep
from detour.corpus.steps.base import Signatures


def decide(job: Job, pass_index: int, parts: list[Part]) -> None:
    """Writes which documents of each part stay, what each step counted, and the list of what it removed and why.

    Deterministic in the order of the parts alone. Memory: about 100 bytes a document; names only of those that others
    repeat.
    """
    counts = [load_json(job.file(pass_index, part, "json"))["documents"] for part in parts]
    sizes = _joined(job, pass_index, parts, counts)
    source_of = np.repeat([part.source for part in parts], counts)
    alive = np.ones(sum(counts), bool)
    told = []
    for i in job.passes[pass_index - 1]:
        step = job.steps[i]
        if not isinstance(step, CorpusStep):
            continue
        files = [job.file(pass_index, part, f"{i}.npy") for part, n in zip(parts, counts, strict=True) if n]
        concerned = np.isin(source_of, [s for s in range(len(job.units)) if job.applies(i, s)])
        repeats = step.decide(Signatures(files, [n for n in counts if n]), alive & concerned)
        gone = repeats >= 0
        told += _told(i, source_of, sizes, alive & concerned, gone)
        with whole_file(job.work / "removed" / f"{i:02}.jsonl") as file:
            append_jsonl(file, _removals(job, pass_index, parts, counts, repeats))
        alive &= ~gone
    for part, keep in zip(parts, np.split(alive, np.cumsum(counts)[:-1]), strict=True):
        with whole_file(job.decision_file(pass_index, part)) as file:
            np.save(file, keep)
    save_json(job.work / str(pass_index) / "decision.json", {"steps": told})


def _joined(job: Job, pass_index: int, parts: list[Part], counts: list[int]) -> np.ndarray:
    """int64 [n]: characters of each document."""
    sizes = [np.load(job.file(pass_index, part, "sizes.npy")) for part in parts]
    assert [len(size) for size in sizes] == counts
    return np.concatenate([np.empty(0, np.int64), *sizes])


def _told(
    step: int, source_of: np.ndarray, sizes: np.ndarray, before: np.ndarray, gone: np.ndarray
) -> list[dict[str, Any]]:
    """Counts of a step for each source that it worked on, as `StepReport` has them."""
    told = []
    for source in np.unique(source_of[before]).tolist():
        mine = before & (source_of == source)
        removed = int((mine & gone).sum())
        told.append({
            "step": step, "source": source, "documents_in": int(mine.sum()), "documents_out": int(mine.sum()) - removed,
            "characters_in": int(sizes[mine].sum()), "characters_out": int(sizes[mine & ~gone].sum()),
            "changed": 0, "dropped": {"repeats another document": removed} if removed else {},
        })  # fmt: skip
    return told


def _removals(
    job: Job, pass_index: int, parts: list[Part], counts: list[int], repeats: np.ndarray
) -> Iterator[dict[str, Any]]:
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def names_of(indices: np.ndarray) -> Iterator[tuple[int, str, str]]:
        part_of = np.searchsorted(starts, indices, side="right") - 1
        for p, group in groupby(zip(indices.tolist(), part_of.tolist(), strict=True), key=lambda pair: pair[1]):
            names = load_json(job.file(pass_index, parts[p], "names"))
            for index, _ in group:
                yield index, job.config.sources[parts[p].source].name, names[index - starts[p]]

    gone = np.flatnonzero(repeats >= 0)
    kept = {index: {"source": source, "id": name} for index, source, name in names_of(np.unique(repeats[gone]))}
    for index, source, name in names_of(gone):
        yield {"source": source, "id": name, "repeats": kept[int(repeats[index])]}
