"""A toy experiment: three arms of 12 steps, two training seeds, one task of a few labeled sentences."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detour.config.load import to_yaml

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
