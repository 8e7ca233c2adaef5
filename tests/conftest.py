"""A temporary folder for each test, and a tiny corpus with the runs that train on it."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# no test may wait for a network or depend on one; huggingface_hub reads this when it is imported
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import zstandard
from hypothesis import HealthCheck, settings

from data_prep.synthetic import RELATIONS, generate, pairs
from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from detour.corpus.pack import pack_corpus
from detour.corpus.pack_pairs import pack_pairs
from detour.data.tokenizer import train_bpe

# importing ModernBERT's classes otherwise starts a pool of compile workers, in this process and in each that tests start
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

pytest_plugins = ["tests.fault_table", "tests.processes", "tests.slurm_stub"]

# how long an example takes says something about the machine, not about the code
settings.register_profile("detour", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("detour")


@pytest.fixture(autouse=True)
def _streaming_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives each test its own folder for file locks, and runs streaming's exit handlers when the test ends.

    Otherwise shared memory piles up until the process ends, and since each new dataset opens all of it to find a free
    name, files run out. `clean_stale_shared_memory` is no remedy: it also unlinks what other live runs use. The marks that
    show shared memory to be in use are released with it, also where something still refers to the dataset.
    """
    folder = tempfile.mkdtemp(
        prefix="d-"
    )  # short: loader processes make sockets in it, whose paths have 108 bytes at most
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", None)
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("streaming.base.shared.memory.atexit", SimpleNamespace(register=at_exit.append))

    def finalize(*arguments: Any) -> None:
        at_exit.append(weakref.finalize(*arguments))

    monkeypatch.setattr("detour.data.shared_memory.weakref", SimpleNamespace(finalize=finalize))
    yield
    if at_exit:
        gc.collect()  # loaders first, with their workers
    for clean_up in at_exit:
        clean_up()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the time limit, too
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Under pytest-xdist, a test marked `alone` waits for those of the other processes to end, and they for it."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder, alone = Path(item.config.option.basetemp).parent, item.get_closest_marker("alone")
    with (folder / "queue.lock").open("w") as queue, (folder / "running.lock").open("w") as running:
        fcntl.flock(queue, fcntl.LOCK_EX)  # new tests wait behind the one that waits to be alone
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        return (yield)


def pytest_collection_finish() -> None:
    """What was imported until now stays: the collection after each test need not look through it, which takes 0.4 s."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: looks at what all processes share, as /dev/shm; no test runs beside it")
    config.addinivalue_line("markers", "trains: asserts what a training reached; see scripts/cpu_settings.py")


@pytest.fixture(scope="session", autouse=True)
def _compiled_code_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Torch keeps the first folder for compiled code that it sees; that of a single test would be gone in the next one."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors gain nothing from more, and lose much where cores are shared. scripts/cpu_settings.py tries two."""
    torch.set_num_threads(int(os.environ.get("DETOUR_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def test_seed() -> int:
    """Of the data and of the draws in tests that train: 0, or what scripts/cpu_settings.py tries."""
    return int(os.environ.get("DETOUR_TEST_SEED", "0"))


@dataclass(frozen=True)
class Corpus:
    """Where the tiny corpus lies."""

    tokenizer: Path
    train: Path
    validation: Path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60 synthetic cases as rows of 64 tokens, under a tokenizer of 600."""
    root = tmp_path_factory.mktemp("corpus")
    records = list(generate(documents=60, seed=3))
    train_bpe((record["text"] for record in records), vocab_size=600).save_pretrained(root / "tokenizer")
    for name, part in {"train": records[:50], "validation": records[50:]}.items():
        lines = "".join(json.dumps(record) + "\n" for record in part)
        (root / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
        pack_corpus([root / f"{name}.jsonl.zst"], tokenizer=str(root / "tokenizer"), out=root / name, seq_len=64)
    return Corpus(tokenizer=root / "tokenizer", train=root / "train", validation=root / "validation")


@pytest.fixture
def tiny_run(corpus: Corpus, tmp_path: Path) -> Callable[..., RunConfig]:
    """A function that gives a run of 12 steps, MLM -> CLM -> MLM, four steps each; keywords replace whole sections' keys.

    ``tiny_run("name", data={"workers": 2}, phases=[...])``.
    """

    def make(name: str = "run", **sections) -> RunConfig:
        values = {
            "name": name,
            "folder": str(tmp_path / "runs"),
            "model": {
                "size": "tiny",
                "tokenizer": str(corpus.tokenizer),
                "architecture": {
                    "vocab_size": 600,
                    "hidden_size": 32,
                    "intermediate_size": 48,
                    "num_hidden_layers": 3,
                    "local_attention": 16,
                },
            },
            "data": {
                "train": [{"path": str(corpus.train)}],
                "validation": [{"path": str(corpus.validation)}],
                "seq_len": 64,
                "global_batch_size": 4,
                "micro_batch_size": 2,
                "workers": 0,
            },
            "phases": [
                {"name": "before", "objective": "mlm", "tokens": 1000},
                {"name": "detour", "objective": "clm", "tokens": 1000},
                {"name": "decay", "objective": "mlm", "tokens": 1000, "options": {"rate": 0.15}},
            ],
            "schedule": {"peak_lr": 1e-3, "final_lr": 1e-4, "warmup_tokens": 500, "decay_phase": "decay"},
            "checkpoint": {"interval_tokens": 1_000_000, "keep": 100},
            "evaluation": {"interval_tokens": 1_000_000, "rows": 4},
            "logging": {"progress_bar": False},
        }
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes} if isinstance(changes, dict) else changes
        return from_mapping(values)

    return make


@pytest.fixture(scope="session")
def phase_folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Rows of 64 tokens in two folders, and of 128 in a third, all under one tokenizer."""
    root, found = tmp_path_factory.mktemp("phases"), {"general": str(corpus.train)}
    for name, seed, seq_len in (("domain", 11, 64), ("long", 12, 128)):
        lines = "".join(json.dumps(record) + "\n" for record in generate(documents=40, seed=seed))
        (root / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
        pack_corpus([root / f"{name}.jsonl.zst"], tokenizer=str(corpus.tokenizer), out=root / name, seq_len=seq_len)
        found[name] = str(root / name)
    return found


@pytest.fixture
def phased_run(tiny_run: Callable[..., RunConfig], phase_folders: dict[str, str]) -> Callable[..., RunConfig]:
    """A function that gives a run of five phases that differ in objective, folders, row length and batch size.

    ``changes`` are keys of phases by their names.
    """

    def make(name: str, *, workers: int = 0, changes: Mapping[str, dict] | None = None, **sections) -> RunConfig:
        mixture = [
            {"path": phase_folders["general"], "proportion": 0.25},
            {"path": phase_folders["domain"], "proportion": 0.75},
        ]
        long = {
            "train": [{"path": phase_folders["long"]}],
            "seq_len": 128,
            "global_batch_size": 2,
            "micro_batch_size": 1,
        }
        phases = [
            {"name": "general", "objective": "mlm", "tokens": 900},
            {"name": "mixture", "objective": "clm", "tokens": 900, "data": {"train": mixture}},
            {"name": "long", "objective": "mlm", "tokens": 1000, "data": long},
            {
                "name": "wide",
                "objective": "clm",
                "tokens": 1500,
                "data": {"global_batch_size": 6, "micro_batch_size": 3},
            },
            {"name": "again", "objective": "mlm", "tokens": 500, "data": {"restart": True}},
        ]
        phases = [{**phase, **(changes or {}).get(str(phase["name"]), {})} for phase in phases]
        values = {
            "phases": phases,
            "schedule": {"decay_phase": "again"},
            "checkpoint": {"interval_tokens": 600},
            "data": {"workers": workers},
        }
        return tiny_run(name, **(values | sections))

    return make


@pytest.fixture(scope="session")
def pair_rows(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> str:
    """150 pairs of terms of the synthetic table, as rows of 48 tokens."""
    root = tmp_path_factory.mktemp("pairs")
    (root / "pairs.jsonl").write_text("".join(json.dumps(p._asdict()) + "\n" for p in pairs(count=150, seed=5)))
    pack_pairs([root / "pairs.jsonl"], tokenizer=corpus.tokenizer, out=root / "rows", seq_len=48)
    return str(root / "rows")


@pytest.fixture(scope="session")
def held_out_pairs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 other pairs, in the same kind of rows."""
    root = tmp_path_factory.mktemp("held_out_pairs")
    (root / "pairs.jsonl").write_text("".join(json.dumps(p._asdict()) + "\n" for p in pairs(count=40, seed=6)))
    pack_pairs([root / "pairs.jsonl"], tokenizer=corpus.tokenizer, out=root / "rows", seq_len=48)
    return str(root / "rows")


@pytest.fixture
def streamed_run(tiny_run: Callable[..., RunConfig], pair_rows: str) -> Callable[..., RunConfig]:
    """A function that gives a run: MLM; then two MLM steps and one of pairs in turn, of other rows in other batches; then MLM.

    ``micro`` are the micro-batch sizes of the text and of the pairs.
    """

    def make(
        name: str, *, workers: int = 0, phases: list | None = None, micro: tuple[int, int] = (2, 3), **sections
    ) -> RunConfig:
        stream = {"train": [{"path": pair_rows}], "seq_len": 48, "global_batch_size": 6, "micro_batch_size": micro[1]}
        classes = {"objective": "pair_classification", "options": {"classes": sorted(RELATIONS)}}
        turns = {"turns": [{"objective": "mlm", "steps": 2}, classes]}
        middle = {
            "name": "ontology",
            "objective": "alternate",
            "tokens": 2000,
            "options": turns,
            "streams": {"pairs": stream},
        }
        phases = phases or [
            {"name": "before", "objective": "mlm", "tokens": 900},
            middle,
            {"name": "decay", "objective": "mlm", "tokens": 900},
        ]
        data = {"workers": workers, "micro_batch_size": micro[0]}
        checkpoint = {"interval_tokens": 600, "keep": 100}
        return tiny_run(name, phases=phases, data=data, checkpoint=checkpoint, **sections)

    return make
