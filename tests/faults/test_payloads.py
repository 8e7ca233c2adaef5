"""Rows 8 to 12: downloads that try to run code, to leave their folder, or to fill the memory."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
from dataclasses import asdict
from pathlib import Path

import pytest
import zstandard
from huggingface_hub.utils import filter_repo_objects

from detour.cli.main import main
from detour.config.load import load, to_yaml
from detour.corpus.text import ReadReport, read_chunks
from detour.data.tokenizer import load_tokenizer
from detour.data.verify import verify_rows
from detour.errors import ConfigError, DataError, DetourError, ModelError
from detour.models import hf
from detour.models.families import architecture
from detour.training.checkpoints import files as checkpoints
from detour.training.start import read_start

pytestmark = pytest.mark.timeout(200)


class Payload:
    """What unpickling it does: it writes a file, as an attacker would run a program."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.write_text, (self.marker, "ran"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def payload(marker: Path) -> bytes:
    """A pickle; that it works is tested first."""
    data = pickle.dumps(Payload(marker))
    pickle.loads(data)
    assert marker.read_text() == "ran"
    marker.unlink()
    return data


def sign(checkpoint: checkpoints.Checkpoint) -> None:
    """A manifest that fits what lies there, as whoever made the payload would add one."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in checkpoint.path.iterdir()
        if path.name != checkpoints.MANIFEST
    }
    (checkpoint.path / checkpoints.MANIFEST).write_text(json.dumps({"files": files}))


# --- 9: pickles -----------------------------------------------------------------------------------------------------


@pytest.mark.faults(9, "a pickle as model, optimizer, random state or state of a checkpoint with a fitting manifest")
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(tiny_run, start, left, marker, payload, file):
    run = tiny_run(checkpoint={"interval_tokens": 1})
    assert start(run, fault=("signal_at", 1, 15, 0))[0].code() == 75
    (left(run).last.path / file).write_bytes(payload)
    sign(left(run).last)
    (child,) = start(run)
    assert child.code() == 1
    assert f"error: {left(run).last.path / file}: cannot be read" in child.text()
    assert not marker.exists()


@pytest.mark.faults(9, "pickles beside a checkpoint's files (.metadata, .pt, .distcp): never opened")
def test_pickles_beside_a_checkpoint_are_not_opened(tiny_run, start, left, marker, payload):
    run = tiny_run(checkpoint={"interval_tokens": 1})
    assert start(run, fault=("signal_at", 1, 15, 0))[0].code() == 75
    for name in (".metadata", "model.pt", "optimizer.pkl", "__0_0.distcp", "latest-rank0.pt"):
        (left(run).last.path / name).write_bytes(payload)
        (left(run).folder / "checkpoints" / name).write_bytes(payload)
    assert start(run)[0].code() == 0
    assert not marker.exists()


@pytest.mark.faults(9, "a pickle column in an MDS index, with shards full of pickles")
def test_a_pickle_column_is_refused_and_not_run(corpus, tmp_path, marker, payload):
    folder = copy_rows(corpus.train, tmp_path / "rows")
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shards"]:
        shard["column_encodings"] = ["pkl", "pkl"]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="column_encodings is"):
        verify_rows(folder, hashes=False)
    assert not marker.exists()


@pytest.mark.faults(9, "a shard whose rows are pickles, with a fitting hash")
def test_a_shard_of_pickles_is_no_row_and_is_not_run(tiny_run, corpus, start, tmp_path, marker, payload):
    import xxhash

    folder = copy_rows(corpus.train, tmp_path / "rows")
    index, manifest = (json.loads((folder / name).read_text()) for name in ("index.json", "manifest.json"))
    for shard, known in zip(index["shards"], manifest["shards"], strict=True):
        path = folder / known["file"]
        data = path.read_bytes()
        rows = struct.unpack("<I", data[:4])[0]
        head = 4 * (rows + 2)
        data = data[:head] + (payload * (len(data) // len(payload) + 1))[: len(data) - head]
        path.write_bytes(data)
        known["sha256"], known["xxh64"] = hashlib.sha256(data).hexdigest(), xxhash.xxh64_hexdigest(data)
        shard["raw_data"]["hashes"] = {"sha256": known["sha256"], "xxh64": known["xxh64"]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (child,) = start(tiny_run(data={"train": [{"path": str(folder)}]}))
    assert child.code() == 1
    assert "error: " in child.text()
    assert not marker.exists()


@pytest.mark.faults(9, "pickled weights in a model folder")
def test_pickled_weights_are_refused_and_not_run(tmp_path, marker, payload):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(payload)
    with pytest.raises(DetourError, match="pickled weights are not read"):
        hf.read_weights(tmp_path / "model", architecture("tiny", {}))
    (tmp_path / "model" / "model.safetensors").write_bytes(payload)
    with pytest.raises(DetourError, match="cannot be read"):
        hf.read_weights(tmp_path / "model", architecture("tiny", {}))
    assert not marker.exists()


@pytest.mark.faults(9, "a pickled array where document lengths are expected")
def test_a_pickled_array_beside_the_rows_is_not_run(corpus, tmp_path, marker, payload, capsys):
    folder = copy_rows(corpus.train, tmp_path / "rows")
    (folder / "lengths.npy").write_bytes(payload)
    assert exit_code("data", "inspect", str(folder)) == 1
    assert "lengths.npy" in capsys.readouterr().err
    assert not marker.exists()


# --- 10: archives, bombs, file names --------------------------------------------------------------------------------


@pytest.mark.faults(10, "a decompression bomb among the texts: read in bounded pieces")
def test_a_bomb_is_read_in_bounded_pieces(tmp_path):
    size = 1 << 29
    path = tmp_path / "bomb.jsonl.zst"
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    zeros = bytes(1 << 22)
    path.write_bytes(b"".join(compressor.compress(zeros) for _ in range(size >> 22)) + compressor.flush())
    assert path.stat().st_size < size / 8000
    lengths = [len(chunk) for chunk in read_chunks(path, ReadReport())]
    assert sum(lengths) == size
    assert max(lengths) <= 65 << 20


@pytest.mark.faults(10, "shards said to be compressed: refused, so nothing is ever unpacked")
def test_compressed_shards_are_refused(corpus, tmp_path):
    folder = copy_rows(corpus.train, tmp_path / "rows")
    index = json.loads((folder / "index.json").read_text())
    shard = index["shards"][0]
    shard["compression"], shard["zip_data"] = "zstd", {**shard["raw_data"], "basename": "bomb.mds.zstd"}
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="compression is 'zstd'"):
        verify_rows(folder, hashes=False)


@pytest.mark.faults(10, "no archive is unpacked anywhere in the library")
def test_nothing_unpacks_archives():
    root = Path(__file__).parents[2]
    source = "".join(path.read_text() for top in ("detour", "data_prep") for path in (root / top).rglob("*.py"))
    assert not [word for word in ("tarfile", "extractall", "unpack_archive", "zipfile") if word in source]


@pytest.mark.faults(10, "a tokenizer whose files are ../x or /x")
@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "a/b.json"])
@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "fast_tokenizer_files"])
def test_a_tokenizer_that_names_files_elsewhere_is_refused(corpus, tmp_path, name, key):
    folder = copy_rows(corpus.tokenizer, tmp_path / "tokenizer")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config[key] = [name] if key.endswith("s") else name
    path.write_text(json.dumps(config))
    with pytest.raises(DataError, match="refers to a file outside the folder"):
        load_tokenizer(folder)


# --- 11: YAML -------------------------------------------------------------------------------------------------------


BOMB = "\na0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))


@pytest.mark.faults(
    11, "tags that build objects, duplicate and misspelt keys, wrong types, bombs: refused with their line"
)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nseed: 17", "\nseed: !!python/object/apply:pathlib.Path.touch [MARKER]", "line {line}"),
        ("\nseed: 17", "\nseed: !!python/object/new:os.system [touch MARKER]", "line {line}"),
        ("\nseed: 17", "\nseed: 17\nseed: 18", "found duplicate key seed"),
        ("\nseed: 17", "\nsede: 17", "sede: unknown key; did you mean 'seed'? (line {line})"),
        ("\nseed: 17", "\nseed: many", "seed: 'many', expected int (line {line})"),
        ("\nseed: 17", "\nseed: -1", "seed: -1, expected 0 to 4294967295 (line {line})"),
        ("\nseed: 17", "\nseed: ${seed}", "Recursive interpolation"),
        ("\nseed: 17", "\nseed: [" + "[" * 5000, "nested deeper"),
        ("\nseed: 17", BOMB, "more than 100,000 values"),
        ("\nseed: 17", "\nseed: &a [*a]", "nested deeper than 64"),
    ],
    ids=["apply", "system", "duplicate", "misspelt", "type", "range", "itself", "deep", "bomb", "cycle"],
)  # fmt: skip
def test_evil_yaml_is_refused_with_its_line(tiny_run, tmp_path, marker, old, new, message):
    path = tmp_path / "run.yaml"
    text = to_yaml(tiny_run())
    assert text.count(old + "\n") == 1
    path.write_text(text.replace(old + "\n", new.replace("MARKER", str(marker)) + "\n"))
    line = text[: text.index(old)].count("\n") + 2  # the text begins with the end of the line before
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message.format(line=line) in str(caught.value)
    assert not marker.exists()


# --- 12: code in folders --------------------------------------------------------------------------------------------


@pytest.mark.faults(12, "code beside weights, named by auto_map: not run, at the start and at the export")
def test_code_in_a_model_folder_is_not_run(tiny_run, start, left, tmp_path, marker, capsys):
    run = tiny_run()
    assert start(run)[0].code() == 0
    encoder = tmp_path / "encoder"
    assert exit_code("export", str(left(run).folder), "--out", str(encoder)) == 0
    config = json.loads((encoder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForMaskedLM": "evil.Evil"}
    (encoder / "config.json").write_text(json.dumps(config))
    (encoder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass")
    with pytest.raises(ModelError, match="auto_map"):  # its code may compute something else
        read_start(tiny_run("refused", model={**asdict(run.model), "init": str(encoder)}))
    second = tiny_run("second", model={**asdict(run.model), "init": str(encoder), "ignore_config_keys": ["auto_map"]})
    assert start(second)[0].code() == 0
    assert exit_code("export", str(left(second).folder), "--out", str(tmp_path / "again")) == 0
    assert not marker.exists()
    assert not list((tmp_path / "again").glob("*.py"))


@pytest.mark.faults(12, "a hub repository with code and pickles beside its weights: neither is fetched")
def test_a_hub_gives_configuration_and_safetensors_only(tiny_run, start, left, tmp_path, monkeypatch):
    run = tiny_run()
    assert start(run)[0].code() == 0
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    assert exit_code("export", str(left(run).folder), "--out", str(repository)) == 0
    for name in ("evil.py", "pytorch_model.bin", "model.pt", "sub/evil.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"import os")

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        files = [str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (cache / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / file, cache / file)
        return str(cache)

    monkeypatch.setattr(hf, "snapshot_download", snapshot)
    architecture = hf.read_architecture(hf.fetch("someone/encoder"))
    assert hf.read_weights(cache, architecture)
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


def copy_rows(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target
