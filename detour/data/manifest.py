"""``manifest.json`` of a folder of packed rows: tokenizer, counts, source files, and hashes of the shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from detour.errors import DataError
from detour.files import write_json

MANIFEST = "manifest.json"
PREPARED = "prepared.json"  # record of a preparation, beside its train and validation folders
SPLITS = ("train", "validation")
SPECIAL_TOKENS_IN_TEXT = ("text", "special")  # how to encode a "[MASK]" that a text spells out
FORMAT = 2  # of manifest.json; incremented when older files can no longer be read

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class TokenizerInfo:
    """The tokenizer that made the ids.

    Attributes:
        name: Name on the hub, or last part of the folder.
        sha256: See `detour.data.tokenizer.tokenizer_sha256`.
        vocab_size: Largest id + 1.
        mask_id: Id of the mask token.
        pad_id: Id of the padding token.
        separation: Template around each document, such as "[CLS] document [SEP]"; empty if not recorded.
    """

    name: str
    sha256: str
    vocab_size: int
    mask_id: int
    pad_id: int
    separation: str = ""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Totals over the folder.

    Attributes:
        documents: Documents; a document that was split counts once.
        empty_skipped: Documents without text or tokens, which are not in the rows.
        documents_split: Documents that were split.
        pieces: Documents and pieces of split documents.
        tokens: Tokens without padding.
        rows: Rows.
        literal_special_tokens: Special tokens spelled out in texts, such as "[MASK]"; 0 if not counted.
        longest: Tokens of the longest document or piece; 0 if not recorded.
    """

    documents: int
    empty_skipped: int
    documents_split: int
    pieces: int
    tokens: int
    rows: int
    literal_special_tokens: int = 0
    longest: int = 0


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """An input file. ``license`` lists the licenses that its documents state; None if none does."""

    path: str
    sha256: str
    bytes: int
    documents: int
    license: str | None


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """Name, size and hashes of a shard."""

    file: str
    bytes: int
    sha256: str
    xxh64: str


@dataclass(frozen=True, kw_only=True)
class ShardManifest:
    """The content of ``manifest.json``.

    Attributes:
        format: FORMAT.
        created_by: Name and version of the program.
        seq_len: Tokens per row, T.
        dtype: Type of `input_ids`: uint16 or uint32.
        seed: Seed of the packing.
        tokenizer: The tokenizer.
        counts: Totals.
        sources: The input files.
        shards: The shards, in order.
        classes: Names of the classes of the documents' spans; empty for rows of plain text.
    """

    format: int
    created_by: str
    seq_len: int
    dtype: str
    seed: int
    tokenizer: TokenizerInfo
    counts: Counts
    sources: tuple[SourceFile, ...]
    shards: tuple[ShardFile, ...]
    classes: tuple[str, ...] = ()

    @property
    def packing_efficiency(self) -> float:
        """Fraction of positions that hold a token and not padding, in (0, 1]."""
        return self.counts.tokens / (self.counts.rows * self.seq_len)

    @property
    def longest_document(self) -> int:
        """Upper bound on the tokens of a document or piece in a row."""
        return self.counts.longest or self.seq_len

    @property
    def rows_sha256(self) -> str:
        """SHA-256 that identifies the rows, independent of paths and sources; recorded in checkpoints."""
        rows = [
            self.seq_len,
            self.dtype,
            self.tokenizer.sha256,
            *(shard.sha256 for shard in self.shards),
            *self.classes,
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ``manifest.json``, with ``packing_efficiency`` for human readers."""
        write_json(folder / MANIFEST, {**asdict(self), "packing_efficiency": round(self.packing_efficiency, 6)})

    @classmethod
    def load(cls, folder: Path) -> ShardManifest:
        """Reads ``manifest.json``. Raises DataError if it is missing, damaged, or has another format."""
        path = folder / MANIFEST
        record = read_json(path)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else record
            raise DataError(f"{path}: format {found!r}, expected {FORMAT}; prepare the data again with this version")
        record.pop("packing_efficiency", None)
        manifest = _build(cls, record, str(path))
        if min(sizes := (manifest.seq_len, manifest.counts.rows)) < 1:
            raise DataError(f"{path}: seq_len and counts.rows are {sizes}, expected numbers above 0")
        return manifest


def read_json(path: Path) -> Any:
    """Parses a JSON file. Raises DataError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is this a finished folder of packed rows?") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error


def _build(cls: type[R], record: Any, where: str) -> R:
    """Builds a dataclass from parsed JSON. Keys and types must match exactly, so that damage is detected."""
    expected = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    if isinstance(record, dict):  # fields with defaults may be absent
        added = {f.name: f.default for f in fields(cls) if f.default is not MISSING}  # type: ignore[arg-type]
        record = {**added, **record}
    if not isinstance(record, dict) or set(record) != set(expected):
        found = sorted(record) if isinstance(record, dict) else record
        raise DataError(f"{where}: found {found}, expected the keys {sorted(expected)}")
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], record[name], f"{where}: {name}") for name in expected})


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_value(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _build(hint, value, where)
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) not in allowed:
        raise DataError(f"{where}: {value!r}, expected {' or '.join(getattr(t, '__name__', str(t)) for t in allowed)}")
    return value
