from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detour.cli.data import app
from detour.corpus.pack import pack_corpus
from detour.data.inspect import check_folder, find_folders, packing_efficiency, quantiles
from detour.data.manifest import ShardManifest
from detour.data.tokenizer import train_bpe
from detour.errors import DataError


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Two folders of rows under one, with their tokenizer."""
    root = tmp_path / "prepared"
    train_bpe(["the heart pumps blood"] * 5, vocab_size=300).save_pretrained(root / "tokenizer")
    for name, words in (("train/a", 5), ("train/b", 60)):
        lines = [json.dumps({"text": f"{i} " + "heart blood " * words, "license": "CC0"}) for i in range(30)]
        (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
        pack_corpus([tmp_path / "corpus.jsonl"], tokenizer=root / "tokenizer", out=root / name, seq_len=64)
    return root


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_inspect_tells_counts_shares_packing_and_samples(prepared):
    result = run("inspect", prepared)
    assert result.exit_code == 0, result.output
    for expected in (
        "train/a",
        "train/b",
        "30",
        "filled at 512",
        "filled at 8192",
        "[CLS] document [SEP]",
        "heart blood",
        "CC0",
    ):
        assert expected in result.output
    assert result.output.count("1 of 1 shards") == 2
    assert (prepared / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_document_lengths_are_those_before_cutting(prepared):
    a, b = find_folders(prepared)
    for folder in (a, b):
        counts = folder.manifest.counts
        assert sum(folder.lengths.values()) == counts.documents == 30
        assert sum(n * times for n, times in folder.lengths.items()) == counts.tokens
    assert min(b.lengths) > 64
    assert b.manifest.counts.documents_split == 30


def test_rows_without_recorded_lengths_are_told_by_their_pieces(prepared):
    (prepared / "train/b/lengths.npy").unlink()
    folder = find_folders(prepared / "train/b")[0]
    assert not folder.unsplit
    assert max(folder.lengths) == 64
    assert run("inspect", prepared / "train/b", "--no-hashes").exit_code == 0


def test_utilisation_is_that_of_a_real_packing(prepared):
    folder = find_folders(prepared / "train/a")[0]
    assert packing_efficiency(folder.lengths, 64) == pytest.approx(folder.manifest.packing_efficiency)
    assert packing_efficiency({100: 4}, 200) == 1.0
    assert packing_efficiency({150: 4}, 200) == 0.75
    assert packing_efficiency({250: 4}, 100) == pytest.approx(1000 / 1000)
    assert packing_efficiency({1000: 10**6}, 2048) == pytest.approx(
        2000 / 2048, abs=1e-4
    )  # drawn from, not packed whole


def test_quantiles_are_lengths_that_occur():
    assert quantiles({1: 1, 2: 1, 3: 1, 10: 1}, (0.0, 0.5, 0.75, 1.0)) == [1, 2, 3, 10]


def test_verify_finds_a_flipped_bit_and_names_the_shard(prepared):
    assert run("verify", prepared).exit_code == 0
    shard = prepared / "train/b/shard.00000.mds"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    result = run("verify", prepared)
    assert result.exit_code == 1
    assert "train/b: 0 of 1 shards" in result.output
    assert "train/b/shard.00000.mds: xxh64" in result.output
    assert run("inspect", prepared).exit_code == 1


def test_a_shard_that_fools_one_hash_is_found_by_the_other(prepared):
    path = prepared / "train/a/manifest.json"
    record = json.loads(path.read_text())
    record["shards"][0]["sha256"] = "00" * 32
    path.write_text(json.dumps(record))
    assert "sha256" in check_folder(prepared / "train/a")[1][0]


def test_verify_goes_on_after_damage_and_misses_what_is_gone(prepared):
    manifests = {name: ShardManifest.load(prepared / "train" / name) for name in "ab"}
    folders = {name: {"folders": {"train": {"rows_sha256": m.rows_sha256}}} for name, m in manifests.items()}
    (prepared / "prepared.json").write_text(json.dumps({"sources": folders}))
    assert run("verify", prepared).exit_code == 0
    (prepared / "train/a/shard.00000.mds").unlink()
    result = run("verify", prepared)
    assert result.exit_code == 1
    assert "train/a/shard.00000.mds: this shard is missing" in result.output
    assert "train/b: 1 of 1 shards" in result.output
    shutil.rmtree(prepared / "train/a")
    shutil.copytree(prepared / "train/b", prepared / "train/a")
    result = run("verify", prepared)
    assert result.exit_code == 1
    assert "train/a: rows differ from those in prepared.json" in result.output
    shutil.rmtree(prepared / "train/a")
    result = run("verify", prepared)
    assert result.exit_code == 1
    assert "train/a/manifest.json: no such file" in result.output


def test_another_tokenizer_and_wrong_lengths_are_refused(prepared, tmp_path):
    train_bpe(["other words"] * 5, vocab_size=300).save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="made with tokenizer"):
        run("inspect", prepared, "--tokenizer", tmp_path / "other")
    np.save(prepared / "train/a/lengths.npy", np.array([[3, 4]]))
    with pytest.raises(DataError, match=r"lengths\.npy: 12 tokens, expected"):
        find_folders(prepared)
    with pytest.raises(DataError, match="no folder of packed rows"):
        find_folders(tmp_path / "other")


def test_the_commands_load_nothing_heavy_before_they_run():
    code = "import sys, detour.cli.data\nprint([m for m in ('torch', 'matplotlib', 'streaming') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
