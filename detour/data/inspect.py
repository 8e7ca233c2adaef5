"""Statistics of packed rows for `detour data inspect` and `verify`: counts, document lengths, packing efficiency, samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from detour.data.manifest import MANIFEST, PREPARED, ShardManifest, read_json
from detour.data.packing import pack_rows, split_document
from detour.data.shards import INDEX, LENGTHS
from detour.data.verify import check_index, check_shard, verify_rows
from detour.errors import DataError
from detour.files import sha256_of

SEQ_LENS = (512, 1024, 8192)
SIMULATED_TOKENS = 1 << 26  # enough for four decimals of the packing efficiency
SAMPLE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class RowFolder:
    """A folder of packed rows and its length histogram.

    Attributes:
        name: Path relative to the inspected folder.
        path: Absolute or relative path.
        manifest: Its manifest.
        lengths: Number of tokens -> number of documents; of pieces if the folder does not record document lengths.
        unsplit: Whether ``lengths`` are of documents before splitting.
    """

    name: str
    path: Path
    manifest: ShardManifest
    lengths: Mapping[int, int]
    unsplit: bool


def find_folders(root: Path) -> list[RowFolder]:
    """The folders of packed rows at or under ``root``, checked without hashing.

    Raises:
        DataError: There is none, or one is damaged.
    """
    folders = []
    for path in row_folders(root):
        manifest = verify_rows(path, hashes=False)
        recorded = (path / LENGTHS).exists()
        lengths = _recorded_lengths(path, manifest) if recorded else _piece_lengths(path)
        folders.append(
            RowFolder(name=name_of(path, root), path=path, manifest=manifest, lengths=lengths, unsplit=recorded)
        )
    return folders


def row_folders(root: Path) -> list[Path]:
    """Paths of the folders of packed rows at or under ``root``, unchecked. Raises DataError if there is none."""
    paths = sorted(path.parent for path in root.rglob(MANIFEST) if (path.parent / INDEX).exists())
    if not paths:
        raise DataError(f"{root}: no folder of packed rows found, expected {MANIFEST} and {INDEX}")
    return paths


def name_of(path: Path, root: Path) -> str:
    """A folder's path relative to ``root``, or the name of ``root`` itself."""
    return path.relative_to(root).as_posix() if path != root else root.name


def check_folder(path: Path) -> tuple[int, list[str]]:
    """Compares every shard with the manifest, by size, xxh64 and SHA-256.

    Returns:
        The number of shards, and one line for each that differs.

    Raises:
        DataError: Manifest or index is damaged.

    Cost: reads all shards twice.
    """
    manifest = ShardManifest.load(path)
    problems = []
    for shard, samples in zip(manifest.shards, check_index(path, manifest), strict=True):
        try:
            check_shard(path, shard, samples, hashes=True)
            if (found := sha256_of(path / shard.file)) != shard.sha256:
                problems.append(f"{path / shard.file}: sha256 {found}, expected {shard.sha256}")
        except DataError as problem:
            problems.append(str(problem))
    return len(manifest.shards), problems


def missing_or_changed_folders(root: Path) -> list[str]:
    """One line for each folder listed in ``prepared.json`` of ``root`` that is missing or contains other rows."""
    if not (root / PREPARED).is_file():
        return []
    problems = []
    for name, source in read_json(root / PREPARED)["sources"].items():
        for split, folder in source["folders"].items():
            try:
                found = ShardManifest.load(root / split / name).rows_sha256
            except DataError as problem:
                problems.append(str(problem))
            else:
                if found != folder["rows_sha256"]:
                    problems.append(f"{root / split / name}: rows differ from those in {PREPARED}")
    return problems


def packing_efficiency(lengths: Mapping[int, int], seq_len: int) -> float:
    """Packing efficiency of these documents at a row length, simulated; of a large corpus on a random sample.

    Args:
        lengths: Number of tokens -> number of documents.
        seq_len: Tokens per row.

    Cost: seconds.
    """
    total = sum(length * n for length, n in lengths.items())
    rng = Random(0)
    documents = list(lengths)
    if total <= SIMULATED_TOKENS:
        drawn = [length for length in documents for _ in range(lengths[length])]
    else:
        drawn = rng.choices(
            documents, [lengths[d] for d in documents], k=SIMULATED_TOKENS * sum(lengths.values()) // total
        )
    rng.shuffle(drawn)
    pieces = [range(n) for length in drawn for n in split_document(length, seq_len)]
    rows = sum(1 for _ in pack_rows(pieces, seq_len=seq_len, seed=0))
    return sum(drawn) / (rows * seq_len)


def quantiles(lengths: Mapping[int, int], fractions: tuple[float, ...]) -> list[int]:
    """Quantiles of the document length, in tokens."""
    ordered = sorted(lengths)
    ends = np.cumsum([lengths[n] for n in ordered])
    return [ordered[min(int(np.searchsorted(ends, fraction * ends[-1])), len(ordered) - 1)] for fraction in fractions]


def plot_lengths(folders: list[RowFolder], out: Path) -> Path:
    """Plots the fraction of tokens by document length, on a logarithmic axis, one line per folder."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.logspace(0, np.log10(max(max(folder.lengths) for folder in folders) + 1), 60)
    for folder in folders:
        lengths = np.array(list(folder.lengths))
        tokens = lengths * np.array(list(folder.lengths.values()))
        counts, _ = np.histogram(lengths, edges, weights=tokens)
        axes.stairs(counts / tokens.sum(), edges, label=folder.name)
    for seq_len in SEQ_LENS:
        axes.axvline(seq_len, color="0.8", linewidth=1, zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel("document length (tokens)")
    axes.set_ylabel("fraction of the folder's tokens")
    axes.legend(fontsize="small", ncols=1 + len(folders) // 12)
    figure.savefig(out, dpi=150, metadata={"Software": None})
    return out


def sample_texts(folder: RowFolder, tokenizer: Path | None, count: int) -> list[str]:
    """Beginnings of ``count`` documents, decoded; as ids without a tokenizer. Raises DataError if the tokenizer differs."""
    pieces = _first_pieces(folder, count)
    if tokenizer is None:
        return [" ".join(map(str, ids[:40])) for ids in pieces]
    from detour.data.tokenizer import load_tokenizer, tokenizer_sha256

    loaded = load_tokenizer(tokenizer)
    verify_rows(folder.path, hashes=False, tokenizer_sha256=tokenizer_sha256(loaded))
    return [loaded.decode(ids[:SAMPLE_CHARACTERS])[:SAMPLE_CHARACTERS] for ids in pieces]


def tokenizer_of(root: Path) -> Path | None:
    """The ``tokenizer`` folder that a preparation wrote, in ``root`` or up to two levels above it; None if there is none."""
    return next((p / "tokenizer" for p in (root, *root.resolve().parents[:2]) if (p / "tokenizer").is_dir()), None)


def _first_pieces(folder: RowFolder, count: int) -> list[list[int]]:
    """The first document of each of ``count`` rows, spread evenly over the first shard."""
    from streaming.base.format import reader_from_json

    index = json.loads((folder.path / INDEX).read_text(encoding="utf-8"))
    shard = reader_from_json(str(folder.path), "", index["shards"][0])
    rows = [shard[i * len(shard) // count] for i in range(min(count, len(shard)))]
    return [row["input_ids"][: row["doc_lengths"][0]].tolist() for row in rows]


def _recorded_lengths(path: Path, manifest: ShardManifest) -> dict[int, int]:
    try:
        lengths = {int(length): int(n) for length, n in np.load(path / LENGTHS, allow_pickle=False)}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path / LENGTHS}: cannot be read: {error}") from error
    tokens = sum(length * n for length, n in lengths.items())
    if (sum(lengths.values()), tokens) != (manifest.counts.documents, manifest.counts.tokens):
        raise DataError(f"{path / LENGTHS}: {tokens} tokens, expected {manifest.counts.tokens} as in {MANIFEST}")
    return lengths


def _piece_lengths(path: Path) -> dict[int, int]:
    from streaming.base.format import reader_from_json

    index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    lengths: Counter[int] = Counter()
    for info in index["shards"]:
        shard = reader_from_json(str(path), "", info)
        for i in range(len(shard)):
            lengths.update(shard[i]["doc_lengths"].tolist())
    return dict(lengths)
