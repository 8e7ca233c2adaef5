"""``detour train``, ``plan``, ``tune``, ``status``, ``watch``, ``report``, ``compare``, ``export`` and ``push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detour.files import naming

app = typer.Typer()
NOT_THE_SAME = 3  # exit code of `detour compare`; 1 is an error, and 2 a command line that cannot be read
Config = Annotated[Path, typer.Argument(help="The run's YAML.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Overrides: seed=18, schedule.peak_lr=1e-4, phases.0.tokens=1000.", metavar="KEY=VALUE"),
]
Run = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]


@app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Train. Resumes from the latest checkpoint in the run folder."""
    from detour.config.load import load

    run = load(config, overrides or [])  # before Composer is imported: a wrong key is reported at once
    from detour.train import train as start

    start(run)


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    document_tokens: Annotated[
        float | None,
        typer.Option(help="Mean document length of text, in tokens. Default: the row length.", min=1),
    ] = None,
    peak_tflops: Annotated[
        float | None,
        typer.Option(help="Peak matmul throughput of one device, in TFLOP/s. Default: 790 for a GPU.", min=0.001),
    ] = None,
    mfu: Annotated[
        float, typer.Option(help="Fraction of the peak that training is assumed to reach.", min=0.01, max=1)
    ] = 0.4,
    memory_gigabytes: Annotated[
        float | None, typer.Option(help="Memory of one device, in GB. Default: 80 for a GPU.", min=1)
    ] = None,
) -> None:
    """Show phases, steps, learning rates, FLOPs, GPU-hours and memory.

    Needs no data, GPU or network. If model.init is a local folder, it is checked as at the start of training.
    """
    from detour.config.load import load
    from detour.cost.plan_table import show
    from detour.training.extensions import check_extensions
    from detour.training.match import match_budget
    from detour.training.start_check import check_start

    run = match_budget(load(config, overrides or []))
    check_extensions(run)
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
        typer.Option(help="Stop before a trial needs more, in GB. Default: the device's memory.", min=0.1),
    ] = None,
    document_tokens: Annotated[float, typer.Option(help="Mean document length of text, in tokens.", min=8)] = 500.0,
) -> None:
    """Measure throughput and memory for growing micro-batches on this device, and recommend one."""
    from detour.config.load import load
    from detour.training.tune import tune as measure

    measure(load(config, overrides or []), memory_gigabytes=memory_gigabytes, document_tokens=document_tokens)


@app.command()
def status(
    run: Annotated[
        Path,
        typer.Argument(help="A run folder, or one with runs below it. Default: the current folder.", metavar="RUN"),
    ] = Path(),
) -> None:
    """Show where a run stands: phase, tokens, time left, losses, checkpoint, warnings. Reads the folder only.

    For a folder with runs up to four folders below it: one line for each, those that wrote last first.
    """
    from detour.console import show
    from detour.report.run_list import is_run, list_runs, table_of
    from detour.report.status import read_status, view

    show(view(read_status(run)) if is_run(run) else table_of(list_runs(run)))


@app.command()
def watch(
    run: Run,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.5)] = 5.0,
) -> None:
    """Show where a run stands, renewed until it is complete or Ctrl-C. Into a file or pipe, one block for each look."""
    from detour.report.watch import watch as follow

    follow(run, interval=interval)


@app.command()
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: RUN/report.")] = None,
) -> None:
    """Write a run's report: losses, learning rate, throughput and cost as one HTML page, with PNG and SVG figures."""
    from detour.report.write import write_report

    with naming(out or run / "report"):
        print(write_report(run, out))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN")],
    differ: Annotated[
        list[str] | None,
        typer.Option(
            help="A key that is meant to differ, with all keys below it, such as phases or schedule.peak_lr; repeatable."
        ),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A module to import first, so that the defaults of its objectives are known; repeatable."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List the settings that are equal, too.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write the comparison to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Compare runs: start weights, tokenizer, data, row order, every setting, cost and final losses.

    Exit code 0 if everything not declared with --differ is known and equal, otherwise 3.
    """
    from detour.config.plugins import import_plugins
    from detour.console import show
    from detour.report.compare import compare_runs
    from detour.report.compare_tables import tables, write_json

    import_plugins(plugin or [])
    found = compare_runs(runs, differ=differ or [])
    show(*tables(found, everything=everything))
    if json_file is not None:
        write_json(found, json_file)
    if not found.same:
        raise typer.Exit(NOT_THE_SAME)


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    tokens: Annotated[
        int | None,
        typer.Option(help="Export the checkpoint at this token count. Default: the latest."),
    ] = None,
    sentence_transformers: Annotated[
        bool,
        typer.Option(
            "--sentence-transformers", help="Also a SentenceTransformer: mean pooling and normalization, untrained."
        ),
    ] = False,
    decoder: Annotated[
        bool,
        typer.Option("--decoder", help="As ModernBertDecoder, which attends causally; for a run that ends with CLM."),
    ] = False,
) -> None:
    """Export a run's encoder as a Hugging Face folder with a model card, and verify it with transformers."""
    from detour.export.run import export_run

    with naming(out):
        difference = export_run(run, out, tokens=tokens, sentence_transformers=sentence_transformers, decoder=decoder)
    print(f"{out} (largest difference of logits in transformers: {difference:.1e})")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="An exported folder.", metavar="FOLDER")],
    repo: Annotated[str, typer.Argument(help="The repository on the hub, OWNER/NAME.", metavar="REPO")],
    scores: Annotated[
        Path | None, typer.Option(help="Folder of detour eval run, for the test scores in the card.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="The hub's identifier of a license, such as apache-2.0.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="ISO 639 code, such as fr; repeatable.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="A dataset of the hub that was trained on; repeatable.")
    ] = None,
    author: Annotated[list[str] | None, typer.Option(help="An author, for the citation; repeatable.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public. Default: private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be uploaded, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Upload an exported encoder to the Hugging Face hub, with its scores in the model card. Asks first."""
    from detour.export.push import prepare_upload
    from detour.export.push import push as upload_to_hub

    upload = prepare_upload(
        folder,
        repo,
        scores=scores,
        license=license,
        languages=language or [],
        datasets=dataset or [],
        authors=author or [],
        private=not public,
    )
    for path, size in upload.files.items():
        print(f"{size:>15,} B  {path}")
    print(f"\n{upload.header}\n")
    if dry_run:
        print(f"Dry run: nothing was uploaded to {repo}.")
        return

    def confirm(account: str, exists: bool) -> bool:
        kind = "existing" if exists else "new, private" if upload.private else "new, public"
        return yes or typer.confirm(f"Upload as {account} to the {kind} repository {repo}?")

    address = upload_to_hub(folder, upload, confirm=confirm)
    print(address or "Nothing was uploaded.")
