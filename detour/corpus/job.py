"""A preparation as its worker processes see it: the input files, the document shards, and the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from detour.corpus import steps
from detour.corpus.config import PrepareConfig
from detour.corpus.document_shards import load_json
from detour.corpus.readers import InputFile
from detour.corpus.steps import CorpusStep, Step


class DocumentShard(NamedTuple):
    """Consecutive documents of one input file, by their indices. Sorting shards puts them in corpus order."""

    source: int
    input_file: int
    number: int

    @property
    def stem(self) -> str:
        """Beginning of the names of its files in the work folder."""
        return f"s{self.source:03}-f{self.input_file:06}-d{self.number:06}"


@dataclass(frozen=True)
class Job:
    """A preparation.

    Attributes:
        config: Its configuration.
        input_files: For each source its files in order, as (file, whether it belongs to the validation split).
        work: Folder of the intermediate files.
    """

    config: PrepareConfig
    input_files: tuple[tuple[tuple[InputFile, bool], ...], ...]
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
    def file_indices(self) -> list[tuple[int, int]]:
        """(source, input file) for every input file, in corpus order."""
        return [(s, f) for s, files in enumerate(self.input_files) for f in range(len(files))]

    def applies(self, step: int, source: int) -> bool:
        """Whether a step is configured for a source."""
        named = self.config.steps[step].sources
        return not named or self.config.sources[source].name in named

    def file(self, pass_index: int, shard: DocumentShard, suffix: str) -> Path:
        """Path of a document shard's output of a pass."""
        return self.work / str(pass_index) / f"{shard.stem}.{suffix}"

    def read_record(self, source: int, input_file: int) -> Path:
        """Path of the record that `passes.read_input_file` writes after it has read a file."""
        return self.work / "0" / f"s{source:03}-f{input_file:06}.json"

    def revisions_file(self, source: int, input_file: int) -> Path:
        """Path of the list of records in a file that replace or delete others; only readers with revisions write one."""
        return self.work / "0" / f"s{source:03}-f{input_file:06}.revisions.npz"

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
        DocumentShard(source, input_file, number)
        for source, input_file in job.file_indices
        for number in range(len(load_json(job.read_record(source, input_file))["shard_documents"]))
    ]


@cache
def _step(kind: str, options: str) -> Step:
    return steps.build(kind, json.loads(options))
