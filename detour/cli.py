"""The command line. Heavy imports stay inside the commands, so that help and `plan` come at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from detour.errors import DetourError

app = typer.Typer(
    name="detour",
    help="Continued pretraining of encoders by a causal detour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[Path, typer.Argument(help="A run's YAML.", metavar="CONFIG")]
Overrides = Annotated[Optional[list[str]], typer.Argument(help="Changes to it: key=value, phases.0.tokens=1000.")]  # noqa: UP045


@app.callback()
def _root() -> None:
    """Keeps `train` a command of its own while there are few."""


@app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Train a run, or continue it where its folder's newest checkpoint stands."""
    from detour.config.load import load

    run = load(config, overrides or [])
    from detour.build import train as start

    start(run)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Errors that a user can act on are printed as one message, without a traceback; exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("detour").setLevel(logging.INFO)
    try:
        app(args=list(argv) if argv is not None else None, standalone_mode=True)
    except DetourError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
