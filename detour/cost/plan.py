"""What a run will do and cost, from its configuration alone: no data, no weights, no GPU, no network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group
from rich.table import Table

from detour import objectives
from detour.config.schema import RunConfig
from detour.cost.flops import training_flops
from detour.cost.memory import Memory, step_memory
from detour.units import short

FEW_STEPS = 50  # fewer, and a step is more than a fiftieth of a phase
FEW_STEPS_UP = 10


@dataclass(frozen=True)
class PhasePlan:
    """One line of the plan.

    Attributes:
        name: The phase.
        objective: Its objective, with the options that were set.
        tokens: Its length.
        steps: Optimizer steps, rows taken as full.
        overrun: Tokens of it that the last step of the phase before takes, rows taken as full; a step is never cut.
        lr_first: Learning rate of its first step.
        lr_last: Learning rate of its last token.
        lr_last_step: Learning rate of its last step, which begins before that.
        supervised: Expected tokens that carry loss.
        flops: Training FLOPs.
        frozen: What keeps its weights, in words.
    """

    name: str
    objective: str
    tokens: int
    steps: int
    overrun: int
    lr_first: float
    lr_last: float
    lr_last_step: float
    supervised: float
    flops: float
    frozen: str


def plan(run: RunConfig, *, document_tokens: float | None = None) -> list[PhasePlan]:
    """A `PhasePlan` a phase.

    Args:
        run: The configuration.
        document_tokens: Mean tokens of a document; attention's cost grows with it. None takes a whole row.
    """
    length = min(document_tokens or run.data.seq_len, run.data.seq_len)
    schedule, rate, model = run.phase_schedule, run.schedule, run.architecture
    step_tokens = run.data.global_batch_size * run.data.seq_len
    lines = []
    for index, phase in enumerate(schedule.phases):
        start, end = schedule.boundaries[index], schedule.boundaries[index + 1]
        first, after = -(-start // step_tokens), -(-end // step_tokens)  # a step belongs to the phase that it begins in
        objective = objectives.build(phase.objective, phase.options)
        share = objective.target_fraction(length)
        flops_per_document = training_flops(
            model, [round(length)], attention=objective.attention, supervised=share * round(length)
        )
        options = ", ".join(f"{key} {value}" for key, value in phase.options.items())
        frozen = [f"layers {phase.freeze.layers}"] if phase.freeze.layers else []
        frozen += ["embeddings"] if phase.freeze.embeddings else []
        lines.append(
            PhasePlan(
                name=phase.name,
                objective=phase.objective + (f" ({options})" if options else ""),
                tokens=phase.tokens,
                steps=after - first,
                overrun=first * step_tokens - start,
                lr_first=rate.lr_at(first * step_tokens, schedule),
                lr_last=rate.lr_at(end - 1, schedule),
                lr_last_step=rate.lr_at((after - 1) * step_tokens, schedule),
                supervised=share * phase.tokens,
                flops=flops_per_document / round(length) * phase.tokens,
                frozen=", ".join(frozen) or "-",
            )
        )
    return lines


def caveats(run: RunConfig, lines: Sequence[PhasePlan]) -> list[str]:
    """What a user may not expect of these lengths, a sentence each: phases, warm-ups and decays of a handful of steps."""
    step, notes = run.data.global_batch_size * run.data.seq_len, []
    for index, line in enumerate(lines):
        if line.name == run.schedule.decay_phase and line.steps < FEW_STEPS:
            notes.append(
                f"The decay, phase '{line.name}', is {_steps(line.steps)} long: the rate falls in as many stairs, and the last "
                f"step is taken at {line.lr_last_step:.1e}, not at {line.lr_last:.1e}."
            )
        if index and line.steps < FEW_STEPS:
            notes.append(
                f"Phase '{line.name}' is {_steps(line.steps)} long, and phase '{lines[index - 1].name}' runs into it by up to a "
                f"step, {min(1.0, step / line.tokens):.0%} of its tokens ({line.overrun:,} tokens if rows are full)."
            )
    climbs = {"schedule.warmup_tokens": run.schedule.warmup_tokens}
    climbs |= {f"phases[{i}].rewarm_tokens": phase.rewarm_tokens for i, phase in enumerate(run.phases)}
    notes += [
        f"{key} is {tokens:,}, {tokens / step:.2g} steps: the rate climbs in as few stairs, the first of them 0."
        for key, tokens in climbs.items()
        if 0 < tokens < FEW_STEPS_UP * step
    ]
    return notes


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def gpu_hours(hours: float) -> str:
    """At least two digits that are not zeros, whatever the size."""
    return f"{hours:,.1f}" if hours >= 10 or not hours else f"{hours:.2g}"


def memory(run: RunConfig, *, rows: int) -> tuple[str, Memory]:
    """The phase that needs the most memory on a device at so many rows a micro-batch, and how much; weights not sharded."""
    tokens = rows * run.data.seq_len
    needs = {}
    for phase in run.phases:
        objective = objectives.build(phase.objective, phase.options)
        needs[phase.name] = step_memory(
            run.architecture,
            tokens=tokens,
            supervised=objective.target_fraction(run.data.seq_len) * tokens,
            attention=objective.attention,
            precision=run.system.precision,
            device="cpu" if run.system.device == "cpu" else "gpu",
            checkpointing=run.model.gradient_checkpointing,
        )
    return max(needs.items(), key=lambda item: item[1].total)


def rows_that_fit(run: RunConfig, *, gigabytes: float) -> int:
    """Most rows a micro-batch by `memory`, with a tenth and 2 GB left for libraries and the allocator; 0 if not one."""
    room = 0.9 * gigabytes * 1e9 - 2e9
    rows = range(1, run.data.global_batch_size + 1)
    return bisect_right(rows, room, key=lambda rows: memory(run, rows=rows)[1].total)


def show(
    run: RunConfig,
    *,
    document_tokens: float | None,
    peak_tflops: float,
    utilisation: float,
    memory_gigabytes: float,
) -> None:
    """Prints the plan as a table, with the assumptions under it."""
    lines = plan(run, document_tokens=document_tokens)
    rate = peak_tflops * 1e12 * utilisation
    table = Table(title=run.name, title_justify="left", box=box.SIMPLE)
    for heading in ("phase", "objective", "tokens", "steps", "LR", "supervised", "FLOPs", "GPU-hours", "frozen"):
        left = heading in ("phase", "objective", "LR", "frozen")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for line in lines:
        table.add_row(
            line.name,
            line.objective,
            short(line.tokens),
            f"{line.steps:,}",
            f"{line.lr_first:.1e} -> {line.lr_last:.1e}",
            short(line.supervised),
            f"{line.flops:.2e}",
            gpu_hours(line.flops / rate / 3600),
            line.frozen,
        )
    sums = {name: sum(getattr(line, name) for line in lines) for name in ("tokens", "steps", "supervised", "flops")}
    table.add_section()
    table.add_row(
        "total",
        "",
        short(sums["tokens"]),
        f"{sums['steps']:,}",
        "",
        short(sums["supervised"]),
        f"{sums['flops']:.2e}",
        gpu_hours(sums["flops"] / rate / 3600),
        "",
    )
    length = min(document_tokens or run.data.seq_len, run.data.seq_len)
    notes = [
        f"A step is {run.data.global_batch_size:,} rows x {run.data.seq_len:,} tokens = "
        f"{run.data.global_batch_size * run.data.seq_len:,} tokens.",
        f"Documents are taken as {length:,.0f} tokens long (--document-tokens): attention costs more in longer ones.",
        f"GPU-hours assume {peak_tflops:g} TFLOP/s a GPU at {utilisation:.0%} (--peak-tflops, --mfu); an estimate, "
        "not a measurement.",
        _memory_note(run, memory_gigabytes),
        *(f"Warning: {note}" for note in caveats(run, lines)),
    ]
    console = Console()
    console.width = max(console.width, 160)  # a table that wraps cannot be read
    console.print(Group(table, *notes))


def _memory_note(run: RunConfig, gigabytes: float) -> str:
    rows = run.data.micro_batch_size
    phase, need = memory(run, rows=rows)
    fits = rows_that_fit(run, gigabytes=gigabytes)
    advice = (
        f"up to {fits} rows should fit" if fits else "not one row fits: gradient_checkpointing, FSDP or shorter rows"
    )
    return (
        f"Memory of a device at micro_batch_size {rows}, at most (phase {phase}): {need.state / 1e9:.1f} GB of weights, "
        f"gradients and moments (FSDP divides it by the devices), {need.activations / 1e9:.1f} GB of activations, "
        f"{need.loss / 1e9:.1f} GB for the loss. In {gigabytes:g} GB (--memory-gigabytes) {advice}; an estimate, `detour tune` "
        "measures."
    )
