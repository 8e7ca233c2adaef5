"""``detour init``: from a folder of documents to a folder with everything that a detour needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from detour.init.machine import Machine
    from detour.init.start import Start
    from detour.init.text import Text, Tokens

app = typer.Typer()


@app.command()
def init(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or folders of text: JSON lines, CSV, Parquet, .txt, PubMed or JATS XML.", metavar="TEXT"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write, new or empty. Default: detour-project.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Start model: a Hugging Face folder or hub name. Default: by language.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="Number of GPUs; 0 for the CPU. Default: as nvidia-smi says.", min=0)
    ] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="Memory of one GPU, in GB.", min=1)] = None,
    hours: Annotated[
        float | None, typer.Option(help="Hours of training, detour and twin together. Default: 12.", min=0.001)
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(help="Training speed of all devices, as `detour tune` measures it. Default: estimated.", min=0.1),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column or key of the text. Default: 'text', or the one with the most text.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of text, CSV and JSON files.")] = "utf-8",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
) -> None:
    """Write a project: data recipe, detour, twin, and the commands to run, from a look at text, model and machine.

    Asks for what is not given. Every choice is explained in the files, with its source and its alternative.
    """
    from detour.console import show
    from detour.errors import ConfigError

    try:
        from detour.init.look import look
    except ImportError as error:
        raise ConfigError(f"{error}: reading text needs the extra 'data' (docs/install.md)") from error
    from detour.init.start import default_start, find_start
    from detour.init.write import Answers, check_empty, write_project

    ask = _Questions(yes=yes)
    text = text or [str(ask("Where is the text (a file or folder)?", None, None))]
    if out is not None:
        check_empty(out)
    show(*_seen(seen := look(text, text_column=text_column, encoding=encoding), sample=not yes))
    suggested, reason = default_start(seen.languages)
    question = f"Start model: a folder or hub name ({reason})?"
    start = find_start(name := str(ask(question, model, suggested, check=_plausible)))
    show(_tokens_line(tokens := _tokens(seen, start)))
    answers = Answers(
        start=start, why_start=reason[0].upper() + reason[1:] if name == suggested else "As given",
        machine=_machine(ask, gpus, gpu_memory), tokens_per_second=tokens_per_second,
        hours=float(ask("Hours of training, detour and twin together?", hours, 12.0)),
    )  # fmt: skip
    folder = Path(ask("Folder to write?", out, "detour-project"))
    warnings = write_project(seen, tokens, answers, folder)
    then = "detour data prepare recipe.yaml, then detour verdict . tries a pilot; or all of it: bash run.sh"
    show(*(f"Warning: {line}" for line in warnings), f"{folder}: read README.md there, and run in it: {then}")


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """Asks for what was not given; with ``yes``, takes the default."""

    yes: bool

    def __call__(self, question: str, given: Any, default: Any, *, check: Callable[[str], str] | None = None) -> Any:
        """The answer; ``check`` raises `typer.BadParameter` on one that cannot be meant, and the question is asked again."""
        if given is not None:
            return given
        if not self.yes:
            kind = str if default is None else type(default)
            return typer.prompt(question, default=default, type=kind, value_proc=check)
        if default is None:
            raise typer.BadParameter("where is the text? Name files or folders", param_hint="TEXT")
        return default


def _plausible(name: str) -> str:
    from detour.init.start import is_plausible

    if not is_plausible(name):
        raise typer.BadParameter(f"{name}: no such folder, and not a name on the hub, which is owner/name")
    return name


def _machine(ask: _Questions, gpus: int | None, gpu_memory: float | None) -> Machine:
    from detour.init.machine import Machine, found_gpus, machine_cores, machine_memory

    count, memory = found_gpus()
    count = ask("Number of GPUs (0 for the CPU)?", gpus, count)
    gigabytes = ask("Memory of one GPU, in GB?", gpu_memory, memory or 80.0) if count else machine_memory()
    return Machine(gpus=count, gigabytes=gigabytes, cores=machine_cores())


def _tokens(seen: Text, start: Start) -> Tokens:
    """Counted with the start model's own tokenizer if it is local."""
    if not start.local:
        return seen.tokens(None)
    from detour.data.tokenizer import encoder_of, load_tokenizer

    return seen.tokens(encoder_of(load_tokenizer(start.name), dtype="int32"))


def _seen(seen: Text, *, sample: bool) -> list[str]:
    """What was found; the beginning of a document only where somebody looks, since a log is no place for a record."""
    from detour.corpus.input_files import describe_ignored
    from detour.init.text import faults
    from detour.units import counted

    about = "" if seen.complete else "about "
    lines = [
        f"{source.name}: {counted(source.files, 'file')}, {source.bytes / 1e6:,.1f} MB, "
        f"{about}{counted(source.count, 'document')}"
        + (f", text in column '{source.table.text}'" if source.table.others else "")
        for source in seen.sources
    ]
    languages = ", ".join(f"{code} {part:.0%}" for code, part in seen.languages.items())
    lines.append(
        f"languages: {languages}; exact duplicates: {seen.duplicated:.1%} of the text"
        + ("" if seen.complete else " read")
    )
    if sample:
        lines.append(f"sample: {' '.join(seen.sample[len(seen.sample) // 2].text[:300].split())}")
    return [*lines, *faults(seen), *([describe_ignored(seen.ignored)] if seen.ignored else [])]


def _tokens_line(tokens: Tokens) -> str:
    from detour.units import counted, short

    return (
        f"tokens: {'' if tokens.exact else 'about '}{short(tokens.total)}; per document: median {tokens.median:,}, "
        f"95% at most {tokens.p95:,}, longest {tokens.longest:,}"
        + ("" if tokens.exact else f" (estimated from {counted(len(tokens.lengths_N), 'document')})")
    )
