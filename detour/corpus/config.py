"""Everything that a preparation's YAML may say, and what it must satisfy beyond its types."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from detour.config.load import read_into
from detour.config.schema import MISSING

# ruff: noqa: UP045
from detour.corpus import readers, steps
from detour.data.manifest import SPECIAL_TOKENS_IN_TEXT
from detour.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class ColumnsConfig:
    """Which column holds what. A document without the id column is named after its file and line.

    Attributes:
        text: The text. A record without it is reported.
        more_text: Columns that follow it as paragraphs, where they hold any: the answers to instructions.
        id: The document's name, from which its split is drawn.
        language: Its language.
        license: Its license; null takes "license" or "license", whichever is there.
        metadata: Further columns that steps may look at.
    """

    text: str = "text"
    more_text: list[str] = field(default_factory=list)
    id: str = "id"
    language: str = "language"
    license: Optional[str] = None
    metadata: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One corpus; it becomes one folder of rows.

    Attributes:
        name: The folder's name.
        kind: A name in `detour.corpus.readers`: "jsonl", "csv", "parquet", "text", "brat", "pubmed", "jats", "cord19",
            "pubtator", "huggingface".
        paths: Files, folders, or patterns with "*"; dataset names for "huggingface".
        validation_paths: Held out as they are; the source is then not split.
        columns: Which column holds what.
        language: Of every document that does not state its own.
        license: Likewise.
        proportion: Share of the training rows, for the streams that are written; give it for all sources or for none.
        options: The kind's own.
    """

    name: str = MISSING
    kind: str = MISSING
    paths: list[str] = MISSING
    validation_paths: list[str] = field(default_factory=list)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    language: Optional[str] = None
    license: Optional[str] = None
    proportion: Optional[float] = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """One step.

    Attributes:
        kind: A name in `detour.corpus.steps`.
        sources: The sources it works on; empty for all.
        options: The step's own.
    """

    kind: str = MISSING
    sources: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """A whole preparation.

    Attributes:
        out: The folder to write: train/SOURCE, validation/SOURCE, tokenizer, manifest.json.
        tokenizer: Name on the hub, or a folder; must be the model's.
        seq_len: Length of a row.
        seed: Of the split and of the order of documents and rows.
        processes: Worker processes; the result does not depend on it.
        special_tokens_in_text: What a special token that a text spells out ("[MASK]") becomes: "text", so that only the
            template sets special ids, or "special".
        strict: Stop at the first line, row or file that cannot be used, in place of counting it.
        validation_fraction: Share of the documents held out of each source that names no validation_paths.
        part_megabytes: Text that a worker takes on at a time. Part of the result's bookkeeping, not of its rows.
        sources: The corpora.
        steps: What happens to the documents, in this order.
    """

    out: str = MISSING
    tokenizer: str = MISSING
    seq_len: int = MISSING
    seed: int = 0
    processes: int = 1
    special_tokens_in_text: str = "text"
    strict: bool = False
    validation_fraction: float = 0.0
    part_megabytes: int = 16
    sources: list[SourceConfig] = field(default_factory=list)
    steps: list[StepConfig] = field(default_factory=list)


def load(path: str | Path, overrides: Sequence[str] = ()) -> PrepareConfig:
    """Reads a preparation's YAML; ``extends`` and overrides as `detour.config.load.load`.

    Raises:
        ConfigError: Listing every problem, each with its full key.
    """
    config = read_into(PrepareConfig, path, overrides)
    if problems := list(_problems(config)):
        raise ConfigError(f"{path}: " + "\n  - ".join([f"{len(problems)} problem(s)", *problems]))
    return config


def _problems(config: PrepareConfig) -> Iterator[str]:
    for key, low in {"seq_len": 8, "processes": 1, "part_megabytes": 1}.items():
        if getattr(config, key) < low:
            yield f"{key}: {getattr(config, key)}, expected at least {low}"
    if config.special_tokens_in_text not in SPECIAL_TOKENS_IN_TEXT:
        expected = " or ".join(SPECIAL_TOKENS_IN_TEXT)
        yield f"special_tokens_in_text: {config.special_tokens_in_text!r}, expected {expected}"
    if not 0 <= config.validation_fraction < 1:
        yield f"validation_fraction: {config.validation_fraction}, expected a share in [0, 1)"
    if not config.sources:
        yield "sources: empty, expected at least one"
    names = Counter(source.name for source in config.sources)
    for i, source in enumerate(config.sources):
        if not NAME.fullmatch(source.name):
            yield f"sources[{i}].name: {source.name!r}, expected letters, digits, '_', '-' and '.'"
        if names[source.name] > 1:
            yield f"sources[{i}].name: {source.name!r} stands {names[source.name]} times"
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
