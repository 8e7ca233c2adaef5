"""What a folder of packed rows says about itself: ``manifest.json``, beside the shards and their index."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from detour.errors import DataError

MANIFEST = "manifest.json"
SPECIAL_TOKENS_IN_TEXT = ("text", "special")  # what a "[MASK]" in a text may be encoded as
FORMAT = 1  # raised whenever rows written before can no longer be read as before

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class TokenizerInfo:
    """Which tokenizer made the ids. ``sha256`` is `tokenizer.fingerprint`, ``vocab_size`` the largest id + 1.

    ``separation`` is what stands around each document, such as "[CLS] document [SEP]"; empty in folders written before
    it was recorded.
    """

    name: str
    sha256: str
    vocab_size: int
    mask_id: int
    pad_id: int
    separation: str = ""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Totals over the folder. A document that was split counts once, its pieces each; padding is no token.

    ``literal_special_tokens`` is how often a text spells out a special token, such as "[MASK]"; 0 in folders written
    before it was counted.
    """

    documents: int
    empty_skipped: int
    documents_split: int
    pieces: int
    tokens: int
    rows: int
    literal_special_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that was read. ``license`` lists the licenses its documents state, or is None where none does."""

    path: str
    sha256: str
    bytes: int
    documents: int
    license: str | None


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One shard, as it must be found on the disk."""

    file: str
    bytes: int
    sha256: str
    xxh64: str


@dataclass(frozen=True, kw_only=True)
class ShardManifest:
    """The whole record. ``dtype`` is that of `input_ids`, ``seed`` the packing's, ``created_by`` the version."""

    format: int
    created_by: str
    seq_len: int
    dtype: str
    seed: int
    tokenizer: TokenizerInfo
    counts: Counts
    sources: tuple[Source, ...]
    shards: tuple[ShardFile, ...]

    @property
    def utilisation(self) -> float:
        """Share of the rows' positions that hold a token, in (0, 1]."""
        return self.counts.tokens / (self.counts.rows * self.seq_len)

    @property
    def rows_sha256(self) -> str:
        """Identity of the rows, wherever the folder and its sources lie: what a checkpoint remembers of its data."""
        rows = [self.seq_len, self.dtype, self.tokenizer.sha256, *(shard.sha256 for shard in self.shards)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ``manifest.json``; ``utilisation`` is added for human readers."""
        record = {**asdict(self), "utilisation": round(self.utilisation, 6)}
        (folder / MANIFEST).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ShardManifest:
        """Reads ``manifest.json``. Raises DataError if it is missing, damaged, or of another format."""
        path = folder / MANIFEST
        record = read_json(path)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else record
            raise DataError(f"{path}: format {found!r}, expected {FORMAT}; prepare the data again with this version")
        record.pop("utilisation", None)
        manifest = _build(cls, record, str(path))
        if min(sizes := (manifest.seq_len, manifest.counts.rows)) < 1:
            raise DataError(f"{path}: seq_len and counts.rows are {sizes}, expected numbers above 0")
        return manifest


def read_json(path: Path) -> Any:
    """The parsed file. Raises DataError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is this a finished folder of packed rows?") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error


def _build(cls: type[R], record: Any, where: str) -> R:
    """A dataclass from parsed JSON, exact in keys and types, so that a damaged file cannot pass for a good one."""
    expected = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    if isinstance(record, dict):  # what was added to the format later
        added = {f.name: f.default for f in fields(cls) if f.default is not MISSING}  # type: ignore[arg-type]
        record = {**added, **record}
    if not isinstance(record, dict) or set(record) != set(expected):
        found = sorted(record) if isinstance(record, dict) else record
        raise DataError(f"{where}: found {found}, expected the keys {sorted(expected)}")
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], record[name], f"{where}: {name}") for name in expected})


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _build(hint, value, where)
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) not in allowed:
        raise DataError(f"{where}: {value!r}, expected {' or '.join(getattr(t, '__name__', str(t)) for t in allowed)}")
    return value
