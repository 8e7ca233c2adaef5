"""``detour data inspect`` and ``verify``: what is in packed rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detour.console import WIDTH

if TYPE_CHECKING:
    from detour.data.inspect import RowFolder

app = typer.Typer()
Root = Annotated[Path, typer.Argument(help="A folder of rows, or a folder that holds several.", metavar="DIR")]


@app.command()
def inspect(
    root: Root,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer folder to decode samples with. Default: the one beside the rows."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Documents to show from each folder.", min=0)] = 1,
    picture: Annotated[
        Path | None, typer.Option(help="File for the figure of document lengths. Default: DIR/lengths.png.")
    ] = None,
    hashes: Annotated[bool, typer.Option(help="Also hash every shard.")] = True,
) -> None:
    """Show counts, document lengths, packing efficiency at several row lengths, and samples. Exit code 1 on damage."""
    from rich.console import Console
    from rich.table import Table

    from detour.data import inspect as rows

    folders = rows.find_folders(root)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    total = sum(folder.manifest.counts.tokens for folder in folders)
    columns = ("documents", "split", "tokens", "fraction", "rows", "filled", "median", "90%", "longest")
    table = Table("folder", *columns, title=str(root))
    for folder in folders:
        counts = folder.manifest.counts
        table.add_row(
            folder.name, f"{counts.documents:,}", f"{counts.documents_split:,}", f"{counts.tokens:,}",
            f"{counts.tokens / total:.1%}", f"{counts.rows:,} x {folder.manifest.seq_len}",
            f"{folder.manifest.packing_efficiency:.2%}", *[f"{n:,}" for n in rows.quantiles(folder.lengths, (0.5, 0.9, 1.0))],
        )  # fmt: skip
    console.print(table)
    packing = Table("folder", *[f"filled at {n}" for n in rows.SEQ_LENS], title="packed into rows of another length")
    for folder in folders:
        limits = [n for n in rows.SEQ_LENS if folder.unsplit or n <= folder.manifest.seq_len]
        packing.add_row(folder.name, *[f"{rows.packing_efficiency(folder.lengths, n):.2%}" for n in limits])
    console.print(packing)
    print(f"document lengths: {rows.plot_lengths(folders, picture or root / 'lengths.png')}")
    _print_origins(folders, Path(tokenizer) if tokenizer else rows.tokenizer_of(root), samples)
    if hashes:
        verify(root)


@app.command()
def verify(root: Root) -> None:
    """Hash every shard and compare with the manifests. Exit code 1 on damage or a missing folder."""
    from detour.data.inspect import check_folder, missing_or_changed_folders, name_of, row_folders
    from detour.errors import DataError

    damage = []
    for path in row_folders(root):
        try:
            shards, problems = check_folder(path)
            print(f"{name_of(path, root)}: {shards - len(problems)} of {shards} shards as in the manifest")
        except DataError as error:
            print(f"{name_of(path, root)}: unreadable")
            problems = [str(error)]
        for problem in problems:
            print(f"  {problem}")
        damage += problems
    for problem in (strayed := missing_or_changed_folders(root)):
        print(problem)
    if damage or strayed:
        raise typer.Exit(1)


def _print_origins(folders: list[RowFolder], tokenizer: Path | None, samples: int) -> None:
    """Prints each folder's tokenizer, source files and licenses, and documents decoded from it."""
    from detour.data.inspect import sample_texts

    for folder in folders:
        info = folder.manifest.tokenizer
        print(
            f"\n{folder.name}: tokenizer {info.name} ({info.sha256[:12]}), documents as {info.separation or 'unrecorded'}"
        )
        licenses = sorted({source.license or "not stated" for source in folder.manifest.sources})
        print(f"  {len(folder.manifest.sources)} source files; licenses: {', '.join(licenses)[:200]}")
        for text in sample_texts(folder, tokenizer, samples) if samples else []:
            print(f"  | {' '.join(text.split())}")
