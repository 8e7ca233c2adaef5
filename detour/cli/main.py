"""The command line: its groups of commands, and what becomes of their errors.

Imports of torch and the like stay inside the commands, so that help and ``detour plan`` come at once.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from detour import __version__
from detour.cli.analyze import app as analysis_commands
from detour.cli.data import app as data_commands
from detour.cli.evaluation import app as evaluation_commands
from detour.cli.experiment import app as experiment_commands
from detour.cli.groups import Commands
from detour.cli.init import app as init_command
from detour.cli.merge import app as merge_commands
from detour.cli.probe import app as probe_commands
from detour.cli.retention import app as retention_commands
from detour.cli.runs import app as run_commands
from detour.cli.verdict import app as verdict_command
from detour.errors import DetourError, StoppedError, first_line, is_panic
from detour.files import reason, starved
from detour.redact import RedactingFormatter, redacted

app = typer.Typer(
    name="detour",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.registered_commands += [
    *init_command.registered_commands,
    *verdict_command.registered_commands,
    *run_commands.registered_commands,
    *retention_commands.registered_commands,
]
app.add_typer(data_commands)
app.add_typer(evaluation_commands)
app.add_typer(probe_commands)
app.add_typer(merge_commands)
app.add_typer(experiment_commands)
app.add_typer(analysis_commands)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"detour {__version__}")
        raise typer.Exit


@app.callback()
def detour(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Continued pretraining of encoders by a causal detour.

    Trailing key=value arguments override a YAML's values: seed=18, phases.0.tokens=1000.
    """


def expand_home(argument: str) -> str:
    """An argument with a leading ``~/`` expanded, also after the ``=`` of ``--out=~/x``, where shells leave it."""
    before, equals, value = argument.partition("=") if re.match(r"[\w.-]+=~[\w.-]*/", argument) else ("", "", argument)
    return before + equals + (os.path.expanduser(value) if re.match(r"~[\w.-]*/", value) else value)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line on ``argv``, by default the process's own arguments, and exits.

    An error that a user can act on is printed as one message without a traceback. Exit codes: 1 after an error, 2 for a
    command line that cannot be read, 3 where `detour compare` finds a difference, 75 after a run that ended early.
    """
    _set_up_logging()
    try:
        app(args=[expand_home(argument) for argument in (sys.argv[1:] if argv is None else argv)], standalone_mode=True)
    except DetourError as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        hint = starved(error)
        print(redacted(f"{kind}: {error}" + (f" ({hint})" if hint and hint not in str(error) else "")), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        system = isinstance(error, OSError) and error.errno is not None  # else a library's, which only uses the class
        problem = starved(error) or (reason(error) if system else None)  # type: ignore[arg-type]
        if problem is None:
            raise
        logging.getLogger("detour").debug("refused by the system", exc_info=True)
        print(
            redacted(f"error: {getattr(error, 'filename', None) or 'the system refused'}: {problem}"), file=sys.stderr
        )
        raise SystemExit(1) from None
    except BaseException as error:
        if not is_panic(error):
            raise
        print(redacted(f"error: a tokenizer failed: {first_line(error)}"), file=sys.stderr)
        raise SystemExit(1) from None


def _set_up_logging() -> None:
    """Logs to stderr; no secret reaches a log line, a warning or a traceback, of threads either."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    sys.excepthook = lambda *error: print(redacted("".join(traceback.format_exception(*error))), file=sys.stderr)
    threading.excepthook = lambda failed: sys.excepthook(failed.exc_type, failed.exc_value, failed.exc_traceback)  # type: ignore[arg-type]
    logging.captureWarnings(True)
    logging.getLogger("detour").setLevel(logging.INFO)
