"""The phases outside Composer: a plain torch loop and Hugging Face's Trainer reach the losses of a Composer run."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest

from detour.train import train
from detour.training.run_folder import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
PHASES = [
    {"name": "before", "objective": "mlm", "tokens": 1000},
    {
        "name": "detour",
        "objective": "clm",
        "tokens": 1000,
        "freeze": {"layers": "0"},
        "rope": {"theta": 300.0, "scaling": {"rope_type": "linear", "factor": 2.0}},
    },
    {
        "name": "decay",
        "objective": "mlm",
        "tokens": 1000,
        "options": {"rate": 0.15},
        "optimizer_state": "reset",
        "optimizer": {"betas": [0.8, 0.9], "weight_decay": 0.3, "clip_norm": 0.1},
    },
]


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _examples_import_each_other(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)  # as `python examples/NAME.py` does


@pytest.mark.parametrize("name", ["plain_loop", "hf_trainer"])
def test_a_loop_without_composer_reaches_the_losses_of_the_composer_run(tiny_run, name, monkeypatch):
    # accelerate warns where it is unset in a process that streaming has touched
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tiny_run(phases=PHASES, optimizer={"clip_norm": 0.5})
    losses = example(name).train(run)
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    expected = [line["loss/train/total"] for line in lines if "loss/train/total" in line]
    assert len(losses) == len(expected) >= 12
    assert losses == pytest.approx(expected, abs=1e-6 * max(expected))


def test_the_loop_of_the_tutorial_is_that_of_the_example():
    (shown,) = re.findall(
        r"```python\n(.*?)```", (EXAMPLES.parent / "docs/tutorials/own_loop.md").read_text(), re.DOTALL
    )
    assert textwrap.indent(shown, " " * 8) in inspect.getsource(example("plain_loop").train)


def test_the_plain_loop_has_at_most_forty_lines():
    source = inspect.getsource(example("plain_loop").train)
    assert len(source.splitlines()) <= 40
