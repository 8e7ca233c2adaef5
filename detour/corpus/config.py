"""The schema of a preparation's YAML, and the checks beyond types."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.config.load import read_into
from detour.corpus import readers, steps
from detour.data.manifest import SPECIAL_TOKENS_IN_TEXT
from detour.data.packing import LONGEST_ROW, SHORTEST_ROW
from detour.errors import ConfigError
from detour.jobs import ExecutorConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class ColumnsConfig:
    """Names of the columns to read. A document without an id is named after its file and line.

    Attributes:
        text: The text. Records without it are counted as skipped.
        more_text: Columns appended to the text as paragraphs where they are not empty, such as the answers to instructions.
        id: The document id. The split is chosen by hash(id, seed).
        language: The language.
        license: The license; null reads "license" or, where that is absent, "licence".
        metadata: Further columns for steps to use.
    """

    text: str = "text"
    more_text: list[str] = field(default_factory=list)
    id: str = "id"
    language: str = "language"
    license: str | None = None
    metadata: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One corpus. It becomes one folder of packed rows per split.

    Attributes:
        name: Name of its folders.
        kind: The reader, a name registered in `detour.corpus.readers`: "jsonl", "csv", "parquet", "text", "brat",
            "pubmed", "jats", "cord19", "pubtator", "huggingface".
        paths: Files, folders, or patterns with "*"; dataset names for "huggingface".
        validation_paths: Files of the validation split. With them, no document of ``paths`` is held out.
        columns: Names of the columns to read.
        language: Language of the documents that state none.
        license: License of the documents that state none.
        proportion: Fraction of the training rows, written to ``streams.yaml``. Set it for all sources or for none.
        options: Options of the reader.
    """

    name: str
    kind: str
    paths: list[str]
    validation_paths: list[str] = field(default_factory=list)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    language: str | None = None
    license: str | None = None
    proportion: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """One processing step.

    Attributes:
        kind: A name registered in `detour.corpus.steps`.
        sources: Sources that the step applies to; empty for all.
        options: Options of the step.
    """

    kind: str
    sources: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Configuration of `detour data prepare`.

    Attributes:
        out: Output folder: train/SOURCE, validation/SOURCE, tokenizer, streams.yaml, prepared.json.
        tokenizer: Name on the hub, or a folder; must be the model's.
        seq_len: Tokens per row.
        max_document_tokens: Most tokens of a document; a longer one is split. Must not exceed what the model's positions
            allow (`detour.models.families`); null for ``seq_len``.
        seed: Seeds the split and the order of documents and rows.
        processes: Worker processes, of each job if there is an executor. The result does not depend on their number.
        executor: Where jobs run, each of which does a part of a stage; null for no jobs. The result does not depend on it.
        special_tokens_in_text: How to encode a special token that a text spells out, such as "[MASK]": as "text", so that
            special ids come from the template only, or as "special".
        strict: Stop at the first line, row or file that cannot be used, instead of counting it.
        validation_fraction: Fraction of documents in the validation split, for sources without validation_paths.
        shard_megabytes: Text per document shard, the unit of work of a process, in MiB. Does not change the rows.
        sources: The corpora.
        steps: The processing steps, in order.
    """

    out: str
    tokenizer: str
    seq_len: int
    max_document_tokens: int | None = None
    seed: int = 0
    processes: int = 1
    executor: ExecutorConfig | None = None
    special_tokens_in_text: str = "text"
    strict: bool = False
    validation_fraction: float = 0.0
    shard_megabytes: int = 16
    sources: list[SourceConfig] = field(default_factory=list)
    steps: list[StepConfig] = field(default_factory=list)

    @property
    def longest_document(self) -> int:
        """Most tokens of a document or piece in a row."""
        return self.seq_len if self.max_document_tokens is None else self.max_document_tokens


def load(path: str | Path, overrides: Sequence[str] = ()) -> PrepareConfig:
    """Reads a preparation's YAML. ``extends`` and overrides work as in `detour.config.load.load`.

    Raises:
        ConfigError: Lists every problem with its full key.
    """
    config = read_into(PrepareConfig, path, overrides)
    if problems := list(_problems(config)):
        raise ConfigError(f"{path}: " + "\n  - ".join([f"{len(problems)} problem(s)", *problems]))
    return config


def _problems(config: PrepareConfig) -> Iterator[str]:
    if not SHORTEST_ROW <= config.seq_len <= LONGEST_ROW:
        yield f"seq_len: {config.seq_len}, expected {SHORTEST_ROW} to {LONGEST_ROW:,}"
    for key, low in {"processes": 1, "shard_megabytes": 1}.items():
        if getattr(config, key) < low:
            yield f"{key}: {getattr(config, key)}, expected at least {low}"
    if not 8 <= config.longest_document <= config.seq_len:
        yield f"max_document_tokens: {config.max_document_tokens}, expected 8 to seq_len, {config.seq_len}"
    if config.special_tokens_in_text not in SPECIAL_TOKENS_IN_TEXT:
        expected = " or ".join(SPECIAL_TOKENS_IN_TEXT)
        yield f"special_tokens_in_text: {config.special_tokens_in_text!r}, expected {expected}"
    if not 0 <= config.validation_fraction < 1:
        yield f"validation_fraction: {config.validation_fraction}, expected a fraction in [0, 1)"
    if not config.sources:
        yield "sources: empty, expected at least one"
    names = Counter(source.name for source in config.sources)
    for i, source in enumerate(config.sources):
        if not NAME.fullmatch(source.name):
            yield f"sources[{i}].name: {source.name!r}, expected letters, digits, '_', '-' and '.'"
        if names[source.name] > 1:
            yield f"sources[{i}].name: {source.name!r} is used {names[source.name]} times"
        if not source.paths:
            yield f"sources[{i}].paths: empty, expected at least one"
        if source.proportion is not None and not 0 < source.proportion < float("inf"):
            yield f"sources[{i}].proportion: {source.proportion}, expected a number above 0"
        yield from _refusal(f"sources[{i}]", readers.build, source.kind, source.options)
    if len({source.proportion is None for source in config.sources}) > 1:
        yield "sources: proportion is given for some and not for others"
    for i, step in enumerate(config.steps):
        for unknown in set(step.sources) - set(names):
            yield f"steps[{i}].sources: no source '{unknown}'; known: {', '.join(names)}"
        yield from _refusal(f"steps[{i}]", steps.build, step.kind, step.options)


def _refusal(key: str, build: Any, kind: str, options: dict[str, Any]) -> Iterator[str]:
    try:
        build(kind, options)
    except ConfigError as error:
        yield f"{key}: {error}"
