"""Damaged and hostile tasks, suites, labeled data, records and tokenizers, at random: one clear error or none.

Seeds are the parameters: a failure names the one that repeats it.
"""

from __future__ import annotations

import json
import random
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from detour.corpus.readers.csv import Csv
from detour.corpus.text import Columns, ReadReport
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, vocab_of
from detour.errors import ConfigError, DataError, DetourError
from detour.evaluation import suite
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import load_suite, load_task
from detour.evaluation.finetune.finetune import Outcome
from detour.evaluation.models import Model
from detour.evaluation.results.summary import write_summary
from detour.report.run_history import read_run

FUZZING = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fuzzing.py"))))
SEEDS, attack, bent, elsewhere, spoilt = (
    getattr(FUZZING, name) for name in ("SEEDS", "attack", "bent", "elsewhere", "spoilt")
)
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
TASK = {
    "name": "mine", "language": "en", "kind": "ner", "metric": "span_micro_f1", "license": "CC0", "note": "a note",
    "labels": ["X", "Y"], "negative_label": None, "max_length": 64, "credentials": None,
    "source": {"kind": "local", "options": {"path": "mine", "columns": {"tags": "ner_tags"}, "files": {}}},
    "split": {"fractions": [], "seed": 1}, "limit": {"train": 0, "dev": 1, "test": 0},
    "training": {"learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "head": "linear", "class_weights": False},
}  # fmt: skip
TEXT = "Acute pain.\nNo fever, aspirin\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inputs").mkdir()
    return tmp_path / "inputs"


def either(values, rng: random.Random, dump) -> bytes:
    """The values bent, or their file spoilt."""
    return spoilt(dump(values).encode(), rng) if rng.random() < 0.4 else dump(bent(values, rng)).encode()


@pytest.mark.faults(11, "fuzzed tasks and suites")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_tasks_are_refused_clearly_or_are_tasks(folder, tmp_path, seed):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        record = {"id": split, "tokens": ["a", "b"], "ner_tags": ["B-X", "B-Y"]}
        (tmp_path / "data" / "mine" / f"{split}.jsonl").write_text(json.dumps(record))
    path, before = folder / "task.yaml", elsewhere(tmp_path, folder)

    def write(rng: random.Random) -> None:
        path.write_bytes(either(TASK, rng, yaml.safe_dump))

    def use() -> None:
        task = load_task(path)
        model = Model(name="m", folder=tmp_path, sha256="0")
        cell = suite.Cell(model=model, task=task, data=load_dataset(task, tmp_path / "data"), seed=1)
        assert cell.path(folder).resolve().parents[2] == folder / "cells"
        json.dumps(cell.identity, ensure_ascii=False).encode()

    attack(write, use, DetourError, seed)
    assert elsewhere(tmp_path, folder) == before


@pytest.mark.faults(11, "fuzzed tasks and suites")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_suites_are_refused_clearly_or_are_suites(folder, tmp_path, seed):
    (folder / "mine.yaml").write_text(yaml.safe_dump(TASK))
    values, path = {"include": ["french", "other.yaml"], "tasks": ["mine.yaml", "bc5cdr"]}, folder / "suite.yaml"
    (folder / "other.yaml").write_text(yaml.safe_dump({"tasks": ["pubmedqa"]}))
    attack(
        lambda rng: path.write_bytes(either(values, rng, yaml.safe_dump)), lambda: load_suite(path), ConfigError, seed
    )


def brat() -> dict[str, str]:
    return {
        "train/d.txt": TEXT,
        "train/d.ann": "T1\tX 0 10\tAcute pain\nR1\tA Arg1:T1\nT2\tY 22 29;0 5\taspirin Acute\n#1\tn\n",
    }


def bioc_json() -> dict[str, str]:
    annotation = {"infons": {"type": "X"}, "text": "pain", "locations": [{"offset": 6, "length": 4}]}
    sentences = [{"offset": 0, "text": TEXT[:11], "annotations": [annotation]}, {"offset": 12, "text": TEXT[12:]}]
    passages = [{"offset": 0, "text": TEXT, "annotations": [annotation]}, {"offset": 0, "sentences": sentences}]
    return {"t.json": json.dumps({"documents": [{"id": "d", "passages": passages}]})}


def bioc_xml() -> dict[str, str]:
    said = '<annotation><infon key="type">X</infon><location offset="6" length="4"/><text>pain</text></annotation>'
    body = f"<passage><offset>0</offset><text>{TEXT}</text>{said}</passage>"
    body += f"<passage><offset>0</offset><sentence><offset>0</offset><text>{TEXT}</text>{said}</sentence></passage>"
    return {"t.xml": f"<?xml version='1.0'?><collection><document><id>d</id>{body}</document></collection>"}


READERS = {  # name -> files, options
    "brat": (brat, {"folders": {"train": "train"}}),
    "bioc json": (bioc_json, {"files": {"train": "t.json"}}),
    "bioc xml": (bioc_xml, {"files": {"train": "t.xml"}}),
    "conll": (lambda: {"t.tsv": "-DOCSTART- O\n\na\tB-X\nb\tI-X\n\nc\tO\n"}, {"files": {"train": "t.tsv"}}),
    "pubtator": (
        lambda: {"t.txt": "7|t|Acute pain\n7|a|No fever\n7\t0\t10\tAcute pain\tX\tD1\n7\tCID\tD1\tD2\n"},
        {"files": {"train": "t.txt"}},
    ),
    "local": (lambda: {"train.jsonl": json.dumps({"id": "1", "tokens": ["a", "b"], "ner_tags": ["B-X", "I-X"]})}, {}),
    "local table": (lambda: {"train.csv": 'id,tokens,ner_tags,text,label\n1,a,b,"c, d",X\n2,a,b,e,Y\n3,a,b,f,X\n'}, {}),
    "local task.json": (lambda: {"task.json": json.dumps({"name": "m", "labels": ["X"], "entity_types": ["X"]})}, {}),
}


@pytest.mark.faults(10, "fuzzed labeled data: brat, BioC, CoNLL, PubTator, JSON lines, tables")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_labeled_data_is_refused_clearly_or_read(folder, tmp_path, name, seed):
    made, options = READERS[name]
    files = made()
    values = TASK | {
        "source": {"kind": name.split()[0], "options": {"path": "x", **options}},
        "split": {"fractions": [0.4, 0.3, 0.3]} if "task.json" not in name else {}, "labels": [], "limit": {},
    }  # fmt: skip
    if "table" in name:
        values |= {"kind": "classification", "metric": "accuracy"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(values))
    task, before = load_task(tmp_path / "task.yaml"), elsewhere(tmp_path, folder)
    if "task.json" in name:
        for split in ("train", "dev", "test"):
            files[f"{split}.jsonl"] = json.dumps({"id": split, "tokens": ["a"], "ner_tags": ["B-X"]})

    def write(rng: random.Random) -> None:
        shutil.rmtree(folder / "x", ignore_errors=True)
        victim = "task.json" if "task.json" in name else rng.choice(sorted(files))
        for file, text in files.items():
            (folder / "x" / file).parent.mkdir(parents=True, exist_ok=True)
            data = text.encode()
            if file == victim:
                is_json = file.endswith(("json", "jsonl")) and rng.random() < 0.6
                data = json.dumps(bent(json.loads(text), rng)).encode() if is_json else spoilt(data, rng)
            (folder / "x" / file).write_bytes(data)

    attack(write, lambda: load_dataset(task, folder), DataError, seed, least_refused=0.2)
    assert elsewhere(tmp_path, folder) == before


@pytest.fixture
def records(folder):
    """A folder of two records, as `detour eval` leaves it."""
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(TASK))
    task = load_task(path)
    outcome = Outcome(
        test={"span_micro_f1": 0.5}, validation={"span_micro_f1": 0.5}, epoch=1, curve=[0.5], max_length=64,
        truncated={"train": 2, "dev": 0, "test": 0}, windows={}, unreadable={"test": 1}, steps=1, seconds=0.1,
        precision="fp32", predictions=["x"],
    )  # fmt: skip
    data = SimpleNamespace(sha256="d", counts={"train": 3, "dev": 1, "test": 1}, labels=["O", "B-X", "I-X"])
    for seed in (1, 2):
        cell = suite.Cell(model=Model(name="m", folder=folder, sha256="0"), task=task, data=data, seed=seed)  # type: ignore[arg-type]
        fields = {key: value for key, value in vars(outcome).items() if key != "predictions"}
        record = {"format": 1, **cell.identity, "outcome": fields, "environment": {"detour": "1", "commit": None}}
        suite.write_text(cell.path(folder), json.dumps(record))
    write_summary(folder)
    return folder


@pytest.mark.faults(11, "fuzzed records of cells")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_records_of_cells_are_refused_clearly_or_summed_up(records, tmp_path, seed):
    path = records / "cells" / "m" / "mine" / "seed1.json"
    values = json.loads(path.read_text())
    before = elsewhere(tmp_path, records)
    attack(
        lambda rng: path.write_bytes(either(values, rng, json.dumps)), lambda: write_summary(records), DetourError, seed
    )
    assert elsewhere(tmp_path, records) == before
    assert sorted(p.name for p in records.iterdir()) == [
        "cells", "results.csv", "results.jsonl", "scores.csv", "scores.md", "scores.tex", "summary.md", "task.yaml",
    ]  # fmt: skip


LINES = [
    {"batch": n, "token": 100 * n, "loss/train/mlm": 3.0, "loss/train/total": 3.0, "phase/index": 0, "lr": 1e-3,
     "tokens/supervised": 30 * n, "flops/total": 1e6 * n, "steps/total": n, "throughput/tokens_per_second": 9.0}
    for n in (1, 2, 3)
] + [{"batch": 3, "token": 300, "loss/eval/mlm": 2.9}]  # fmt: skip
ENTRY = {
    "phase": "p",
    "objective": "mlm",
    "tokens": 100,
    "supervised": 30,
    "flops": 1e6,
    "device_seconds": 1.0,
    "matmul_flops": 2e6,
    "steps": 1,
    "skipped": 0,
}
STATE = {"timestamp": {"batch": 1}, "callbacks": {"Ledger": {"entries": [ENTRY]}}, "run": {}}
RUN = {
    "config.yaml": {"name": "r", "optimizer": {"clip_norm": 1.0}, "phases": [{"name": "p", "objective": "mlm", "tokens": 400}]},
    "metrics.jsonl": LINES,
    "environment.json": {"detour": "1", "processes": 1},
    "checkpoints/tokens-000000000000100/state.json": STATE,
}  # fmt: skip


@pytest.mark.faults(11, "fuzzed metrics, ledgers, configurations and environments of a run folder")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_run_folders_are_refused_clearly_or_read(folder, tmp_path, seed):
    dumps = {file: yaml.safe_dump if file.endswith("yaml") else json.dumps for file in RUN}
    dumps["metrics.jsonl"] = lambda lines: (
        "\n".join(map(json.dumps, lines)) if isinstance(lines, list) else json.dumps(lines)
    )
    before = elsewhere(tmp_path, folder)

    def write(rng: random.Random) -> None:
        victim = rng.choice(sorted(RUN))
        for file, values in RUN.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            data = either(values, rng, dumps[file]) if file == victim else dumps[file](values).encode()
            (folder / file).write_bytes(data)

    attack(
        write, lambda: read_run(folder), DetourError, seed, least_refused=0.02
    )  # most of it is passed over, with a note
    assert elsewhere(tmp_path, folder) == before


@pytest.mark.faults(10, "fuzzed tokenizers")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_tokenizers_are_refused_clearly_or_encode(corpus, folder, tmp_path, seed):
    whole = {path.name: json.loads(path.read_text()) for path in corpus.tokenizer.glob("*.json")}
    before = elsewhere(tmp_path, folder)

    def write(rng: random.Random) -> None:
        victim = rng.choice(sorted(whole))
        for name, values in whole.items():
            (folder / name).write_bytes(
                either(values, rng, json.dumps) if name == victim else json.dumps(values).encode()
            )

    def use() -> None:
        tokenizer = load_tokenizer(folder)
        tokenizer_sha256(tokenizer)
        vocab_of(tokenizer)

    attack(write, use, DataError, seed, least_refused=0.02)
    assert elsewhere(tmp_path, folder) == before


@pytest.mark.faults(10, "fuzzed tables of a corpus")
@pytest.mark.parametrize("seed", SEEDS)
def test_fuzzed_tables_are_refused_clearly_or_read(folder, tmp_path, seed):
    text = b'id,text,license\n1,"a, b",CC0\n2,"two\nlines",\n3,three,MIT\n'
    path = folder / "t.csv"
    before = elsewhere(tmp_path, folder)

    def use() -> None:
        for unit in Csv().input_files([str(path)]):
            for document in Csv().read(unit, Columns(), ReadReport()):
                document.text.encode()

    attack(lambda rng: path.write_bytes(spoilt(text, rng)), use, DataError, seed, least_refused=0)
    assert elsewhere(tmp_path, folder) == before
