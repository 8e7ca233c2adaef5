"""Global deduplication, between two passes: the corpus steps decide over the signatures of all documents, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from detour.corpus.document_shards import append_jsonl, load_json, save_array
from detour.corpus.job import DocumentShard, Job
from detour.corpus.steps import CorpusStep
from detour.corpus.steps.base import Signatures
from detour.files import atomic_write, write_json


def decide(job: Job, pass_index: int, shards: list[DocumentShard]) -> None:
    """Writes which documents of each shard are kept, the counts of each step, and the list of removals with their reasons.

    Deterministic in the order of the shards. Memory: about 100 bytes per document, plus the names of documents that
    others duplicate.
    """
    sizes_of = [load_json(job.file(pass_index, shard, "json"))["documents"] for shard in shards]
    characters = _characters(job, pass_index, shards, sizes_of)
    source_of = np.repeat([shard.source for shard in shards], sizes_of)
    alive = np.ones(sum(sizes_of), bool)
    counts = []
    for i in job.passes[pass_index - 1]:
        step = job.steps[i]
        if not isinstance(step, CorpusStep):
            continue
        files = [job.file(pass_index, shard, f"{i}.npy") for shard, n in zip(shards, sizes_of, strict=True) if n]
        in_scope = np.isin(source_of, [s for s in range(len(job.input_files)) if job.applies(i, s)])
        duplicate_of = step.decide(Signatures(files, [n for n in sizes_of if n]), alive & in_scope)
        removed = duplicate_of >= 0
        counts += _counts(i, source_of, characters, alive & in_scope, removed)
        with atomic_write(job.work / "removed" / f"{i:02}.jsonl") as file:
            append_jsonl(file, _removals(job, pass_index, shards, sizes_of, duplicate_of))
        alive &= ~removed
    of_shards = np.split(alive, np.cumsum(sizes_of)[:-1]) if shards else []
    for shard, keep in zip(shards, of_shards, strict=True):
        save_array(job.decision_file(pass_index, shard), keep)
    write_json(job.work / str(pass_index) / "decision.json", {"steps": counts})


def _characters(job: Job, pass_index: int, shards: list[DocumentShard], sizes_of: list[int]) -> np.ndarray:
    """int64 [documents]: characters of each document."""
    sizes = [np.load(job.file(pass_index, shard, "sizes.npy")) for shard in shards]
    assert [len(size) for size in sizes] == sizes_of
    return np.concatenate([np.empty(0, np.int64), *sizes])


def _counts(
    step: int, source_of: np.ndarray, characters: np.ndarray, before: np.ndarray, removed: np.ndarray
) -> list[dict[str, Any]]:
    """For each source that the step works on, its counts in the form of `StepReport`."""
    counts = []
    for source in np.unique(source_of[before]).tolist():
        of_source = before & (source_of == source)
        documents, dropped = int(of_source.sum()), int((of_source & removed).sum())
        counts.append({
            "step": step, "source": source, "documents_in": documents, "documents_out": documents - dropped,
            "characters_in": int(characters[of_source].sum()),
            "characters_out": int(characters[of_source & ~removed].sum()),
            "changed": 0, "dropped": {"repeats another document": dropped} if dropped else {},
        })  # fmt: skip
    return counts


def _removals(
    job: Job, pass_index: int, shards: list[DocumentShard], sizes_of: list[int], duplicate_of: np.ndarray
) -> Iterator[dict[str, Any]]:
    starts = np.concatenate([[0], np.cumsum(sizes_of)]).astype(np.int64)

    def names_of(indices: np.ndarray) -> Iterator[tuple[int, str, str]]:
        shard_of = np.searchsorted(starts, indices, side="right") - 1
        for s, group in groupby(zip(indices.tolist(), shard_of.tolist(), strict=True), key=lambda pair: pair[1]):
            names = load_json(job.file(pass_index, shards[s], "names"))
            for index, _ in group:
                yield index, job.config.sources[shards[s].source].name, names[index - starts[s]]

    removed = np.flatnonzero(duplicate_of >= 0)
    kept = {index: {"source": source, "id": name} for index, source, name in names_of(np.unique(duplicate_of[removed]))}
    for index, source, name in names_of(removed):
        yield {"source": source, "id": name, "repeats": kept[int(duplicate_of[index])]}
