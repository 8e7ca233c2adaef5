"""``detour probe``: frozen encoders, without fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from detour.cli.evaluation import (
    DATA,
    DataRoot,
    Models,
    ModelsAndOverrides,
    SuiteName,
    TaskNames,
    chosen_tasks,
    split_overrides,
)
from detour.cli.groups import group

if TYPE_CHECKING:
    from detour.evaluation.data.dataset import Dataset
    from detour.evaluation.data.task import Task
    from detour.evaluation.probes.frozen import Frozen
    from detour.evaluation.probes.task_probes import ProbeResult

log = logging.getLogger(__name__)
app = group("probe", "Probe frozen encoders, without fine-tuning.")
Out = Annotated[Path | None, typer.Option(help="CSV file for the scores.")]


class Row(NamedTuple):
    """One score of one model."""

    data: str
    metric: str
    value: float
    examples: int
    settings: dict[str, Any]


@app.command()
def linear(
    models: ModelsAndOverrides, suite: SuiteName = None, task: TaskNames = None, data: DataRoot = DATA, out: Out = None
) -> None:
    """Logistic regression on frozen states: mean-pooled texts, or words for NER. Similarity tasks: cosine of the texts."""
    from detour.evaluation.probes.task_probes import linear_probe

    _probe_tasks("linear", linear_probe, models, suite, task, data, out)


@app.command()
def retrieval(
    models: ModelsAndOverrides, suite: SuiteName = None, task: TaskNames = None, data: DataRoot = DATA, out: Out = None
) -> None:
    """Retrieve the second text of each test pair from its first, by the cosine of mean-pooled states."""
    from detour.evaluation.probes.task_probes import retrieval_probe

    _probe_tasks("retrieval", retrieval_probe, models, suite, task, data, out)


@app.command()
def needle(
    models: Models,
    language: Annotated[str, typer.Option(help="Language of the texts: en or fr.")] = "en",
    tokens: Annotated[
        list[int] | None, typer.Option(help="Text length in tokens; repeatable. Default: 512, 2048, 8192.")
    ] = None,
    distractors: Annotated[int, typer.Option(help="Other facts of the same kind in each text.", min=0, max=7)] = 3,
    out: Out = None,
) -> None:
    """Find a fact at the start, middle or end of long texts: accuracy of a small network on the frozen states."""
    from detour.evaluation.probes.needle import needle_probe

    def rows(encoder: Frozen) -> list[Row]:
        return [
            Row(
                language,
                f"accuracy_{position}",
                value,
                found.examples,
                {"tokens": found.tokens, "distractors": distractors},
            )
            for found in needle_probe(encoder, language, tokens or [512, 2048, 8192], distractors=distractors)
            for position, value in found.accuracy.items()
        ]

    _probe("needle", models, out, rows)


@app.command()
def presence(
    models: Models,
    language: Annotated[str, typer.Option(help="Language of the texts: en or fr.")] = "fr",
    tokens: Annotated[
        list[int] | None, typer.Option(help="Text length in tokens; repeatable. Default: 512, 1024, 2048, 4096, 8192.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of a fact and a text, over all lengths.", min=40)] = 1500,
    seeds: Annotated[int, typer.Option(help="Probe seeds, each with a test fold of its own.", min=1, max=6)] = 5,
    epochs: Annotated[int, typer.Option(help="Epochs of the network; the paper's is 3.", min=1)] = 3,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the network; the paper's is 2e-5.")] = 2e-5,
    out: Out = None,
) -> None:
    """Say whether a long text holds a fact (the paper's needle): accuracy of a small network on the frozen first state."""
    from detour.evaluation.probes.presence import LENGTHS, Head, presence_probe

    head = Head(epochs=epochs, learning_rate=learning_rate)
    settings = {"pairs": pairs, "seeds": seeds, "epochs": epochs, "learning_rate": learning_rate}

    def rows(encoder: Frozen) -> Iterator[Row]:
        found = presence_probe(encoder, language, tokens or LENGTHS, pairs=pairs, seeds=seeds, head=head)
        ends = {"binomial_95": found.binomial(), "seeds_95": (found.by_seed.low, found.by_seed.high)}
        yield Row(language, "accuracy", found.accuracy, sum(found.examples.values()), settings | ends)
        for (length, position), count in found.examples.items():
            if count:
                share = found.hits[length, position] / count
                yield Row(language, f"accuracy_{position}", share, count, settings | {"tokens": length})

    _probe("presence", models, out, rows)


@app.command()
def held_out(
    models: Models,
    text: Annotated[list[Path], typer.Option(help="JSON or text files, or folders of them; repeatable.")],
    window: Annotated[int, typer.Option(help="Tokens per window.", min=16)] = 512,
    tokens: Annotated[int, typer.Option(help="Use documents up to this many tokens.", min=1)] = 200_000,
    single: Annotated[int, typer.Option(help="Tokens to mask one at a time, for the pseudo-perplexity.", min=2)] = 512,
    out: Out = None,
) -> None:
    """Accuracy at masked tokens and pseudo-perplexity on held-out text. Comparable between models of one tokenizer."""
    from detour.corpus.text import find_files, read_documents
    from detour.evaluation.probes.masked_lm import held_out_probe

    files = find_files(text)

    def rows(encoder: Frozen) -> list[Row]:
        documents = (document.text for document in read_documents(files))
        found = held_out_probe(encoder, documents, window=window, single=single, max_tokens=tokens)
        named, settings = ", ".join(path.name for path in files), {"window": window, "tokens": found.tokens}
        return [
            Row(named, "masked_accuracy", found.accuracy, found.masked, settings),
            Row(named, "masked_loss", found.loss, found.masked, settings),
            Row(named, "pseudo_perplexity", found.pseudo_perplexity, found.single, settings),
        ]

    _probe("held-out", models, out, rows, masked_lm=True)


def _probe_tasks(
    name: str,
    probe: Callable[[Frozen, Task, Dataset], ProbeResult],
    models_and_overrides: list[str],
    suite: str | None,
    names: list[str] | None,
    data: Path,
    out: Path | None,
) -> None:
    from detour.evaluation.data.dataset import load_dataset

    models, changes = split_overrides(models_and_overrides)
    tasks = chosen_tasks(suite, names, changes)
    # missing data is found before the first model is loaded
    loaded = {task.name: load_dataset(task, data) for task in tasks}

    def rows(encoder: Frozen) -> Iterator[Row]:
        for task in tasks:
            found = probe(encoder, task, loaded[task.name])
            settings = found.settings | {"truncated": found.truncated, "data_sha256": loaded[task.name].sha256}
            settings |= {"overrides": changes} if changes else {}
            for metric, value in found.scores.items():
                yield Row(task.name, metric, value, found.examples, settings)

    _probe(name, models, out, rows)


def _probe(
    name: str, models: list[str], out: Path | None, rows: Callable[[Frozen], Iterable[Row]], *, masked_lm: bool = False
) -> None:
    """Prints a table of the scores of every model; with ``out`` also writes them as CSV."""
    import csv
    import json

    from rich.table import Table

    from detour.console import show
    from detour.evaluation.models import resolve
    from detour.evaluation.probes.frozen import Frozen
    from detour.markup import spreadsheet

    table = Table("model", "data", "score", "value", "examples", title=f"{name} probe")
    lines = []
    for model in resolve(models):
        log.info("%s: loading", model.name)
        for row in rows(Frozen(model.folder, masked_lm=masked_lm)):
            log.info("%s: %s, %s %.4f", model.name, row.data, row.metric, row.value)
            table.add_row(model.name, row.data, row.metric, f"{row.value:.4f}", f"{row.examples:,}")
            lines.append(
                [
                    model.name,
                    model.sha256,
                    name,
                    row.data,
                    row.metric,
                    row.value,
                    row.examples,
                    json.dumps(row.settings),
                ]
            )
    show(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["model", "model_sha256", "probe", "data", "metric", "value", "examples", "settings"])
            writer.writerows([spreadsheet(value) for value in line] for line in lines)
