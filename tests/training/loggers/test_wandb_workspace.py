"""The W&B workspace draws what a run logs, and TensorBoard is given the same metrics as W&B. No server is contacted."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from detour.config.load import load, to_yaml
from detour.errors import ConfigError
from detour.train import train
from detour.training.run_folder import RunFolder

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "wandb_workspace.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def run(tiny_run, corpus, phase_folders):
    """Four phases, a scheduled option, objectives in turn, two validation sets and two mask draws; W&B and TensorBoard."""
    turns = [{"objective": "clm"}, {"objective": "mntp"}]
    return tiny_run(
        phases=[
            {"name": "warm", "objective": "mlm", "tokens": 500, "options": {"rate": {"from": 0.4, "to": 0.2}}},
            {"name": "detour", "objective": "clm", "tokens": 500},
            {"name": "turns", "objective": "alternate", "tokens": 600, "options": {"turns": turns}},
            {"name": "decay", "objective": "mlm", "tokens": 500, "options": {"rate": 0.15}},
        ],
        data={"validation": [{"path": str(corpus.validation)}, {"path": phase_folders["domain"], "name": "domain"}]},
        evaluation={"interval_tokens": 1000, "rows": 4, "mask_draws": 2},
        logging={"wandb_project": "test"},
        loggers={"tensorboard": {"flush_interval": 1}},
    )


@pytest.fixture
def logged(run, monkeypatch):
    """Trains the run; step and metric as given to W&B and to TensorBoard, by stand-ins of both packages."""
    given: dict[str, list[tuple[str, int]]] = {"wandb": [], "tensorboard": []}

    class SummaryWriter:
        def __init__(self, **options: Any) -> None: ...

        def add_scalar(self, tag: str, value: Any, global_step: int) -> None:
            given["tensorboard"].append((tag, global_step))

        def __getattr__(self, name: str):
            return lambda *arguments, **options: None  # add_hparams, flush, close

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("composer.loggers.TensorboardLogger._flush", lambda *_: None)  # it uploads the file
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    import wandb

    fake = SimpleNamespace(entity="", project="", dir="", id="", get_url=lambda: "")
    monkeypatch.setattr(wandb, "init", lambda **options: fake)
    monkeypatch.setattr(wandb, "run", fake)
    monkeypatch.setattr(wandb, "finish", lambda **options: None)
    monkeypatch.setattr(wandb, "config", SimpleNamespace(update=lambda values: None))
    monkeypatch.setattr(wandb, "log", lambda metrics, step: given["wandb"].extend((key, step) for key in metrics))
    train(run)
    return given


def test_the_panels_draw_all_that_a_run_logs_and_tensorboard_gets_what_wandb_gets(script, run, logged):
    drawn = {key for each in script["panels"](run).values() for panel in each for key in panel.keys}
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    assert drawn == {key for line in lines for key in line} - {"batch", "token"}
    assert {key for key, _ in logged["wandb"]} >= drawn | {script["TOKENS"]}
    numbers = [(key, step) for key, step in logged["wandb"] if key in drawn]
    assert len(numbers) > 100
    assert [(key, step) for key, step in logged["tensorboard"] if key in drawn] == numbers


def test_phases_are_panels_over_their_tokens(script, run):
    assert [(p.title, p.tokens) for p in script["panels"](run)["Training loss by phase"]] == [
        ("0 warm: mlm", (0, 500)),
        ("1 detour: clm", (500, 1000)),
        ("2 turns: alternate", (1000, 1600)),
        ("3 decay: mlm", (1600, 2100)),
    ]
    losses = {p.title: p.keys for p in script["panels"](run)["Losses by objective"]}
    assert losses == {
        "mlm": ["loss/train/mlm", "loss/eval/mlm"],
        "clm": ["loss/train/clm", "loss/eval/clm"],
        "mntp": ["loss/train/mntp"],
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pydantic, in the library
def test_the_library_makes_a_line_plot_of_each_panel(script):
    pytest.importorskip("wandb_workspaces")
    found = load(ROOT / "yamls" / "base_clm_detour.yaml", ["logging.wandb_entity=a-team"])
    saved = json.loads(script["workspace"](found)._to_model().model_dump_json(by_alias=True))
    sections = saved["spec"]["section"]["panelBankConfig"]["sections"]
    panels = script["panels"](found)
    assert [section["name"] for section in sections] == list(panels)
    assert (saved["entity"], saved["project"]) == ("a-team", "detour")
    for section, each in zip(sections, panels.values(), strict=True):
        configs = [panel["config"] for panel in section["panels"]]
        assert [config["metrics"] for config in configs] == [panel.keys for panel in each]
        assert {config["xAxis"] for config in configs} == {"time/token"}


def test_the_script_lists_its_panels_without_the_package(script, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setattr(sys, "argv", ["wandb_workspace.py", str(tmp_path / "run.yaml"), "--dry-run"])
    script["main"]()
    assert "  Learning rate: lr\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", sys.argv[:-1])
    with pytest.raises(SystemExit) as exit:
        script["main"]()
    assert exit.value.code == 1
    assert "error: needs the package wandb-workspaces: pip install wandb-workspaces" in capsys.readouterr().err


def test_a_workspace_needs_a_project_and_an_entity(script, run, monkeypatch):
    empty = ModuleType("empty")
    for name in ("workspaces", "reports", "reports.v2"):
        monkeypatch.setitem(sys.modules, f"wandb_workspaces.{name}", empty)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", empty)
    with pytest.raises(ConfigError, match=r"expected both, as logging\.wandb_entity=my-team"):
        script["workspace"](run)
