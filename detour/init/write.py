"""Decides, and writes the folder of a new project from templates."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from detour import __version__
from detour.config.load import from_mapping, load
from detour.config.schema import RunConfig
from detour.corpus import config as preparation
from detour.cost.flops import training_flops
from detour.cost.plan import caveats, plan, rows_that_fit
from detour.errors import ConfigError, DataError
from detour.files import naming, write_text
from detour.init import budget as rules
from detour.init.budget import Budget
from detour.init.machine import PREPARED_BYTES_PER_SECOND, Machine
from detour.init.reasons import reasons, text_warnings
from detour.init.start import MAIN_LANGUAGE, Start
from detour.init.text import BYTES_PER_TOKEN, Text, Tokens, faults
from detour.markup import markdown
from detour.models.architecture import Architecture
from detour.training.start_check import check_start
from detour.units import counted, disk_size, duration, scientific, short

LEAST_DOCUMENTS = 50
LEAST_HELD_OUT = 7  # expected documents of a source: none has a chance below one in a thousand
MIN_CHARACTERS = 200  # of the paper's mixtures
SMALL_PARAMETERS = 50_000_000  # more are many for a CPU
CHECKPOINT_BYTES = 12  # per parameter: fp32 weights and two moments
FILES, README = (
    ("recipe.yaml", "detour.yaml", "twin.yaml", "run.sh"),
    "README.md",
)  # the last has warnings about the others


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was asked.

    Attributes:
        start: The start model.
        why_start: Why it is the start model.
        machine: The machine.
        hours: Hours of training, of the detour and its twin together.
        tokens_per_second: Measured throughput of all devices (`detour tune`); None estimates it.
    """

    start: Start
    why_start: str
    machine: Machine
    hours: float
    tokens_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tokens per second of the two arms.

    Attributes:
        detour: Of the detour.
        twin: Of its twin.
        basis: What that rests on.
    """

    detour: float
    twin: float
    basis: str

    def hours(self, tokens: float) -> tuple[float, float]:
        """Hours of a detour and of a twin of so many tokens."""
        return tokens / self.detour / 3600, tokens / self.twin / 3600


def write_project(text: Text, tokens: Tokens, answers: Answers, out: Path) -> list[str]:
    """Writes recipe.yaml, detour.yaml, twin.yaml, README.md and run.sh, and checks that they load.

    Args:
        text: The text.
        tokens: Its tokens.
        answers: The other choices.
        out: A new or empty folder.

    Returns:
        Warnings, one sentence each.

    Raises:
        DataError: ``out`` is not empty, or there is too little text or time for a run.
        ConfigError: The model does not fit into the memory.
        ModelError: The start model is a folder that training would refuse.
    """
    check_empty(out)
    if text.documents < LEAST_DOCUMENTS:
        raise DataError(
            f"{text.documents} documents, expected at least {LEAST_DOCUMENTS}, some of which are held out; cut long texts into "
            "documents, such as chapters or records"
        )
    values = _decide(text, tokens, answers)
    with naming(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            write_text(out / name, _render(name, values))
        preparation.load(out / "recipe.yaml")
        detour, twin = (load(out / name) for name in ("detour.yaml", "twin.yaml"))
        check_start(detour)
        check_start(twin)
        values["warnings"] += caveats(detour, plan(detour, document_tokens=tokens.mean))
        write_text(out / README, _render(README, values))
    return [*values["warnings"], *values["faults"]]


def check_empty(out: Path) -> None:
    """Raises DataError if the folder is a file or not empty."""
    with naming(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out}: exists and is not an empty folder; name another one with --out")


def _decide(text: Text, tokens: Tokens, answers: Answers) -> dict[str, Any]:
    start, machine = answers.start, answers.machine
    arch = start.architecture
    seq_len = rules.choose_seq_len(tokens.p95, arch.longest_document)
    speed = estimate_speed(arch, machine, min(tokens.mean, seq_len), answers.tokens_per_second)
    fraction = validation_fraction(text.documents)
    corpus_tokens = tokens.total * (1 - text.duplicated) * (1 - fraction)
    hours_per_token = sum(speed.hours(1))
    budget = rules.choose_budget(
        corpus_tokens=corpus_tokens, parameters=arch.parameters, affordable_tokens=answers.hours / hours_per_token,
        seq_len=seq_len, devices=machine.devices,
    )  # fmt: skip
    main = next((code for code, part in text.languages.items() if part >= MAIN_LANGUAGE), None)
    ratio = budget.step_tokens / rules.RECIPE_STEP_TOKENS
    short_ones = np.mean([len(document.text) < MIN_CHARACTERS for document in text.sample])
    values: dict[str, Any] = {
        "text": text, "tokens": tokens, "start": start, "machine": machine, "budget": budget, "version": __version__,
        "processes": processes(text, machine), "validated": _validated(text, fraction),
        "validation_fraction": fraction, "main_language": main, "counted": _counted(text, tokens, start),
        "languages": ", ".join(f"{code} {part:.0%}" for code, part in text.languages.items()),
        "min_characters": MIN_CHARACTERS if short_ones <= 0.05 else None, "recipe_step": rules.RECIPE_STEP_TOKENS,
        "scaled_lr": scientific(2e-4 * math.sqrt(ratio)), "faults": faults(text),
        "warnings": [
            *rules.warnings(
                budget, on_cpu=not machine.gpus and arch.parameters > SMALL_PARAMETERS, language=main
            ),
            *text_warnings(text, tokens, start, seq_len),
        ],
        "speed_basis": speed.basis, "commands": _commands(text, tokens, budget, arch, machine, speed),
        "hours_text": "detour about {}, twin about {}; {:g} hours were allowed for both".format(
            *(duration(3600 * hours) for hours in speed.hours(budget.tokens)), answers.hours
        ),
        "why": reasons(
            tokens, start, budget, why_start=answers.why_start, hours=answers.hours, corpus_tokens=corpus_tokens
        ), "checkpointing": False, "micro_batch_size": 1,
    }  # fmt: skip
    return values | _micro_batch(values, machine)


def estimate_speed(arch: Architecture, machine: Machine, document_tokens: float, measured: float | None) -> Speed:
    """Tokens per second of detour and twin, decay included.

    Args:
        arch: The model.
        machine: The machine.
        document_tokens: Mean document length.
        measured: Tokens per second of all devices, for both arms; None estimates them from FLOPs.
    """
    if measured is not None:
        return Speed(detour=measured, twin=measured, basis=f"{measured:,.0f} tokens per second, as given")
    n = max(1, round(document_tokens))

    def per_token(attention: str, fraction: float) -> float:
        return training_flops(arch, [n], attention=attention, supervised=fraction * n) / n

    decay = rules.DECAY_FRACTION * per_token("bidirectional", 0.15)
    flops, basis = machine.flops_per_second()
    arms = [
        flops * (1 + rules.DECAY_FRACTION) / (first + decay)
        for first in (per_token("causal", 1.0), per_token("bidirectional", 0.3))
    ]
    return Speed(
        detour=arms[0],
        twin=arms[1],
        basis=f"{basis}; `detour tune detour.yaml` measures it, then give --tokens-per-second",
    )


def validation_fraction(documents: int) -> float:
    """Fraction of held-out documents: 20 documents or 1%, at most 20% and 5,000 documents."""
    return float(f"{min(0.2, max(0.01, 20 / documents), 5000 / documents):.3g}")


def _validated(text: Text, fraction: float) -> list[str]:
    """Sources of which enough documents are held out that none is very unlikely; the largest if there is no such source."""
    enough = [source.name for source in text.sources if fraction * source.count >= LEAST_HELD_OUT]
    return enough or [max(text.sources, key=lambda source: source.count).name]


def processes(text: Text, machine: Machine) -> int:
    """Processes of the preparation: one per core, and per shard of text, its unit of work."""
    shards = math.ceil(text.text_bytes / (preparation.PrepareConfig.shard_megabytes << 20))
    return max(1, min(machine.cores, shards))


def _micro_batch(values: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """The largest power of two of rows that is estimated to fit, with gradient checkpointing if nothing does without."""
    gigabytes = machine.gigabytes if machine.gpus else machine.gigabytes / 2  # a CPU's memory is not the run's alone
    budget: Budget = values["budget"]
    for checkpointing in (False, True):
        fits = rows_that_fit(_run({**values, "checkpointing": checkpointing}), gigabytes=gigabytes)
        if fits:
            rows = min(fits, budget.rows // machine.devices, 128)
            return {"checkpointing": checkpointing, "micro_batch_size": 1 << (rows.bit_length() - 1)}
    raise ConfigError(
        f"not one row of {budget.seq_len} tokens fits into {gigabytes:.3g} GB; take a smaller start model (--model) or name more "
        "memory (--gpu-memory)"
    )


def _run(values: dict[str, Any]) -> RunConfig:
    return from_mapping(yaml.safe_load(_render("detour.yaml", values)), source="detour.yaml")


def _counted(text: Text, tokens: Tokens, start: Start) -> str:
    if tokens.exact:
        return f"counted with the tokenizer of {Path(start.name).name}"
    if not start.local:
        return f"estimated at {BYTES_PER_TOKEN:g} bytes per token, from {'all files' if text.complete else 'a sample'}"
    return (
        f"estimated with the tokenizer of {Path(start.name).name}, from {counted(len(tokens.lengths_N), 'document')} of "
        f"{'all files' if text.complete else 'a sample'}"
    )


def _commands(
    text: Text, tokens: Tokens, budget: Budget, arch: Architecture, machine: Machine, speed: Speed
) -> list[dict[str, str]]:
    """Each command with hours, disk, and the path that shows that it was done, where it refuses to be repeated."""
    train = "detour train" if machine.gpus < 2 else f"composer -n {machine.gpus} -m detour train"
    detour_hours, twin_hours = speed.hours(budget.tokens)
    prepare_hours = text.text_bytes / (PREPARED_BYTES_PER_SECOND * processes(text, machine)) / 3600
    rows = (2 if arch.vocab_size <= 1 << 16 else 4) * tokens.total
    run_bytes = 4 * CHECKPOINT_BYTES * arch.parameters  # two latest, and the ends of two phases
    return [
        {
            "line": line,
            "time": duration(3600 * hours) if hours > 1 / 60 else "a minute",
            "disk": disk_size(size) if size else "-",
            "done": done,
        }
        for line, hours, size, done in (
            ("detour data prepare recipe.yaml", prepare_hours, 2 * rows + 0.5 * text.text_bytes, ""),
            (f"{train} detour.yaml", detour_hours, run_bytes, ""),
            (f"{train} twin.yaml", twin_hours, run_bytes, ""),
            ("detour compare runs/detour runs/twin --differ phases", 0, 0, ""),
            ("detour export runs/detour --out encoders/detour", 0, 4 * arch.parameters, "encoders/detour"),
            ("detour export runs/twin --out encoders/twin", 0, 4 * arch.parameters, "encoders/twin"),
        )
    ]


def _render(name: str, values: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("detour.init"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "yaml": lambda value: json.dumps(value, ensure_ascii=False),  # every JSON value is YAML
        "short": short, "counted": counted, "number": lambda value: f"{value:,}", "digits": lambda value: f"{value:_}",
        "markdown": markdown, "comment": lambda value: " ".join(str(value).split()),
        "paragraph": _comment,
    }  # fmt: skip
    return environment.get_template(f"{name}.j2").render(values)


def _comment(text: str, indent: int = 0) -> str:
    """Text as the lines of a YAML comment."""
    start = " " * indent + "# "
    return textwrap.fill(" ".join(text.split()), 120, initial_indent=start, subsequent_indent=start)
