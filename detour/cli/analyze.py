"""``detour analyze``: similarity, weight change and transplants of exported folders, and curves over probe scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detour.cli.analyze_scores import app as score_commands
from detour.cli.evaluation import DATA, DataRoot, TaskNames
from detour.cli.groups import group

if TYPE_CHECKING:
    from detour.analysis.representations import TextSet
    from detour.analysis.similarity import Settings
    from detour.evaluation.models import Model

app = group("analyze", "Analyze exported encoders: layer similarity, weight change, transplants, probe curves.")
OUT = "Folder for values (JSON, CSV) and figure (PNG, SVG). A result of other inputs is not overwritten."
FOLDER = "A Hugging Face folder or hub name; name=FOLDER gives a folder a name."
Out = Annotated[Path, typer.Option(help=OUT)]
Texts = Annotated[
    list[Path] | None, typer.Option(help="JSON Lines or text files, or folders of them; repeatable.", metavar="FILE")
]
Column = Annotated[str, typer.Option(help="Key of the text in JSON Lines.")]
Subset = Annotated[int | None, typer.Option(help="Texts per draw. Default: all texts, once.", min=4)]
Draws = Annotated[str, typer.Option(help="Seeds of the subset draws.")]
MaxLength = Annotated[int, typer.Option(help="Longest input in tokens.", min=2)]
Batch = Annotated[int, typer.Option(help="Texts per forward pass.", min=1)]
Factor = Annotated[
    float, typer.Option(help="A dimension is an outlier if its variance exceeds this many times the median.")
]
Minibatch = Annotated[
    int | None,
    typer.Option(help="Stream over minibatches of this many texts, in constant memory (unbiased only).", min=4),
]
Paper = Annotated[bool, typer.Option("--paper/--no-paper", help="Draw the paper's curves behind.")]


@app.command()
def cka(
    a: Annotated[str, typer.Argument(help=FOLDER, metavar="A")],
    b: Annotated[str, typer.Argument(help=FOLDER, metavar="B")],
    out: Out,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="Two models that differ by their training seed only: C,D; repeatable.", metavar="C,D"),
    ] = None,
    texts: Texts = None,
    task: TaskNames = None,
    data: DataRoot = DATA,
    column: Column = "text",
    subset: Subset = None,
    draws: Draws = "42,43,44",
    max_length: MaxLength = 512,
    batch: Batch = 16,
    outlier_factor: Factor = 25.0,
    minibatch: Minibatch = None,
    paper: Paper = True,
) -> None:
    """Divergence 100 (1 - CKA) of A and B per layer, and its ratio to the divergence of models of other seeds."""
    from detour.analysis.figures import draw_similarity
    from detour.errors import ConfigError

    split = [pair.split(",") for pair in noise or []]
    if wrong := [pair for pair in split if len(pair) != 2 or not all(pair)]:
        raise ConfigError(f"--noise {','.join(wrong[0])}: expected two models, as C,D")
    settings = _settings(subset, draws, max_length, batch, outlier_factor, minibatch)
    pairs, models = _pairs([(a, b), *((c, d) for c, d in split)])
    _similarity("cka", models, pairs[:1], pairs[1:], _texts(texts, column, task, data), settings, out,
                lambda result: draw_similarity(result, with_paper=paper), {"paper": paper})  # fmt: skip


@app.command()
def course(
    reference: Annotated[str, typer.Argument(help=FOLDER, metavar="REFERENCE")],
    folders: Annotated[list[str], typer.Argument(help="Exported checkpoints of a run, in order.", metavar="FOLDER")],
    out: Out,
    at: Annotated[
        str | None, typer.Option(help="Position of each folder, such as tokens: 5e8,1e9. Default: 1, 2, ...")
    ] = None,
    label: Annotated[str, typer.Option(help="What --at counts, for the figure.")] = "checkpoint",
    texts: Texts = None,
    task: TaskNames = None,
    data: DataRoot = DATA,
    column: Column = "text",
    subset: Subset = None,
    draws: Draws = "42,43,44",
    max_length: MaxLength = 512,
    batch: Batch = 16,
    outlier_factor: Factor = 25.0,
    minibatch: Minibatch = None,
    paper: Paper = True,
) -> None:
    """Divergence of a reference and each of a series of folders, such as the checkpoints of a decay."""
    from detour.analysis.figures import draw_course

    places = _numbers("--at", at) if at is not None else [float(i + 1) for i in range(len(folders))]
    _check_places(places, folders)
    settings = _settings(subset, draws, max_length, batch, outlier_factor, minibatch)
    pairs, models = _pairs([(reference, folder) for folder in folders])
    _similarity("course", models, pairs, [], _texts(texts, column, task, data), settings, out,
                lambda result: draw_course(result, places, label, with_paper=paper),
                {"at": places, "label": label, "paper": paper})  # fmt: skip


@app.command()
def weights(
    folders: Annotated[list[str], typer.Argument(help="Two or more ModernBERT folders in order.", metavar="FOLDER")],
    out: Out,
) -> None:
    """Relative weight change per layer and module, from each folder to the next, and from the first to the last."""
    from detour.analysis.figures import draw_weights
    from detour.analysis.output import refuse_others, save
    from detour.analysis.weights import phase_changes
    from detour.evaluation.models import resolve

    models = resolve(folders)
    inputs = {"models": _identities(models)}
    refuse_others(out, "weights", inputs=inputs, settings={})
    changes = phase_changes(models)
    rows = [change.row() for change in changes]
    _show(save(out, "weights", inputs=inputs, settings={}, values={"changes": rows}, rows=rows,
               draw=lambda: draw_weights(changes)))  # fmt: skip


@app.command()
def transplant(
    donor: Annotated[str, typer.Argument(help=FOLDER, metavar="DONOR")],
    receiver: Annotated[str, typer.Argument(help=FOLDER, metavar="RECEIVER")],
    out: Annotated[Path, typer.Option(help="The new folder.")],
    layers: Annotated[
        str | None, typer.Option(help="low, mid, late, all, an index, a range (0-7), or several with commas.")
    ] = None,
    modules: Annotated[
        str | None, typer.Option(help="attention, mlp, norms, embeddings, head, or several with commas.")
    ] = None,
) -> None:
    """Write the receiver with some of the donor's layers or modules, as a Hugging Face folder."""
    from detour.analysis.transplant import transplant as write
    from detour.errors import ConfigError
    from detour.evaluation.models import resolve

    if layers is None and modules is None:
        raise ConfigError("transplant: give --layers, --modules, or both")
    first, second = resolve([donor, receiver])
    chosen = None if modules is None else [module.strip() for module in modules.split(",")]
    done = write(first, second, out, layers=layers, modules=chosen)
    print(f"{done.out}: {len(done.parameters)} tensors ({done.numbers:,} numbers) of {first.name} in {second.name}")


def _similarity(
    name: str,
    models: dict[str, Model],
    pairs: list[tuple[str, str]],
    noise: list[tuple[str, str]],
    texts: TextSet,
    settings: Settings,
    out: Path,
    draw: Any,
    shown: dict[str, Any],
) -> None:
    """Computes, saves and reports a comparison of layers; refuses foreign results in ``out`` before any model is loaded."""
    from dataclasses import asdict

    from detour.analysis.output import refuse_others, save
    from detour.analysis.similarity import compare_layers

    inputs = {
        "models": _identities(models.values()),
        "pairs": pairs,
        "noise": noise,
        "texts": {"sha256": texts.sha256, "different": len(texts.texts), "duplicates": texts.duplicates},
    }
    recorded = asdict(settings) | shown
    refuse_others(out, name, inputs=inputs, settings=recorded)
    result = compare_layers(models, pairs, texts, settings, noise=noise)
    rows = result.rows()
    draws = [{str(seed): value for seed, value in found.draws.items()} for found in result.divergences]
    values = {
        "divergences": [{**row, "by_draw": by_draw} for row, by_draw in zip(rows, draws, strict=True)],
        "outlier_dimensions": result.outliers,
        "truncated_texts": result.truncated,
        "texts_read": result.texts,
    }
    _show(save(out, name, inputs=inputs, settings=recorded, values=values, rows=rows, draw=lambda: draw(result)))


def _pairs(given: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], dict[str, Model]]:
    """Pairs of names, and the models by name; a model may be in several pairs."""
    from detour.evaluation.models import resolve

    texts = list(dict.fromkeys(text for pair in given for text in pair))
    found = dict(zip(texts, resolve(texts), strict=True))
    return [(found[a].name, found[b].name) for a, b in given], {model.name: model for model in found.values()}


def _identities(models: Any) -> dict[str, str]:
    return {model.name: model.sha256 for model in models}


def _texts(paths: list[Path] | None, column: str, tasks: list[str] | None, data: Path) -> TextSet:
    from detour.analysis.representations import TextSet, read_texts, task_texts
    from detour.errors import ConfigError
    from detour.evaluation.data.task import load_task

    if not paths and not tasks:
        raise ConfigError("no texts: give --texts FILE or --task NAME")
    found = read_texts(paths, column=column) if paths else []
    for task in tasks or []:
        found += task_texts(load_task(task, []), data)
    return TextSet.of(found)


def _settings(
    subset: int | None, draws: str, max_length: int, batch: int, outlier_factor: float, minibatch: int | None
) -> Settings:
    from detour.analysis.similarity import Settings

    return Settings(
        subset=subset,
        draws=tuple(int(seed) for seed in _numbers("--draws", draws, whole=True)),
        max_length=max_length,
        batch=batch,
        outlier_factor=outlier_factor,
        minibatch=minibatch,
    )


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    from detour.errors import ConfigError

    try:
        return [int(part) if whole else float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text[:80]}: expected {'whole ' if whole else ''}numbers with commas") from None


def _check_places(places: list[float], folders: list[str]) -> None:
    from itertools import pairwise
    from math import isfinite

    from detour.errors import ConfigError

    if len(places) != len(folders):
        raise ConfigError(f"--at has {len(places)} numbers for {len(folders)} folders")
    if not all(map(isfinite, places)) or any(a >= b for a, b in pairwise(places)):
        raise ConfigError(f"--at {places}: expected finite numbers in ascending order")


def _show(paths: list[Path]) -> None:
    for path in paths:
        print(path)


app.registered_commands += score_commands.registered_commands  # last, so that help lists them last
