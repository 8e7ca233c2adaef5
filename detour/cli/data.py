"""``detour data``: from text to packed rows, and what is in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detour.cli.groups import group
from detour.cli.rows import app as rows_commands
from detour.cli.tokenizer import Texts
from detour.cli.tokenizer import app as tokenizer_commands

if TYPE_CHECKING:
    from rich.console import Console


app = group("data", "Plan and prepare packed rows, inspect and verify them, train or extend a tokenizer.")
app.add_typer(tokenizer_commands)
app.add_typer(rows_commands)
SECONDS_BETWEEN_LINES = 20.0  # of progress in a log


@app.command()
def pack(
    inputs: Texts,
    tokenizer: Annotated[str, typer.Option(help="Hugging Face folder or hub name; the model's.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seq_len: Annotated[int, typer.Option(help="Tokens per row.")] = 1024,
    max_document: Annotated[
        int | None, typer.Option(help="Most tokens of a document, such as 512 for BERT; longer ones are split.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Key of the text in JSON objects.")] = "text",
    encoding: Annotated[str, typer.Option(help="Encoding of the files.")] = "utf-8",
    seed: Annotated[int, typer.Option(help="Seed of the row order.")] = 0,
    strict: Annotated[bool, typer.Option(help="Stop at the first line or file that cannot be used.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the rows in --out.")] = False,
    special_tokens_in_text: Annotated[
        str,
        typer.Option(help='How a special token written out in a text, such as "[MASK]", is encoded: text or special.'),
    ] = "text",
) -> None:
    """Tokenize clean text and pack it into rows of one length. For several sources and cleaning: detour data prepare."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from detour.corpus.pack import pack_corpus, print_report
    from detour.corpus.text import ReadReport, find_files

    console = Console(stderr=True)
    columns = ("packing", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _errors_printed(console):
        total = sum(path.stat().st_size for path in find_files(inputs, ReadReport()))
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=total)
            manifest, report = pack_corpus(
                inputs,
                tokenizer=tokenizer,
                out=out,
                seq_len=seq_len,
                max_document=max_document,
                text_column=text_column,
                encoding=encoding,
                seed=seed,
                strict=strict,
                overwrite=overwrite,
                special_tokens_in_text=special_tokens_in_text,
                on_read=lambda bytes_read: progress.update(bar, completed=bytes_read),
            )
    print_report(manifest, report, out, special_tokens_in_text)


@app.command(name="pack-pairs")
def pack_pairs_of_text(
    inputs: Texts,
    tokenizer: Annotated[str, typer.Option(help="Hugging Face folder or hub name; the model's.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seq_len: Annotated[int, typer.Option(help="Tokens per row.")] = 128,
    first: Annotated[str, typer.Option(help="Key of the first text in JSON objects.")] = "first",
    second: Annotated[str, typer.Option(help="Key of the second text.")] = "second",
    label: Annotated[str, typer.Option(help="Key of the class.")] = "label",
    held_out: Annotated[
        float | None, typer.Option(help="Fraction of the pairs for OUT/validation; the rest is in OUT/train.")
    ] = None,
    held_out_by: Annotated[
        str, typer.Option(help="Key whose equal values stay on one side. Default: the two texts, in either order.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the row order, and of what is held out.")] = 0,
    strict: Annotated[bool, typer.Option(help="Stop at the first pair that cannot be used.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the rows in --out.")] = False,
) -> None:
    """Tokenize and pack pairs of texts with their classes, for the objective pair_classification."""
    from rich.console import Console

    from detour.corpus.pack import print_report
    from detour.corpus.pack_pairs import pack_pairs, pack_pairs_with_held_out
    from detour.corpus.pairs import HeldOut, PairColumns
    from detour.corpus.text import ReadReport

    columns = PairColumns(first=first, second=second, label=label)
    settings: dict[str, Any] = {
        "tokenizer": tokenizer,
        "out": out,
        "seq_len": seq_len,
        "columns": columns,
        "seed": seed,
    }
    settings |= {"strict": strict, "overwrite": overwrite}
    with _errors_printed(Console(stderr=True)):
        if held_out is None:
            if held_out_by:
                raise typer.BadParameter("--held-out-by needs --held-out, the fraction")
            manifest, report = pack_pairs(inputs, **settings)
            manifests = {"": manifest}
        else:
            held = HeldOut(fraction=held_out, by=held_out_by, seed=seed)
            manifests, report = pack_pairs_with_held_out(inputs, held_out=held, **settings)
    for split, manifest in manifests.items():
        print_report(
            manifest, report if split == [*manifests][-1] else ReadReport(), out / split, "text"
        )  # faults once
    print(f"classes: [{', '.join(next(iter(manifests.values())).classes)}]")


@app.command()
def prepare(
    config: Annotated[Path, typer.Argument(help="The preparation's YAML.", metavar="CONFIG")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides: processes=16, executor.parallel=4, out=data/mine.", metavar="KEY=VALUE"),
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Stop at the first line, row or file that cannot be used; strict=true.")
    ] = False,
) -> None:
    """Clean, deduplicate, split, tokenize and pack corpora. Resumes where it was stopped."""
    from rich.console import Console

    from detour.corpus.config import load
    from detour.corpus.prepare import prepare as run
    from detour.corpus.show import show
    from detour.redact import redacted

    console = Console(stderr=True)
    with _errors_printed(console):
        changes = [*(overrides or []), *(["strict=true"] if strict else [])]
        settings = load(config, changes)
        with _progress(console) as say:
            record, worked = run(settings, say, command=[str(config), *changes])
    if not worked:
        print(redacted(f"{settings.out}: prepared already, nothing to do"))
    show(record, redacted(settings.out))


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="The preparation's YAML.", metavar="CONFIG")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides, as for detour data prepare.", metavar="KEY=VALUE")
    ] = None,
    megabytes: Annotated[
        float, typer.Option(help="Text of each source to prepare as a sample, in MB.", min=0.01)
    ] = 4.0,
) -> None:
    """Tell what a preparation will take: documents, tokens, core-hours, disk, memory. Prepares a sample of each source."""
    from rich.console import Console

    from detour.console import show
    from detour.corpus.config import load
    from detour.corpus.plan import plan_preparation
    from detour.corpus.plan_table import lines_of, table_of
    from detour.redact import redacted

    with _errors_printed(Console(stderr=True)):
        settings = load(config, overrides or [])
        found = plan_preparation(settings, megabytes=megabytes)
    show(table_of(found, redacted(settings.out)), *lines_of(found, settings))


@app.command(hidden=True)
def part(
    config: Annotated[Path, typer.Argument(help="The preparation's YAML.", metavar="CONFIG")],
    stage: Annotated[str, typer.Option(help="Stage of the preparation.")],
    part: Annotated[int, typer.Option(help="Index of the part.", min=0)],
    parts: Annotated[int, typer.Option(help="Number of parts.", min=1)],
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides.", metavar="KEY=VALUE")] = None,
) -> None:
    """Do a part of a stage; the job that `detour data prepare` starts with an executor."""
    from rich.console import Console

    from detour.corpus.config import load
    from detour.corpus.prepare import prepare_part

    console = Console(stderr=True)
    with _errors_printed(console), _progress(console) as say:
        prepare_part(load(config, overrides or []), stage, part, parts, say)


@contextmanager
def _errors_printed(console: Console) -> Iterator[None]:
    """Prints an error that a user can act on in red; exit code 2 for a wrong configuration, 1 for any other."""
    from detour.errors import ConfigError, DetourError
    from detour.redact import redacted

    try:
        yield
    except DetourError as error:
        console.print(redacted(f"error: {error}"), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], Any]]:
    """Shows what is being done: in place on a terminal, otherwise as a line every twenty seconds, for logs."""
    if console.is_terminal:
        with console.status("looking at the files") as status:
            yield status.update
        return
    shown, at = "", -SECONDS_BETWEEN_LINES

    def say(line: str) -> None:
        nonlocal shown, at
        what, now = line.split(":")[0], time.monotonic()
        if what != shown or now >= at + SECONDS_BETWEEN_LINES:
            shown, at = what, now
            console.print(line, markup=False, highlight=False)

    yield say
