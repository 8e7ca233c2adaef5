"""Held-out rows that are trained on: found row by row, wherever they stand; and by shards without reading any."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from detour.data.loader import StreamSpec, build_loader
from detour.data.manifest import ShardManifest, SourceFile, TokenizerInfo
from detour.data.overlap import TrainValidationOverlap, refuse_same_shards, row_hashes
from detour.data.shards import RowWriter
from detour.errors import DataError

TOKENIZER = TokenizerInfo(name="toy", sha256="ab" * 32, vocab_size=1000, mask_id=3, pad_id=0)


def write(out: Path, first: list[int]) -> Path:
    """A folder of rows of 16 tokens, each of one document that begins with the id given."""
    with RowWriter(out, seq_len=16, tokenizer=TOKENIZER, seed=0, shard_bytes=600) as writer:
        for begin in first:
            writer.write([np.arange(begin, begin + 14).astype(np.uint16)])
        source = SourceFile(path="a.jsonl", sha256="cd" * 32, bytes=9, documents=len(first), license=None)
        writer.finish(sources=[source], documents=len(first), empty_skipped=0, documents_split=0)
    return out


def shared(training: Path, *validation: Path) -> dict[str, int]:
    rows = TrainValidationOverlap()
    for folders, see in [(validation, rows.add_validation), ([training], rows.add_training)]:
        build_loader(
            streams=[StreamSpec(path=str(folder)) for folder in folders], device_batch_size=1, shuffle=False,
            shuffle_seed=0, canonical_nodes=1, workers=0, verified=see,
        )  # fmt: skip
    return rows.counts()


def test_equal_rows_have_equal_hashes_and_no_others(tmp_path):
    one, two = write(tmp_path / "one", [5, 6, 7, 5]), write(tmp_path / "two", [9, 7])
    (a,), (b,) = ([row_hashes(shard) for shard in sorted(folder.glob("*.mds"))] for folder in (one, two))
    assert len(a) == 4
    assert a[0] == a[3]
    assert len(set(a.tolist())) == 3
    assert set(a.tolist()) & set(b.tolist()) == {int(a[2])}


def test_folders_without_a_common_row_pass(tmp_path):
    assert shared(write(tmp_path / "train", list(range(10, 60))), write(tmp_path / "held", list(range(100, 130)))) == {}


def test_a_few_shared_rows_are_counted(tmp_path):
    train = write(tmp_path / "train", [*range(10, 60), 300, 301])
    clean, held = write(tmp_path / "clean", [700, 701]), write(tmp_path / "held", list(range(200, 500)))
    assert shared(train, clean, held) == {str(held): 2}


@pytest.mark.parametrize("held", [[10, 11, 12], [10, 900, 901], [12, 10, 11]], ids=["whole", "part", "reordered"])
def test_a_folder_that_is_trained_on_is_refused(tmp_path, held):
    train = write(tmp_path / "train", list(range(10, 60)))
    common = len(set(held) & set(range(10, 60)))
    with pytest.raises(DataError, match=rf"held: {common} of 3 rows are also in data.train"):
        shared(train, write(tmp_path / "held", held))


def test_a_shard_of_training_is_found_without_reading_it(tmp_path):
    train = write(tmp_path / "train", list(range(10, 60)))
    held = tmp_path / "held"
    shutil.copytree(train, held)
    manifests = {str(folder): ShardManifest.load(folder) for folder in (train, held)}
    for shard in held.glob("*.mds"):
        shard.unlink()
    with pytest.raises(DataError, match=r"data.validation: .*held: shard.00000.mds is shard.00000.mds of .*train"):
        refuse_same_shards({str(train): manifests[str(train)]}, {str(held): manifests[str(held)]})
    refuse_same_shards({}, {str(held): manifests[str(held)]})
