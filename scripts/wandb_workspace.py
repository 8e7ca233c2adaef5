"""Saves a Weights & Biases workspace for a run: ``python scripts/wandb_workspace.py RUN.yaml [key=value ...] [--dry-run]``.

Panels by phase and objective, over the tokens trained, from the run's YAML: objectives, boundaries of the phases and validation
folders. Project and entity are those of ``logging``. Needs ``pip install wandb-workspaces`` and a login (``wandb login``);
``--dry-run`` needs neither: it lists the panels and contacts nobody. All runs of the project appear in the workspace, so one is
enough for a detour and its twin.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.config.load import load
from detour.config.schema import RunConfig
from detour.data.validation import names_of
from detour.errors import ConfigError
from detour.scheduled import scheduled
from detour.training.callbacks.eval_loss import BY_FOLDER, SPREAD, TOGETHER

TOKENS = "time/token"  # logged by Composer; the x axis of every panel
TRAIN = "loss/train"


@dataclass(frozen=True)
class Panel:
    """A line plot over tokens.

    Attributes:
        title: Its title.
        keys: Metrics that it draws.
        tokens: First and last token that it shows; None for the whole run.
        log: Whether its y axis is logarithmic.
    """

    title: str
    keys: list[str]
    tokens: tuple[int, int] | None = None
    log: bool = False


def panels(run: RunConfig) -> dict[str, list[Panel]]:
    """The panels of a run, by section. Their keys are the metrics that the run logs, all but Composer's own."""
    trained = list(dict.fromkeys(name for phase in run.phases for name in _losses(phase.objective, phase.options)))
    sets, ends = run.data.validation, run.phase_schedule.boundaries
    evaluated = list(run.evaluation.objectives) if sets else []
    derived = names_of([stream.path for stream in sets])
    folders = [stream.name or name for stream, name in zip(sets, derived, strict=True)]
    drawn = [name for name in evaluated if run.evaluation.mask_draws > 1 and name != "clm"]  # which draws nothing
    changing = list(dict.fromkeys(key for phase in run.phases for key, _ in scheduled(phase.options)))
    found = {
        "Losses by objective": [
            Panel(name, [f"{TRAIN}/{name}"] * (name in trained) + [f"{TOGETHER}/{name}"] * (name in evaluated))
            for name in dict.fromkeys([*trained, *evaluated])
        ],
        "Training loss by phase": [
            Panel(f"{index} {phase.name}: {phase.objective}", [f"{TRAIN}/total"], (ends[index], ends[index + 1]))
            for index, phase in enumerate(run.phases)
        ],
        "Held-out losses by set": [
            Panel(f"{name}: every set", [f"{BY_FOLDER}/{name}/{folder}" for folder in folders])
            for name in evaluated
            if len(folders) > 1
        ]
        + [Panel("Standard deviation over mask draws", [f"{SPREAD}/{name}" for name in drawn])] * bool(drawn),
        "Schedule": [
            Panel("Learning rate", ["lr"]),
            Panel("Phase", ["phase/index"]),
            *(Panel(f"{key} of the objective", [f"phase/{key}"]) for key in changing),
        ],
        "Gradient norm": [Panel("Gradient norm", ["grad_norm"], log=True)],
        "Throughput": [
            Panel("Tokens per second", ["throughput/tokens_per_second"]),
            Panel("MFU", ["throughput/mfu"]),
            Panel("FLOP/s per device", ["throughput/flops_per_second_per_device"]),
            Panel("Peak memory (GB)", ["memory/peak_gigabytes"]),
        ],
        "Totals": [
            Panel("Target tokens", ["tokens/supervised"]),
            Panel("FLOPs", ["flops/total"]),
            Panel("Optimizer steps", ["steps/total"]),
        ],
    }
    return {section: each for section, each in found.items() if each}


def workspace(run: RunConfig) -> Any:
    """The workspace as an object of `wandb_workspaces`; nothing is contacted. Raises ConfigError without that package."""
    try:
        ws = importlib.import_module("wandb_workspaces.workspaces")
        wr = importlib.import_module("wandb_workspaces.reports.v2")
    except ModuleNotFoundError as error:
        raise ConfigError(f"needs the package wandb-workspaces: pip install wandb-workspaces ({error})") from error
    if not run.logging.wandb_project or not run.logging.wandb_entity:
        raise ConfigError(
            "logging.wandb_project and logging.wandb_entity: expected both, as logging.wandb_entity=my-team"
        )
    sections = [
        ws.Section(
            name=section,
            is_open=True,
            panels=[
                wr.LinePlot(title=p.title, x=TOKENS, y=p.keys, range_x=p.tokens or (None, None), log_y=p.log)
                for p in each
            ],
        )
        for section, each in panels(run).items()
    ]
    return ws.Workspace(
        entity=run.logging.wandb_entity,
        project=run.logging.wandb_project,
        name="detour: phases and objectives",
        sections=sections,
        auto_generate_panels=False,
    )


def _losses(objective: str, options: Mapping[str, Any]) -> list[str]:
    """Names under which the training loss of a phase is logged: its objective, or those that take turns."""
    if objective != "alternate":
        return [objective]
    return [name for turn in options["turns"] for name in _losses(turn["objective"], turn.get("options") or {})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="the run's YAML")
    parser.add_argument("overrides", nargs="*", help="key=value, as in detour train")
    parser.add_argument("--dry-run", action="store_true", help="list the panels and contact nobody")
    given = parser.parse_args()
    try:
        run = load(given.config, given.overrides)
        if given.dry_run:
            for section, each in panels(run).items():
                print(section, *(f"  {panel.title}: {', '.join(panel.keys)}" for panel in each), sep="\n")
            return
        print(workspace(run).save().url)
    except ConfigError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
