"""A command that trains nothing and reads no weights loads none of the libraries that take seconds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detour.evaluation.data.task import load_task

REPOSITORY = Path(__file__).parents[1]
MODELS = {"torch", "transformers", "tokenizers", "composer", "streaming", "datasets", "huggingface_hub", "accelerate"}
HEAVY = MODELS | {"wandb", "pandas", "sklearn", "seqeval", "pyarrow", "scipy", "scipy.stats", "matplotlib"}
PHASES = [{"name": "only", "objective": "mlm", "tokens": 10, "options": {}}]
CONFIG = {"name": "x", "model": {"size": "tiny", "architecture": {}}, "phases": PHASES}


def run_folder(folder: Path) -> str:
    """A run with a checkpoint, without weights: nothing here may look for them."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    line = {"batch": 1, "token": 10, "phase/index": 0, "loss/train/total": 2.0, "lr": 1e-3, "grad_norm": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "environment.json").write_text("{}")
    entry = {"phase": "only", "objective": "mlm", "tokens": 10, "supervised": 3, "flops": 1.0, "device_seconds": 1.0,
             "matmul_flops": 2.0, "steps": 1, "skipped": 0}  # fmt: skip
    fingerprint = {"digest": "ab", "batches": 1, "rows": 4, "stride": 1, "marks": ["ab"]}
    state = {"timestamp": {"batch": 1}, "run": {"config": CONFIG}}
    text = json.dumps({**state, "callbacks": {"Ledger": {"entries": [entry], "fingerprint": fingerprint}}})
    checkpoint = folder / "checkpoints" / f"tokens-{10:015d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(text)
    sums = {"state.json": {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}}
    (checkpoint / "manifest.json").write_text(json.dumps({"files": sums}))
    return str(folder)


def records(folder: Path) -> str:
    """Finished cells of two models."""
    task = load_task("bc5cdr")
    for model in ("one", "two"):
        for seed in (1, 2):
            record = {
                "format": 1, "model": {"name": model, "sha256": model}, "task": json.loads(json.dumps(task, default=vars)),
                "data": {"sha256": "d", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []}, "seed": seed,
                "outcome": {
                    "test": {task.metric: 0.5 + seed / 100}, "validation": {task.metric: 0.5}, "epoch": 1, "seconds": 1.0,
                    "max_length": task.max_length, "truncated": {"train": 0, "dev": 0, "test": 0}, "unreadable": {},
                    "precision": "fp32",
                },
                "environment": {"detour": "0", "commit": None},
            }  # fmt: skip
            path = folder / "cells" / model / task.name / f"seed{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))
    return str(folder)


COMMANDS = {  # -> what it may load all the same: it draws, or it computes quantiles
    "--help": set(),
    "train --help": set(),
    "init --help": set(),
    "verdict --help": set(),
    "--version": set(),
    "eval --help": set(),
    "eval run --help": set(),
    "data pack --help": set(),
    "probe --help": set(),
    "analyze --help": set(),
    "analyze cka --help": set(),
    "data --help": set(),
    "data tokenizer extend --help": set(),
    "plan yamls/base_clm_detour.yaml": set(),
    "eval tasks": set(),
    "eval tasks --suite english": set(),
    "compare {run} {other}": set(),
    "compare {run} {nowhere}": set(),
    "status {run}": set(),
    "status {run}/..": set(),
    "watch {run}": set(),  # it is complete
    "report {run}": {"matplotlib"},
    "report {nowhere}": {"matplotlib"},
    "eval scores {records}": {"scipy"},
    "eval scores {records} --baseline one": {"scipy", "matplotlib"},
    "data verify {rows}": set(),
    "data inspect {rows} --samples 0 --picture {picture}": {"matplotlib"},
    "export {nowhere} --out": set(),  # a command line that is wrong
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_light_command_loads_no_heavy_library(command, corpus, tmp_path):
    places = {
        "run": run_folder(tmp_path / "run"), "other": run_folder(tmp_path / "other"), "nowhere": str(tmp_path / "nowhere"),
        "records": records(tmp_path / "records"), "rows": str(corpus.train), "picture": str(tmp_path / "lengths.png"),
    }  # fmt: skip
    arguments = [part.format(**places) for part in command.split()]
    code = (
        "import sys; from detour.cli.main import main\ncode = 0\n"
        f"try: main({arguments!r})\nexcept SystemExit as exit: code = exit.code or 0\n"
        f"print('LOADED', code, sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    _, exit_code, loaded = line.split(" ", 2)
    expected = {"compare {run} {other}": "3", "export {nowhere} --out": "2"}.get(
        command, "1" if "nowhere" in command else "0"
    )
    assert exit_code == expected, done.stderr
    assert set(yaml.safe_load(loaded)) <= COMMANDS[command]
