"""Damaged and hostile text files, at random: one clear error or none, no hang, nothing touched elsewhere.

Seeds are the parameters: a failure names the one that repeats it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from detour.config.load import load, to_yaml
from detour.data.loader import StreamSpec, build_loader
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256
from detour.data.verify import verify_rows
from detour.errors import CheckpointError, ConfigError, DataError
from detour.export.run import choose_checkpoint
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.select import checkpoint_to_resume
from detour.training.run_folder import RunFolder, run_record

FUZZING = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fuzzing.py"))))
SEEDS, attack, bent, elsewhere, spoilt = (
    getattr(FUZZING, name) for name in ("SEEDS", "attack", "bent", "elsewhere", "spoilt")
)
pytestmark = pytest.mark.timeout(300)


@pytest.mark.faults(11, "fuzzed YAML of a run")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_yaml_is_refused_clearly_or_is_a_run(tiny_run, tmp_path, seed):
    text = to_yaml(tiny_run()).encode()
    values = yaml.safe_load(text)
    folder = tmp_path / "configs"
    folder.mkdir()
    path, before = folder / "run.yaml", elsewhere(tmp_path, folder)

    def write(rng: random.Random) -> None:
        path.write_bytes(spoilt(text, rng) if rng.random() < 0.5 else yaml.safe_dump(bent(values, rng)).encode())

    attack(write, lambda: load(path), ConfigError, seed)
    assert elsewhere(tmp_path, folder) == before


@pytest.mark.faults(8, "fuzzed manifests and indexes of rows: refused at open, or the rows are right")
@pytest.mark.parametrize("file", ["manifest.json", "index.json"])
@pytest.mark.parametrize("is_cache", [False, True], ids=["folder", "cache"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_rows_are_refused_clearly_or_read(corpus, tmp_path, file, is_cache, seed):
    folder = tmp_path / "rows"
    shutil.copytree(corpus.validation, folder)
    whole, names = (folder / file).read_bytes(), sorted(os.listdir(folder))
    expected = batches(folder)
    for name in ("x", "precious.mds"):
        (tmp_path / name).write_text(name)
    before = elsewhere(tmp_path, folder)

    def write(rng: random.Random) -> None:
        for path in corpus.validation.iterdir():
            shutil.copy(path, folder)
        bad = spoilt(whole, rng) if rng.random() < 0.3 else json.dumps(bent(json.loads(whole), rng)).encode()
        (folder / file).write_bytes(bad)

    def use() -> None:
        verify_rows(folder, hashes=True, seq_len=64, is_cache=is_cache)
        if not is_cache:
            assert batches(folder) == expected

    attack(write, use, DataError, seed)
    assert elsewhere(tmp_path, folder) == before
    assert set(os.listdir(folder)) <= set(names)


def batches(folder: Path) -> list:
    loader = build_loader(
        streams=[StreamSpec(path=str(folder))],
        device_batch_size=2,
        shuffle=False,
        shuffle_seed=0,
        canonical_nodes=1,
        workers=0,
    )
    return [batch["input_ids"].tolist() for batch in loader]


@pytest.fixture
def trained(tiny_run):
    """A run with two checkpoints."""
    run = tiny_run(phases=[{"name": "p", "objective": "mlm", "tokens": 500}], checkpoint={"interval_tokens": 1},
                   schedule={"decay_phase": None, "warmup_tokens": 0}, data={"validation": []})  # fmt: skip
    train(run)
    return run


@pytest.mark.faults(6, "fuzzed manifests of a checkpoint: passed over, or refused")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_checkpoint_manifests_are_passed_over(trained, tmp_path, seed):
    folder = RunFolder.of(trained).checkpoints
    first, newest = checkpoints.listing(folder)
    path = newest.path / checkpoints.MANIFEST
    whole = path.read_bytes()
    before = elsewhere(tmp_path, path)

    def write(rng: random.Random) -> None:
        path.write_bytes(
            spoilt(whole, rng) if rng.random() < 0.5 else json.dumps(bent(json.loads(whole), rng)).encode()
        )

    def use() -> None:
        found, passed_over = checkpoints.newest_valid(folder)
        assert found == (newest if not passed_over else first)
        choose_checkpoint(folder, newest.tokens)

    attack(write, use, CheckpointError, seed)
    assert elsewhere(tmp_path, path) == before


@pytest.mark.faults(18, "fuzzed state of a checkpoint, with a fitting manifest")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_states_of_checkpoints_are_refused_or_understood(trained, tmp_path, seed):
    folder = RunFolder.of(trained).checkpoints
    newest = checkpoints.listing(folder)[-1]
    path, manifest = newest.path / checkpoints.STATE, newest.path / checkpoints.MANIFEST
    whole, record = (
        path.read_bytes(),
        run_record(trained, tokenizer=tokenizer_sha256(load_tokenizer(trained.model.tokenizer))),
    )
    sums = json.loads(manifest.read_text())
    before = elsewhere(tmp_path, newest.path)

    def write(rng: random.Random) -> None:
        state = json.loads(whole)
        state["run"] = bent(state["run"], rng)
        data = json.dumps(state).encode() if rng.random() < 0.7 else spoilt(whole, rng)
        path.write_bytes(data)
        sums["files"][checkpoints.STATE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest.write_text(json.dumps(sums))

    attack(write, lambda: checkpoint_to_resume(trained, record), CheckpointError, seed)
    assert elsewhere(tmp_path, newest.path) == before
