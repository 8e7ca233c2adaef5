"""``detour merge``: merging in weight space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detour.cli.evaluation import DATA, DataRoot, TaskNames
from detour.cli.groups import group

app = group("merge", "Merge encoders, or checkpoints of a run, in weight space.")
FOLDER = "A Hugging Face folder or hub name; name=FOLDER gives a folder a name."
NewFolder = Annotated[Path, typer.Option(help="The new folder.")]


@app.command()
def models(
    folders: Annotated[list[str], typer.Argument(help=FOLDER, metavar="MODEL")],
    out: NewFolder,
    method: Annotated[str, typer.Option(help="linear, slerp, ties, or dare_ties.")] = "linear",
    weights: Annotated[
        str | None, typer.Option(help="One per model, with commas, with sum 1. Default: all equal.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Other weights in some layers (low, mid, late, 0-7), in the embeddings, or in the head; repeatable.",
            metavar="GROUP=WEIGHTS",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model that the others were trained from (ties, dare_ties).")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Fraction of each task vector that is kept (ties, dare_ties). Default: 0.2.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Factor of the merged task vector (ties, dare_ties). Default: 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of what is dropped (dare_ties). Default: 0.")] = None,
) -> None:
    """Merge models of one architecture and tokenizer into a new folder. Configuration and tokenizer are the first's."""
    from detour.errors import ConfigError
    from detour.evaluation.models import resolve
    from detour.files import naming
    from detour.merging.folders import merge_models
    from detour.merging.recipe import TASK_VECTORS, Recipe

    given = {"density": density, "scale": scale, "seed": seed}
    used = (*(("density", "scale") if method in TASK_VECTORS else ()), *(("seed",) if method == "dare_ties" else ()))
    if unused := [name for name, value in given.items() if value is not None and name not in used]:
        raise ConfigError(f"--{unused[0]}: the method '{method}' does not read it")
    groups = dict(_group(text) for text in group or [])
    if len(groups) < len(group or []):
        raise ConfigError("--group: the same group is given twice")
    found = resolve([*folders, *([base] if base else [])])
    parents = found[: len(folders)]
    recipe = Recipe(
        method=method,  # type: ignore[arg-type]  # checked with the number of models
        weights=_numbers("--weights", weights) if weights else (1 / len(parents),) * len(parents),
        groups=groups,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    with naming(out):
        print(merge_models(parents, out, recipe, base=found[-1] if base else None))


@app.command()
def checkpoints(
    run: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    out: NewFolder,
    tokens: Annotated[
        str | None,
        typer.Option(help="Token counts of the checkpoints, with commas. Default: all of the last phase."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="mean, ema:D, one_minus_sqrt, or one number per checkpoint, with commas.")
    ] = "mean",
) -> None:
    """Average checkpoints of a run, and export the average as a Hugging Face folder."""
    from detour.errors import ConfigError
    from detour.files import naming
    from detour.merging.checkpoints import merge_checkpoints

    numbers = _numbers("--tokens", tokens) if tokens is not None else None
    if numbers is not None and not all(number.is_integer() for number in numbers):
        raise ConfigError(f"--tokens {tokens}: expected whole numbers with commas")
    chosen = [int(number) for number in numbers] if numbers is not None else None
    with naming(out):
        factors = merge_checkpoints(run, out, tokens=chosen, weights=weights)
    for at, weight in factors.items():
        print(f"token {at:,}: weight {weight:.4f}")
    print(out)


@app.command()
def sweep(
    start: Annotated[str, typer.Argument(help=FOLDER, metavar="START")],
    end: Annotated[str, typer.Argument(help=FOLDER, metavar="END")],
    out: Annotated[Path, typer.Option(help="Folder for values (JSON, CSV) and figure (PNG, SVG).")],
    text: Annotated[
        list[str] | None,
        typer.Option(help="Held-out texts: JSON or text files, or folders of them; repeatable.", metavar="NAME=FILE"),
    ] = None,
    task: TaskNames = None,
    data: DataRoot = DATA,
    points: Annotated[str, typer.Option(help="Weights of END, ascending from 0, with commas.")] = "0,0.2,0.4,0.6,0.8,1",
    method: Annotated[str, typer.Option(help="linear or slerp.")] = "linear",
    window: Annotated[int, typer.Option(help="Tokens per window.", min=16)] = 512,
    tokens: Annotated[int, typer.Option(help="Use documents of each set up to this many tokens.", min=1)] = 200_000,
) -> None:
    """Measure held-out losses, and probes of --task, at points between two models."""
    from dataclasses import asdict

    from detour.analysis.output import refuse_others, save
    from detour.evaluation.data.dataset import load_dataset
    from detour.evaluation.data.task import load_task
    from detour.evaluation.models import resolve
    from detour.evaluation.probes.held_out_sets import read_sets
    from detour.merging.sweep import draw_sweep
    from detour.merging.sweep import sweep as measure

    sets, at = read_sets(text or []), list(_numbers("--points", points))
    tasks = {found.name: found for found in (load_task(name, []) for name in task or [])}
    loaded = {name: (found, load_dataset(found, data)) for name, found in tasks.items()}
    first, second = resolve([start, end])
    inputs = {
        "models": {model.name: model.sha256 for model in (first, second)},
        "texts": {each.name: each.describe() for each in sets},
        "tasks": {name: dataset.sha256 for name, (_, dataset) in loaded.items()},
    }
    settings = {"points": at, "method": method, "window": window, "tokens": tokens}
    refuse_others(out, "sweep", inputs=inputs, settings=settings)
    rows = measure(first, second, at, sets, tasks=loaded, method=method, window=window, tokens=tokens)  # type: ignore[arg-type]
    table = [asdict(row) for row in rows]
    for path in save(out, "sweep", inputs=inputs, settings=settings, values={"rows": table}, rows=table,
                     draw=lambda: draw_sweep(rows, (first.name, second.name))):  # fmt: skip
        print(path)


def _group(text: str) -> tuple[str, tuple[float, ...]]:
    from detour.errors import ConfigError

    name, equals, numbers = text.partition("=")
    if not equals:
        raise ConfigError(f"--group {text[:60]}: expected GROUP=WEIGHTS, such as low=0.8,0.2")
    return name, _numbers(f"--group {name}", numbers)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from detour.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text[:80]}: expected numbers with commas") from None
