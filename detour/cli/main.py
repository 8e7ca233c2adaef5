"""The command line. Heavy imports stay inside the commands, so that help and `plan` come at once."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from detour.cli.data import app as data_commands
from detour.cli.evaluation import app as evaluation_commands
from detour.cli.probe import app as probe_commands
from detour.errors import DetourError, StoppedError
from detour.files import naming, reason, starved
from detour.redact import RedactingFormatter, redacted

log = logging.getLogger(__name__)
app = typer.Typer(
    name="detour",
    help="Continued pretraining of encoders by a causal detour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_commands)
app.add_typer(probe_commands)
app.registered_commands += evaluation_commands.registered_commands
NOT_THE_SAME = 3  # exit code of `detour compare`; 1 is an error, and 2 a command line that cannot be read
Config = Annotated[Path, typer.Argument(help="A run's YAML.", metavar="CONFIG")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to it: key=value, phases.0.tokens=1000.")]


@app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Train a run, or continue it where its folder's newest checkpoint stands."""
    from detour.config.load import load

    run = load(config, overrides or [])
    from detour.build import train as start

    start(run)


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    document_tokens: Annotated[
        float | None,
        typer.Option(help="Mean tokens of a document; left out, a whole row.", min=1),
    ] = None,
    peak_tflops: Annotated[float, typer.Option(help="Matrix-product rate of a GPU.")] = 790.0,
    mfu: Annotated[float, typer.Option(help="Model FLOPs utilization that training reaches.", min=0.01, max=1)] = 0.4,
    memory_gigabytes: Annotated[float, typer.Option(help="Memory of a device.", min=1)] = 80.0,
) -> None:
    """Show a run's phases, steps, learning rates, tokens, FLOPs, GPU-hours and memory; needs no data, GPU or network.

    A local folder of model.init is checked as at the start of training.
    """
    from detour.config.load import load
    from detour.cost.plan import show
    from detour.training.match import match_budget
    from detour.training.start_check import check_start

    run = match_budget(load(config, overrides or []))
    check_start(run)
    show(
        run,
        document_tokens=document_tokens,
        peak_tflops=peak_tflops,
        mfu=mfu,
        memory_gigabytes=memory_gigabytes,
    )


@app.command()
def tune(
    config: Config,
    overrides: Overrides = None,
    memory_gigabytes: Annotated[
        float | None,
        typer.Option(help="Stop before more is needed; left out, what the device has.", min=0.1),
    ] = None,
    document_tokens: Annotated[float, typer.Option(help="Mean tokens of a document.", min=8)] = 500.0,
) -> None:
    """Measure speed and memory of a run's step on this device, micro-batch by micro-batch, and say which one to take."""
    from detour.config.load import load
    from detour.training.tune import tune as measure

    measure(load(config, overrides or []), memory_gigabytes=memory_gigabytes, document_tokens=document_tokens)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; left out, RUN/report.")] = None,
) -> None:
    """Draw a run's losses, learning rate and throughput as one HTML page, PNG and SVG."""
    from detour.report.write import write_report

    with naming(out or run / "report"):
        print(write_report(run, out))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two or more runs.", metavar="RUN...")],
    differ: Annotated[
        list[str] | None,
        typer.Option(
            help="A key that is meant to differ, and all below it: phases, schedule.peak_lr; may be repeated."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write it all to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Compare runs: start weights, tokenizer, data, rows, every setting, costs, final losses.

    Exit code 0 if everything that was not declared by --differ is known and equal, 3 if not.
    """
    from detour.console import show
    from detour.report.compare import compare_runs
    from detour.report.compare_tables import tables, write_json

    found = compare_runs(runs, differ=differ or [])
    show(*tables(found))
    if json_file is not None:
        write_json(found, json_file)
    if not found.same:
        raise typer.Exit(NOT_THE_SAME)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    tokens: Annotated[
        int | None,
        typer.Option(help="Export the checkpoint at this token count; left out, the newest."),
    ] = None,
) -> None:
    """Write a run's encoder as a Hugging Face folder, and check it by loading it with transformers."""
    from detour.export.run import export_run

    with naming(out):
        difference = export_run(run, out, tokens=tokens)
    print(f"{out} (largest difference of logits in transformers: {difference:.1e})")


@app.command()
def tokenizer(
    corpus: Annotated[list[Path], typer.Argument(help="JSONL or text files (.gz, .zst), or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vocab_size: Annotated[int, typer.Option(help="Number of tokens, the special ones included.", min=300)] = 32_768,
    text_column: Annotated[str, typer.Option(help="Key of the text in JSON lines.")] = "text",
) -> None:
    """Train a byte-level BPE tokenizer on a corpus, for models from scratch."""
    from detour.console import Heartbeat
    from detour.corpus.text import find_files, read_documents
    from detour.data.tokenizer import train_bpe
    from detour.errors import DataError

    with naming(out):
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: exists and is not empty")
        out.mkdir(parents=True, exist_ok=True)  # before minutes of training: it may not be writable
        if not os.access(out, os.W_OK):
            raise DataError(f"{out}: {os.strerror(errno.EACCES)}")
    files, alive, count, characters = find_files(corpus), Heartbeat(log), 0, 0

    def texts() -> Iterator[str]:
        nonlocal count, characters
        for document in read_documents(files, text_column=text_column):
            alive.beat("reading: %s documents, %.1f million characters so far", f"{count:,}", characters / 1e6)
            count, characters = count + 1, characters + len(document.text)
            yield document.text
        log.info("%s documents, %.1f million characters read; now merging", f"{count:,}", characters / 1e6)

    trained = train_bpe(texts(), vocab_size=vocab_size)
    with naming(out):
        trained.save_pretrained(out)
    print(f"{out} ({len(trained):,} tokens)")


def at_home(argument: str) -> str:
    """An argument with ``~/`` replaced by the home folder also where shells leave it: behind the ``=`` of ``--out=~/x``."""
    before, equals, value = argument.partition("=") if re.match(r"[\w.-]+=~[\w.-]*/", argument) else ("", "", argument)
    return before + equals + (os.path.expanduser(value) if re.match(r"~[\w.-]*/", value) else value)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Errors that a user can act on are printed as one message, without a traceback; exit code 1, and 75
    after a run that was asked to end early."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    sys.excepthook = lambda *error: print(redacted("".join(traceback.format_exception(*error))), file=sys.stderr)
    threading.excepthook = lambda failed: sys.excepthook(failed.exc_type, failed.exc_value, failed.exc_traceback)  # type: ignore[arg-type]
    logging.captureWarnings(True)
    logging.getLogger("detour").setLevel(logging.INFO)
    try:
        app(args=[at_home(argument) for argument in (sys.argv[1:] if argv is None else argv)], standalone_mode=True)
    except DetourError as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        hint = starved(error)
        print(redacted(f"{kind}: {error}" + (f" ({hint})" if hint and hint not in str(error) else "")), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        refused = isinstance(error, OSError) and error.errno is not None  # else a library's, which only uses the class
        problem = starved(error) or (reason(error) if refused else None)  # type: ignore[arg-type]
        if problem is None:
            raise
        logging.getLogger("detour").debug("where the system refused", exc_info=True)
        print(
            redacted(f"error: {getattr(error, 'filename', None) or 'the system refused'}: {problem}"), file=sys.stderr
        )
        raise SystemExit(1) from None
