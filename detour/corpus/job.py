"""A preparation as its worker processes see it: the input files, the document shards, and the work folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from detour.corpus import steps
from detour.corpus.config import PrepareConfig
from detour.corpus.document_shards import load_json
from detour.corpus.readers import InputFile
from detour.corpus.steps import CorpusStep, Step


class DocumentShard(NamedTuple):
    """Consecutive documents of one group of input files, by their indices. Sorting shards puts them in corpus order."""

    source: int
    group: int
    number: int

    @property
    def stem(self) -> str:
        """Beginning of the names of its files in the work folder."""
        return f"s{self.source:03}-g{self.group:06}-d{self.number:06}"


@dataclass(frozen=True)
class Job:
    """A preparation.

    Attributes:
        config: Its configuration.
        input_files: For each source its files in order, as (file, whether it belongs to the validation split).
        groups: For each source the ranges of input files that are read together, see `group_files`.
        work: Folder of the intermediate files.
    """

    config: PrepareConfig
    input_files: tuple[tuple[tuple[InputFile, bool], ...], ...]
    groups: tuple[tuple[range, ...], ...]
    work: Path

    @property
    def passes(self) -> list[range]:
        """Indices of the steps of pass 1, 2, ...; each pass but the last ends with its corpus steps."""
        cuts, built = [0], self.steps
        for i, step in enumerate(built):
            following = built[i + 1] if i + 1 < len(built) else None
            if isinstance(step, CorpusStep) and not isinstance(following, CorpusStep):
                cuts.append(i + 1)
        return [range(a, b) for a, b in zip(cuts, [*cuts[1:], len(built)], strict=True)]

    @property
    def steps(self) -> list[Step]:
        """The configured steps, built once per process."""
        return [_step(step.kind, json.dumps(step.options, sort_keys=True)) for step in self.config.steps]

    @property
    def group_indices(self) -> list[tuple[int, int]]:
        """(source, group) for every group of input files, in corpus order."""
        return [(s, g) for s, groups in enumerate(self.groups) for g in range(len(groups))]

    def applies(self, step: int, source: int) -> bool:
        """Whether a step is configured for a source."""
        named = self.config.steps[step].sources
        return not named or self.config.sources[source].name in named

    def file(self, pass_index: int, shard: DocumentShard, suffix: str) -> Path:
        """Path of a document shard's output of a pass."""
        return self.work / str(pass_index) / f"{shard.stem}.{suffix}"

    def read_record(self, source: int, group: int) -> Path:
        """Path of the record that `passes.read_group` writes after it has read a group of files."""
        return self.work / "0" / f"s{source:03}-g{group:06}.json"

    def files_read(self, source: int) -> list[dict[str, Any]]:
        """What was read of each input file of a source, in order. Pass 0 must be complete."""
        return [
            file for g in range(len(self.groups[source])) for file in load_json(self.read_record(source, g))["files"]
        ]

    def revisions_file(self, source: int, group: int) -> Path:
        """Path of the list of records in a file that replace or delete others; only readers with revisions write one.
        Their files are groups of one.
        """
        return self.work / "0" / f"s{source:03}-g{group:06}.revisions.npz"

    def decision_file(self, pass_index: int, shard: DocumentShard) -> Path:
        """Path of the mask, bool [documents], of the documents that go on to the next pass."""
        return self.work / str(pass_index) / "decision" / f"{shard.stem}.npy"

    def step_folder(self, step: int) -> Path:
        """Folder of the files that `Step.prepare` writes."""
        return self.work / f"step-{step:02}"

    def is_corpus_step(self, step: int) -> bool:
        """Whether a step compares documents across the corpus."""
        return isinstance(self.steps[step], CorpusStep)


def document_shards_of(job: Job) -> list[DocumentShard]:
    """All document shards in corpus order. Pass 0 must be complete."""
    return [
        DocumentShard(source, group, number)
        for source, group in job.group_indices
        for number in range(len(load_json(job.read_record(source, group))["shard_documents"]))
    ]


def group_files(files: Sequence[tuple[InputFile, bool]], *, most_bytes: int, alone: bool) -> tuple[range, ...]:
    """Consecutive input files that are read together, since each document shard costs several files in the work folder:
    thousands of small files would take minutes.

    Args:
        files: The input files of a source, with whether each belongs to the validation split. A group is of one split.
        most_bytes: The most bytes on disk of a group of more than one file.
        alone: Whether every file is a group of its own.
    """
    starts, size = list[int](), 0
    for f, (file, in_validation) in enumerate(files):
        bytes_on_disk = file.path.stat().st_size if file.path.is_file() else most_bytes
        size += bytes_on_disk
        if alone or not starts or size > most_bytes or in_validation != files[f - 1][1]:
            starts.append(f)
            size = bytes_on_disk
    return tuple(range(a, b) for a, b in zip(starts, [*starts[1:], len(files)], strict=True))


@cache
def _step(kind: str, options: str) -> Step:
    return steps.build(kind, json.loads(options))
