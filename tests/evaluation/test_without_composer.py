"""Evaluation, models and corpus readers work where composer and streaming are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import importlib, importlib.metadata, json, pkgutil, sys
from pathlib import Path

ABSENT = ("composer", "streaming", "wandb", "torchmetrics")
PACKAGES = ("mosaicml", "mosaicml-streaming", "wandb", "torchmetrics")


class Without:
    # hides the absent packages: libraries that probe for them get None, and imports of them fail

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


real = importlib.metadata.distribution


def distribution(name):
    if name in PACKAGES:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)


sys.meta_path[:] = map(Without, sys.meta_path)
importlib.metadata.distribution = distribution
for name in ABSENT:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} can be imported: nothing is tested")
imported = []
for package in ("detour.evaluation", "detour.models", "detour.corpus.readers"):
    folder = importlib.import_module(package)
    for module in pkgutil.walk_packages(folder.__path__, f"{package}."):
        importlib.import_module(module.name)
        imported.append(module.name)

from detour.cli.main import app
from typer.testing import CliRunner

done = CliRunner().invoke(app, sys.argv[1:], catch_exceptions=False)
assert done.exit_code == 0, done.output
assert not [name for name in ABSENT if name in sys.modules]
print(json.dumps(imported))
"""


def test_a_model_is_evaluated_without_composer_and_streaming(encoder, write_task, made, data_root, tmp_path):
    path = write_task("signs", "classification", made.classification(), training={"batch_size": 32, "epochs": 1})
    out = tmp_path / "out"
    call = ["eval", "run", f"detour={encoder}", "--task", str(path), "--data", str(data_root), "--seeds", "1"]
    command = [sys.executable, "-c", PROGRAM, *call, "--out", str(out)]
    left_by_composer = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # where the caller has trained
    environment = {**os.environ, **left_by_composer}
    environment.pop("MASTER_ADDR", None)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert {"detour.evaluation.suite", "detour.evaluation.finetune.heads", "detour.corpus.readers.brat"} <= set(
        imported
    )
    record = json.loads((out / "cells" / "detour" / "signs" / "seed42.json").read_text())
    assert record["environment"]["mosaicml"] is None
    assert "accuracy" in record["outcome"]["test"]
