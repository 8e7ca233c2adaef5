from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from streaming import StreamingDataset

from detour.data.manifest import Counts, ShardManifest, SourceFile, TokenizerInfo
from detour.data.shards import RowWriter, ids_dtype
from detour.data.verify import verify_rows
from detour.errors import DataError


def edit_json(path: Path, change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def refused(folder: Path, match: str, **options) -> None:
    with pytest.raises(DataError, match=match) as caught:
        verify_rows(folder, hashes=True, **options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_rows_come_back_as_written(write_rows):
    folder = write_rows(rows=5)
    rows = StreamingDataset(local=str(folder), batch_size=1)
    for i in range(5):
        ids, lengths = rows[i]["input_ids"], rows[i]["doc_lengths"]
        assert ids.dtype == np.uint16
        assert lengths.dtype == np.uint32
        assert lengths.tolist() == [6, 8]
        assert ids.tolist() == [10 + i + t for t in range(14)] + [0, 0]  # padded with pad_id


def test_the_manifest_counts_what_was_written(write_rows):
    folder = write_rows(rows=24)
    manifest = verify_rows(folder, hashes=True)
    assert manifest == ShardManifest.load(folder)
    assert manifest.counts == Counts(
        documents=48, empty_skipped=0, documents_split=0, pieces=48, tokens=24 * 14, rows=24, longest=8
    )
    assert manifest.packing_efficiency == 14 / 16
    assert len(manifest.shards) > 1
    assert json.loads((folder / "manifest.json").read_text())["packing_efficiency"] == 0.875


@pytest.mark.parametrize(("vocab_size", "dtype"), [(1000, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_the_id_type_follows_the_vocabulary(write_rows, vocab_size, dtype):
    assert ids_dtype(vocab_size) == dtype
    folder = write_rows(vocab_size=vocab_size)
    assert verify_rows(folder, hashes=True).dtype == dtype
    assert StreamingDataset(local=str(folder), batch_size=1)[0]["input_ids"].dtype == dtype


def test_the_identity_of_rows_follows_their_content_not_their_place(write_rows):
    a, b, c = write_rows("a"), write_rows("b"), write_rows("c", rows=23)
    a, b, c = (verify_rows(folder, hashes=False).rows_sha256 for folder in (a, b, c))
    assert a == b
    assert a != c


def writer_for(out: Path, **options) -> RowWriter:
    info = TokenizerInfo(name="toy", sha256="00", vocab_size=1000, mask_id=3, pad_id=0)
    return RowWriter(out, seq_len=16, tokenizer=info, seed=0, **options)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    def interrupted() -> None:
        with writer_for(tmp_path / "rows") as writer:
            writer.write([np.arange(5, dtype=np.uint16)])
            raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with writer_for(tmp_path / "rows") as writer:
        writer.write([np.arange(5, dtype=np.uint16)])  # never finished
    assert set(tmp_path.iterdir()) == before


def test_ids_of_a_wider_type_are_refused(tmp_path):
    with writer_for(tmp_path / "rows") as writer, pytest.raises(TypeError, match="safe"):
        writer.write([np.arange(5, dtype=np.int64)])


def test_a_folder_with_content_is_never_overwritten_unasked(write_rows, tmp_path):
    write_rows("rows")
    with pytest.raises(DataError, match="exists and is not empty"):
        writer_for(tmp_path / "rows")
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="not a dataset"):
        writer_for(precious, overwrite=True)
    assert (precious / "thesis.tex").exists()


def test_overwriting_replaces_a_dataset_only_at_the_end(write_rows, tmp_path):
    folder = write_rows("rows", rows=5)
    with writer_for(folder, overwrite=True) as writer:
        writer.write([np.arange(5, dtype=np.uint16)])
        assert verify_rows(folder, hashes=True).counts.rows == 5
        source = SourceFile(path="a", sha256="0", bytes=1, documents=1, license="CC0")
        writer.finish(sources=[source], documents=1, empty_skipped=0, documents_split=0)
    assert verify_rows(folder, hashes=True).counts.rows == 1


def test_an_empty_dataset_is_refused(tmp_path):
    with writer_for(tmp_path / "rows") as writer, pytest.raises(DataError, match="no document"):
        writer.finish(sources=[], documents=0, empty_skipped=0, documents_split=0)


def test_a_missing_folder_or_file_is_named(write_rows, tmp_path):
    refused(tmp_path / "absent", "no such folder")
    folder = write_rows()
    for name in ("shard.00001.mds", "index.json", "manifest.json"):
        (folder / name).unlink()
        refused(folder, f"{name}: .*(missing|no such file)")


def test_a_shard_cut_short_is_refused_even_without_hashing(write_rows):
    folder = write_rows()
    shard = folder / "shard.00001.mds"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"shard.00001.mds: \d+ bytes, expected \d+"):
        verify_rows(folder, hashes=False)


def test_one_flipped_bit_is_found(write_rows):
    folder = write_rows()
    shard = folder / "shard.00001.mds"
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    verify_rows(folder, hashes=False)
    refused(folder, "shard.00001.mds: xxh64 .* expected")


def test_other_row_tokens_or_tokenizer_are_refused(write_rows):
    folder = write_rows()
    verify_rows(folder, hashes=False, seq_len=16, tokenizer_sha256="ab" * 32)
    refused(folder, "rows of 16 tokens, expected 32", seq_len=32)
    refused(folder, "tokenizer 'toy'", tokenizer_sha256="00" * 32)


@pytest.mark.faults(8, "columns of other names, types or sizes")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("column_names", ["doc_lengths", "tokens"]),
        ("column_encodings", ["ndarray:uint32", "ndarray:int64:16"]),
        ("column_encodings", ["pkl", "ndarray:uint16:16"]),
        ("column_sizes", [None, 64]),
        ("format", "json"),
        ("compression", "zstd"),
        ("size_limit", -1),
        ("raw_data", {"basename": "shard.00001.mds", "bytes": -1, "hashes": {}}),
        ("surprise", 1),
    ],
)
def test_columns_that_break_the_contract_are_refused(write_rows, key, value):
    folder = write_rows()
    edit_json(folder / "index.json", lambda index: index["shards"][1].update({key: value}))
    refused(folder, f"index.json: shard.00001.mds: .*{key}")


@pytest.mark.faults(8, "shard names that lead out of the folder, or to the index: refused at open")
@pytest.mark.parametrize(
    "name", ["../rows2/shard.00000.mds", "/etc/passwd", "..", "", "a/b.mds", 7, None, "index.json", "lengths.npy"]
)
def test_a_shard_name_that_leads_elsewhere_is_refused(write_rows, name):
    folder = write_rows()
    edit_json(folder / "index.json", lambda index: index["shards"][0]["raw_data"].update(basename=name))
    refused(folder, "expected one as 'shard.00000.mds'")


@pytest.mark.faults(8, "a link in a cache that leads out of it: refused, and nothing is written through it")
def test_a_link_in_a_cache_is_refused(write_rows, tmp_path):
    folder = write_rows()
    shard, elsewhere = folder / "shard.00000.mds", tmp_path / "elsewhere.mds"
    content = shard.read_bytes()
    shard.rename(elsewhere)
    os.symlink(elsewhere, shard)
    with pytest.raises(DataError, match=r"shard\.00000\.mds: is a symbolic link"):
        verify_rows(folder, hashes=True, is_cache=True)
    assert elsewhere.read_bytes() == content


def test_rows_behind_symbolic_links_are_read_and_hashed(write_rows, tmp_path):
    """As git-annex, DVC and the hub's cache keep them."""
    folder = write_rows()
    real = tmp_path / "real"
    folder.rename(real)
    folder.mkdir()
    for file in real.iterdir():
        os.symlink(file, folder / file.name)
    manifest = verify_rows(folder, hashes=True)
    assert manifest.counts.rows > 0
    shard = real / "shard.00000.mds"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="xxh64"):
        verify_rows(folder, hashes=True)


@pytest.mark.faults(8, "an index with other shards, versions or numbers of rows")
@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["shards"].pop(),
        lambda index: index.update(version=1),
        lambda index: index["shards"][0].update(samples=1),
        lambda index: index["shards"][0].update(samples=-1),
        lambda index: index["shards"][0].update(samples="7"),
        lambda index: index.pop("shards"),
        lambda index: index["shards"].__setitem__(0, None),
    ],
)
def test_an_index_that_disagrees_with_the_manifest_is_refused(write_rows, change):
    folder = write_rows()
    edit_json(folder / "index.json", change)
    refused(folder, "index.json")


@pytest.mark.faults(8, "too many rows in a shard")
def test_row_counts_shifted_between_shards_are_refused(write_rows):
    def shift(index):
        index["shards"][0]["samples"] += 1
        index["shards"][1]["samples"] -= 1

    folder = write_rows()
    edit_json(folder / "index.json", shift)
    refused(folder, "holds .* rows, expected")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update(format=99), "format 99, expected 2"),
        (lambda m: m.update(surprise=1), "expected the keys"),
        (lambda m: m.pop("seed"), "expected the keys"),
        (lambda m: m["tokenizer"].update(pad_id="0"), "tokenizer: pad_id: '0', expected int"),
        (lambda m: m["sources"][0].update(license=3), r"sources\[0\]: license: 3, expected str or NoneType"),
        (lambda m: m["counts"].update(rows=0), "above 0"),
    ],
)
def test_a_damaged_manifest_is_refused(write_rows, change, match):
    folder = write_rows()
    edit_json(folder / "manifest.json", change)
    refused(folder, f"manifest.json: .*{match}")


def test_a_manifest_that_is_not_json_is_refused(write_rows):
    folder = write_rows()
    (folder / "manifest.json").write_text("{")
    refused(folder, "manifest.json: not readable as JSON")


def test_rows_of_a_version_that_knew_no_classes_are_read(write_rows):
    folder = write_rows()
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    assert record.pop("classes") == []
    path.write_text(json.dumps(record))
    assert verify_rows(folder, hashes=True).classes == ()
