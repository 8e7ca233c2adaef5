"""``detour retention``: what was learned, and what was forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
Texts = "JSON or text files, or folders of them; repeatable, several with one name are one set."


@app.command()
def retention(
    models: Annotated[
        list[str],
        typer.Argument(
            help="The start model, then models trained from it: Hugging Face folders or hub names; name=FOLDER gives a "
            "folder a name.",
            metavar="START MODEL",
        ),
    ],
    domain: Annotated[list[str], typer.Option(help=f"Held-out texts of the domain. {Texts}", metavar="NAME=FILE")],
    general: Annotated[list[str], typer.Option(help=f"General held-out texts. {Texts}", metavar="NAME=FILE")],
    out: Annotated[Path, typer.Option(help="Folder for page (HTML), values (JSON, CSV), and figure (PNG, SVG).")],
    window: Annotated[int, typer.Option(help="Tokens per window.", min=16)] = 512,
    tokens: Annotated[int, typer.Option(help="Use documents of each set up to this many tokens.", min=1)] = 200_000,
) -> None:
    """Measure domain gain and general loss of models since their start model, per masked token, as one page."""
    from detour.evaluation.models import resolve
    from detour.evaluation.probes.held_out_sets import read_sets
    from detour.retention.page import Settings, write_retention

    sets = read_sets(domain), read_sets(general)
    for path in write_retention(resolve(models), *sets, out, Settings(window=window, tokens=tokens)):
        print(path)
