"""``detour experiment``: several arms and training seeds, from training to one page."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detour.cli.groups import group

if TYPE_CHECKING:
    from detour.experiments.cells import Plan

log = logging.getLogger(__name__)
app = group("experiment", "Train, evaluate and compare the arms of an experiment.")
File = Annotated[Path, typer.Argument(help="The experiment's YAML.", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Overrides: seeds=[17], finetuning.seeds=1, executor.parallel=4.", metavar="KEY=VALUE"),
]


@app.command()
def plan(
    file: File,
    overrides: Overrides = None,
    document_tokens: Annotated[
        float | None, typer.Option(help="Mean document length in tokens. Default: the row length.", min=1)
    ] = None,
    peak_tflops: Annotated[float, typer.Option(help="Peak matmul throughput of one GPU, in TFLOP/s.")] = 790.0,
    mfu: Annotated[
        float, typer.Option(help="Fraction of the peak that training is assumed to reach.", min=0.01, max=1)
    ] = 0.4,
) -> None:
    """Show the runs, what they share, tokens, FLOPs, GPU-hours and disk space. Needs no data, GPU or network."""
    from detour.experiments.overview import show_plan

    show_plan(_plan(file, overrides), document_tokens=document_tokens, flops_per_second=peak_tflops * 1e12 * mfu)


@app.command()
def run(file: File, overrides: Overrides = None) -> None:
    """Do everything that is not done yet, then write the page. The same command continues after any interruption."""
    from detour.experiments.run import run_experiment

    print(run_experiment(_plan(file, overrides)))


@app.command()
def status(file: File, overrides: Overrides = None) -> None:
    """Show how many jobs of each kind are done and left, and how far each run has come."""
    from detour.experiments.overview import show_status

    plan = _plan(file, overrides)
    show_status(plan)
    if not plan.folder.exists():
        print(
            f"nothing has run yet: {plan.folder.absolute()} does not exist (paths are relative to the current folder)"
        )


@app.command()
def report(file: File, overrides: Overrides = None) -> None:
    """Write the page from what is done so far."""
    from detour.experiments.page import write_page

    print(write_page(_plan(file, overrides)))


@app.command()
def index(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of experiments that have a page, or these pages' folders.", metavar="DIR"),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write; links are relative to it.")],
) -> None:
    """Write one page that lists experiments: question, state, verdicts in words, cost, and a link to each page."""
    from detour.experiments.index import write_index

    print(write_index(folders, out))


def _plan(file: Path, overrides: list[str] | None) -> Plan:
    from detour.experiments.cells import plan_experiment
    from detour.experiments.config import load_experiment

    return plan_experiment(load_experiment(file, overrides or []))
