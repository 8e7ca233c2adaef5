"""``detour eval``: fine-tuning on labeled tasks, and its tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detour.cli.cell_progress import reported
from detour.cli.groups import EvalCommands, group
from detour.units import counted

if TYPE_CHECKING:
    from detour.evaluation.data.task import Task
    from detour.jobs import ExecutorConfig

log = logging.getLogger(__name__)
app = group("eval", "Fine-tune encoders on labeled tasks and compare them.", EvalCommands)
DATA = Path("data/tasks")
OVERRIDE = "task."  # what an override of every task begins with, so that no model's name is taken for one
EXECUTOR = "executor."  # and one of the executor
Models = Annotated[
    list[str],
    typer.Argument(help="Hugging Face folders or hub names; name=FOLDER gives a folder a name.", metavar="MODEL"),
]
ModelsAndOverrides = Annotated[
    list[str],
    typer.Argument(
        help="Hugging Face folders or hub names; name=FOLDER gives a folder a name, and ARM@SEED=FOLDER marks it as the run "
        "of an arm with a training seed. Then overrides of every task, "
        "which are recorded: task.training.epochs=1, task.limit.train=200.",
        metavar="MODEL|task.KEY=VALUE",
    ),
]
ModelsAndAllOverrides = Annotated[
    list[str],
    typer.Argument(
        help="Hugging Face folders or hub names; name=FOLDER gives a folder a name, and ARM@SEED=FOLDER marks it as the run "
        "of an arm with a training seed. Then overrides of every task, which are recorded: task.training.epochs=1, "
        "task.limit.train=200; and where cells run: executor.parallel=4, executor.cluster=slurm. Default: in this process, "
        "one after the other.",
        metavar="MODEL|task.KEY=VALUE|executor.KEY=VALUE",
    ),
]
SuiteName = Annotated[
    str | None, typer.Option(help="english, french, all or another suite of `detour eval tasks`; or a YAML file.")
]
TaskNames = Annotated[list[str] | None, typer.Option("--task", help="One task: its name or a YAML file; repeatable.")]
DataRoot = Annotated[Path, typer.Option("--data", help="Folder that the tasks' local paths are relative to.")]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="The model that the others are compared with; or, of models named ARM@SEED, the arm that the other arms are "
        "compared with, over training seeds."
    ),
]
Margin = Annotated[
    float | None, typer.Option(help="Arms are equivalent if they differ by fewer points than this; name it beforehand.")
]


@app.command()
def run(
    models_and_overrides: ModelsAndAllOverrides,
    out: Annotated[Path, typer.Option(help="Folder for records, results and tables.")],
    suite: SuiteName = None,
    task: TaskNames = None,
    data: DataRoot = DATA,
    seeds: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 5,
    first_seed: Annotated[int, typer.Option(help="The first seed; the others count up from it.", min=0)] = 42,
    baseline: Baseline = None,
    margin: Margin = None,
) -> None:
    """Fine-tune encoders on labeled tasks, with several seeds each. Finished runs are skipped."""
    from detour.evaluation import models
    from detour.evaluation import suite as suites
    from detour.evaluation.results.arms import check_comparison

    models.quiet_transformers()
    models_and_overrides, executor = _split_executor(models_and_overrides)
    model, changes = split_overrides(models_and_overrides)
    tasks = chosen_tasks(suite, task, changes)
    log.info("reading %s and %s", counted(len(model), "model"), counted(len(tasks), "task"))
    resolved = models.resolve(model)
    check_comparison([m.name for m in resolved], baseline, margin)
    cells = suites.plan(resolved, tasks, range(first_seed, first_seed + seeds), data_root=data)
    todo = suites.unfinished(cells, out)
    print(
        f"{counted(len(cells), 'cell')} ({counted(len(resolved), 'model')}, {counted(len(tasks), 'task')}, "
        f"{counted(seeds, 'seed')}), {len(todo)} to do",
        flush=True,
    )
    try:
        if executor is None:
            with reported(len(todo)) as begin:
                suites.run(cells, out, begin=begin)
        else:
            from detour.evaluation.jobs import run_as_jobs

            named = [f"{OVERRIDE}{change}" for change in changes] + (["--suite", suite] if suite else [])
            named += [part for name in task or [] for part in ("--task", name)]
            run_as_jobs(cells, out, executor, [*named, "--data", str(data)])
    except KeyboardInterrupt:
        finished = sum(cell.path(out).exists() for cell in cells)
        log.warning("interrupted: %d of %d cells are finished; the same command continues", finished, len(cells))
        raise
    scores(out, baseline, margin)


@app.command(hidden=True)
def cell(
    model_and_overrides: ModelsAndOverrides,
    out: Annotated[Path, typer.Option(help="Folder of the evaluation.")],
    name: Annotated[str, typer.Option(help="The task among the given ones.")],
    seed: Annotated[int, typer.Option(help="The seed.")],
    suite: SuiteName = None,
    task: TaskNames = None,
    data: DataRoot = DATA,
) -> None:
    """Run one cell of an evaluation; the job that `detour eval run` starts with an executor. Writes no tables."""
    from detour.console import Heartbeat
    from detour.errors import ConfigError
    from detour.evaluation import models
    from detour.evaluation import suite as suites

    models.quiet_transformers()
    model, changes = split_overrides(model_and_overrides)
    tasks = [each for each in chosen_tasks(suite, task, changes) if each.name == name]
    if len(model) != 1 or not tasks:
        raise ConfigError(f"a cell has one model and one of the given tasks: got {len(model)} models, and '{name}'")
    alive = Heartbeat(log)
    for each in suites.unfinished(suites.plan(models.resolve(model), tasks, [seed], data_root=data), out):
        suites.run_cell(each, out, lambda done, steps: alive.beat("step %d of %d", done, steps))


def _split_executor(arguments: Sequence[str]) -> tuple[list[str], ExecutorConfig | None]:
    """The arguments without those that begin with ``executor.``, and the executor that these describe, if there are any."""
    from detour.config.load import from_overrides
    from detour.jobs import ExecutorConfig

    chosen = [argument for argument in arguments if argument.startswith(EXECUTOR) and "=" in argument]
    rest = [argument for argument in arguments if argument not in chosen]
    if not chosen:
        return rest, None
    return rest, from_overrides(
        ExecutorConfig, [argument.removeprefix(EXECUTOR) for argument in chosen], source="executor"
    )


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Models, and the overrides of every task without their ``task.``: an argument ``task.KEY=VALUE`` is an override.

    Raises:
        ConfigError: There is no model.
    """
    from detour.errors import ConfigError

    changes = [argument for argument in arguments if argument.startswith(OVERRIDE) and "=" in argument]
    models = [argument for argument in arguments if argument not in changes]
    if not models:
        raise ConfigError("no models: give Hugging Face folders or hub names before the overrides")
    return models, [change.removeprefix(OVERRIDE) for change in changes]


@app.command()
def scores(
    out: Annotated[Path, typer.Argument(help="A folder that `detour eval run` wrote.", metavar="DIR")],
    baseline: Baseline = None,
    margin: Margin = None,
    drop_task: Annotated[
        list[str] | None, typer.Option(help="Leave a task out of the comparison of arms; repeatable.")
    ] = None,
) -> None:
    """Write tables (Markdown, CSV, LaTeX), comparisons and the forest plot from the records in a folder."""
    from detour.evaluation.results.summary import write_summary

    print(write_summary(out, baseline=baseline, margin=margin, drop_tasks=drop_task or ()))


@app.command()
def tasks(
    suite: SuiteName = None,
    data: DataRoot = DATA,
    check: Annotated[bool, typer.Option(help="Read each task's data and count the examples.")] = False,
) -> None:
    """List tasks with their data, metric and license. With --check, exit code 1 if data is missing."""
    from rich.markup import escape
    from rich.table import Column, Table

    from detour.console import Heartbeat, show
    from detour.errors import DetourError
    from detour.evaluation.data.dataset import load_dataset
    from detour.evaluation.data.task import load_suite, load_task, suite_names, task_names
    from detour.evaluation.metrics import title
    from detour.redact import redacted

    listed = load_suite(suite) if suite else [load_task(name) for name in task_names()]
    table = Table(
        "task", "", "kind", "metric", Column("length", justify="right"), "data", "license", title=suite or "all tasks"
    )
    missing, alive = [], Heartbeat(log, seconds=10)
    for task in listed:
        place = str(task.source.options.get("path") or task.source.options.get("name"))
        if check:
            alive.beat("reading the data of %s", task.name)
            try:
                place = " / ".join(f"{count:,}" for count in load_dataset(task, data).counts.values())
            except DetourError as error:
                missing.append(str(error))
                place = "MISSING"
        elif task.credentials:
            place += " (credentials)"
        cells = (task.name, task.language, task.kind, title(task.metric), f"{task.max_length}", place, task.license)
        table.add_row(*(escape(redacted(cell)) for cell in cells))
    show(table, f"suites: {', '.join(suite_names())}", *(redacted(line) for line in missing))
    if missing:
        raise typer.Exit(1)


def chosen_tasks(suite: str | None, names: list[str] | None, changes: list[str] | None) -> list[Task]:
    """The tasks of a suite followed by single tasks, each with the changes applied.

    Raises:
        ConfigError: There are none, one is named twice, or `load_task` refuses one.
    """
    from detour.errors import ConfigError
    from detour.evaluation.data.task import load_suite, load_tasks

    if not suite and not names:
        raise ConfigError("no tasks: give --suite or --task")
    found = load_suite(suite, changes or []) if suite else []
    found += load_tasks(names or [], changes or [])
    if twice := next((t.name for i, t in enumerate(found) if t.name in [other.name for other in found[:i]]), None):
        raise ConfigError(f"task '{twice}': named twice")
    return found
