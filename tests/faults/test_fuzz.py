"""Damaged and hostile text files, at random: one clear error or none, no hang, nothing touched elsewhere.

Seeds are the parameters: a failure names the one that repeats it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from detour.build import train
from detour.config.load import load, to_yaml
from detour.data.loader import StreamSpec, build_loader
from detour.data.shards import verify_rows
from detour.data.tokenizer import fingerprint, load_tokenizer
from detour.errors import CheckpointError, ConfigError, DataError
from detour.export.run import choose_checkpoint
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.select import checkpoint_to_resume
from detour.training.run_folder import RunFolder, run_record

pytestmark = pytest.mark.timeout(300)
SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))]
EACH = 50  # inputs of a seed

EVIL = [
    None, True, 0, -1, 2**31, -(2**63), 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "0", "../x", "/etc/passwd",
    "a/../../x", "..", ".", "\x00", "é\ud7ff", "x" * 5000, "${oc.env:HOME}", "${nothing}", "!!python/name:os.system", [], {},
    [[]], {"a": {}}, [None], [-1], "nan", "1e9", "manifest.json", "index.json", "hf_" + "a" * 30,
]  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a structure, its own included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def bent(value: Any, rng: random.Random) -> Any:
    """A copy in which one to three values are replaced, removed, doubled, or exchanged with others."""
    value = {"top": copy.deepcopy(value)}
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([path for path in places(value) if path])
        at = value
        for key in path[:-1]:
            at = at[key]
        match rng.randrange(5):
            case 0 | 1:
                at[path[-1]] = copy.deepcopy(rng.choice(EVIL))
            case 2 if len(path) > 1:
                del at[path[-1]]
            case 3 if isinstance(at, list):
                at.append(copy.deepcopy(at[path[-1]]))
            case _:
                other = value
                for key in rng.choice([path for path in places(value) if path]):
                    other = other[key]
                at[path[-1]] = copy.deepcopy(other)
    return value["top"]


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some flipped, cut out, doubled, or put elsewhere."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0 if out:
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            case 1:
                del out[a:b]
            case 2:
                out[a:a] = out[a : min(b, a + 200)]
            case _:
                out[a:a] = rng.choice(
                    [b"\x00", b"{", b"}", b"[", b'"', b",", b":", b"\n", b"- ", b"&a ", b"*a", b"\xff", b"!!x "]
                )
    return bytes(out)


def elsewhere(tmp_path: Path, apart: Path) -> dict[str, str]:
    """Every file under the folder and its hash, but those of one folder and streaming's locks."""
    files = [path for path in tmp_path.rglob("*") if path.is_file() and apart not in (path, *path.parents)]
    files = [path for path in files if not path.name.endswith("_filelock")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def attack(
    write: Callable[[random.Random], None], use: Callable[[], Any], error: type[Exception], seed: int
) -> tuple[int, int]:
    """Writes bad input and uses it, again and again; how often it was refused, and how often accepted."""
    refused = accepted = 0
    for number in range(EACH):
        rng = random.Random(1000 * seed + number)
        write(rng)
        try:
            use()
        except error:
            refused += 1
        except BaseException as caught:
            raise AssertionError(f"input {1000 * seed + number}: {type(caught).__name__}: {caught}") from caught
        else:
            accepted += 1
    assert refused > EACH / 3
    return refused, accepted


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
        run_record(trained, tokenizer=fingerprint(load_tokenizer(trained.model.tokenizer))),
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
