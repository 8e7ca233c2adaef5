"""``detour verdict``: whether a detour is worth its cost, by a pilot with a rule that is fixed first."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()
MFU = 0.4  # the default of `detour experiment plan`


@app.command()
def verdict(
    folder: Annotated[
        Path, typer.Argument(help="A folder with detour.yaml, twin.yaml and their rows.", metavar="FOLDER")
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(help="A labeled task that decides: its name or YAML; repeatable. Default: the held-out MLM loss."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the tasks' data. Default: data/tasks.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Training seeds. Default: 3.", min=2)] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Length of a pilot run over that of the planned one. Default: 0.05, or what ten steps take.",
            min=1e-6,
            max=1,
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="A gain below so many points is not worth it. Default: 1.", min=0.01)
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="Make detour and twin equal in: flops (the default) or tokens.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="Jobs at a time. Default: 1.", min=1)] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Write the pilot and show its plan; run nothing.")] = False,
) -> None:
    """Try the detour, its twin and nothing on a small budget with several seeds; say whether to go on.

    The pilot and its rule are written to pilot.yaml first, and then not changed: the same command, without options, continues.
    """
    if match not in (None, "flops", "tokens"):
        raise typer.BadParameter(f"{match!r}, expected flops or tokens", param_hint="--match")
    given = {
        "tasks": [_absolute(each) for each in task] if task else None,
        "data": str(data.resolve()) if data else None,
        "seeds": seeds,
        "share": share,
        "margin": margin,
        "match": match,
        "parallel": parallel,
    }
    _verdict(folder, {key: value for key, value in given.items() if value is not None}, plan_only=plan_only)


def _verdict(folder: Path, chosen: dict[str, Any], *, plan_only: bool) -> None:
    """Writes the pilot if there is none, runs what is left of it, and prints its verdict."""
    from detour.config.load import load
    from detour.console import show
    from detour.cost.plan_table import GPU_TFLOPS
    from detour.errors import ConfigError, DetourError
    from detour.experiments.cells import plan_experiment
    from detour.experiments.config import load_experiment
    from detour.experiments.overview import show_plan
    from detour.experiments.pilot import (
        ARM,
        FILE,
        PilotOptions,
        cost_fraction,
        document_tokens,
        pilot_caveats,
        start_seconds,
        time_estimate,
        write_pilot,
    )
    from detour.experiments.pilot_verdict import verdict_of_pilot
    from detour.experiments.results import read_results
    from detour.experiments.run import run_experiment
    from detour.files import naming, write_json
    from detour.init.machine import cpu_speed

    with naming(folder, ConfigError):
        os.chdir(folder)  # paths in the folder's files are relative to it, here and in the jobs
    file = Path(FILE)
    if file.exists() and chosen:
        raise ConfigError(
            f"{folder / FILE}: exists; its arms, seeds and rule were fixed before its runs. Give no options to continue it, "
            "or remove pilot.yaml, pilot_arm.yaml and pilot/"
        )
    begun = file.exists()
    if not begun:
        write_pilot(Path(), PilotOptions(**chosen))
    try:
        pilot = plan_experiment(load_experiment(file))
    except DetourError:
        if not begun:  # so that the corrected command can write it anew
            for name in (FILE, ARM):
                Path(name).unlink(missing_ok=True)
        raise
    cost = f"Training the pilot costs {cost_fraction(pilot, Path()):.0%} of the FLOPs of the detour and its twin."
    if plan_only:
        on_gpu = any(run.system.device == "gpu" for run in pilot.experiment.runs.values())
        assumed = GPU_TFLOPS * 1e12 * MFU if on_gpu else None
        speed, basis = (assumed, f"{GPU_TFLOPS:g} TFLOP/s and an MFU of {MFU:.0%}") if assumed else cpu_speed()
        show_plan(pilot, document_tokens=document_tokens(load("detour.yaml")), flops_per_second=assumed)
        show(
            cost,
            time_estimate(pilot, flops_per_second=speed, basis=basis, start=start_seconds()),
            *pilot_caveats(pilot),
        )
        return
    page = run_experiment(pilot)
    found = verdict_of_pilot(read_results(pilot))
    write_json(pilot.folder / "verdict.json", asdict(found))
    show(found.sentence, *found.evidence, *pilot_caveats(pilot), cost, str(folder / page))


def _absolute(task: str) -> str:
    """A task's file with its full path; a name as it is."""
    return str(Path(task).resolve()) if Path(task).is_file() else task
