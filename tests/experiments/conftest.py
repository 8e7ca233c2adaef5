"""A toy experiment: three arms of 12 steps, two training seeds, one task of a few labeled sentences."""

from __future__ import annotations

import json
import os
import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from filelock import FileLock

from detour.cli.main import app
from detour.config.load import to_yaml
from detour.experiments.cells import Plan, plan_experiment
from detour.experiments.config import load_experiment
from detour.experiments.page import write_page

ROOT = Path(__file__).parents[2]
FILE = ROOT / "yamls" / "experiments" / "smoke.yaml"
MLM = {"name": "stable", "objective": "mlm", "tokens": 1500, "options": {"rate": 0.3}}
CLM = {"name": "clm", "objective": "clm", "tokens": 1500}
DECAY = {"name": "decay", "objective": "mlm", "tokens": 500, "options": {"rate": 0.15}}
ARMS = {
    "twin": {"description": "MLM", "changes": {"phases": [MLM, DECAY]}},
    "detour": {"description": "CLM, then MLM", "changes": {"phases": [CLM, DECAY]}},
    "order": {"changes": {"phases": [{**MLM, "tokens": 700}, {**CLM, "tokens": 800}, DECAY]}},
}


@pytest.fixture
def arms() -> dict[str, dict[str, Any]]:
    """The arms of the toy experiment."""
    return ARMS


@pytest.fixture
def toy(tiny_run, tmp_path) -> Callable[..., Path]:
    """A function that writes a toy experiment and returns its YAML; keywords replace its keys."""

    def write(**changes: Any) -> Path:
        run = tiny_run("arm", phases=[MLM, DECAY])
        (tmp_path / "arm.yaml").write_text(to_yaml(run))
        values = {
            "name": "toy",
            "folder": str(tmp_path / "out"),
            "question": "Does <b>it</b> help & how much?",
            "setting": {"model": "a toy", "data": "synthetic cases"},
            "run": "arm.yaml",
            "seeds": [17, 18],
            "baseline": "twin",
            "margin": 5.0,
            "arms": ARMS,
            "finetuning": {
                "tasks": [str(_task(tmp_path))],
                "data": str(tmp_path / "tasks"),
                "seeds": 2,
                "overrides": ["training.epochs=1"],
            },
            "probes": {"linear": [str(tmp_path / "signs.yaml")]},
            "executor": {"parallel": 2},
        }
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**values, **changes}, sort_keys=False))
        return path

    return write


def _task(folder: Path) -> Path:
    rng = random.Random(0)
    data = folder / "tasks" / "signs"
    data.mkdir(parents=True, exist_ok=True)
    for split, count in {"train": 24, "dev": 12, "test": 16}.items():
        lines = []
        for index in range(count):
            label = rng.choice(["fever", "pain"])
            lines.append(
                json.dumps({"id": f"{split}-{index}", "text": f"the patient had {label} today", "label": label})
            )
        (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    path = folder / "signs.yaml"
    described = {
        "name": "signs",
        "language": "en",
        "kind": "classification",
        "source": {"kind": "local", "options": {"path": "signs"}},
        "metric": "accuracy",
        "max_length": 32,
        "license": "none",
        "training": {"learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 8, "epochs": 1},
    }
    path.write_text(yaml.safe_dump(described))
    return path


@pytest.fixture(scope="session")
def smoke_plan() -> Callable[[str], Plan]:
    """A function from a folder, relative to the current one, to the smoke experiment with its results there."""
    return plan_in


@pytest.fixture(scope="session")
def smoke_experiment(tmp_path_factory) -> Path:
    """A folder in which the smoke experiment was run into ``one/smoke``, once for all processes of this test run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / "smoke_experiment"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.syspath_prepend(Path(__file__).parents[2])
                run_here("one")
            (folder / "done").touch()
    return folder


def plan_in(folder: str) -> Plan:
    """The smoke experiment with its results in a folder of the current one."""
    return plan_experiment(load_experiment(FILE, [f"folder={folder}"]))


def run_here(folder: str) -> None:
    """Makes the data in the current folder and runs every job in this process, one after the other."""
    runpy.run_path(str(ROOT / "scripts" / "smoke_data.py"))["main"](out=Path("work/smoke"))
    plan = plan_in(folder)
    plan.write_configurations()
    command = typer.main.get_command(app)
    done: set[str] = set()
    while left := [job for job in plan.jobs if job.name not in done]:
        ready = [job for job in left if set(job.needs) <= done]
        assert ready, f"jobs that wait for one another: {[job.name for job in left]}"
        for job in ready:
            command.main(list(job.arguments), standalone_mode=False)
            assert job.is_done(), job.name
            done.add(job.name)
    write_page(plan)
