"""The plan of a run: steps, learning rates, FLOPs and memory, computed from the configuration alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.console import Console, Group
from rich.table import Table

from detour import objectives, scheduled
from detour.config.schema import RunConfig
from detour.cost.flops import training_flops
from detour.cost.memory import Memory, step_memory
from detour.models.architecture import Architecture
from detour.phases import Phase
from detour.units import short

FEW_STEPS = 50  # in a shorter phase one step is more than 2% of its tokens
FEW_WARMUP_STEPS = 10


@dataclass(frozen=True)
class PhasePlan:
    """One phase of the plan. Steps are counted as if all rows were full.

    Attributes:
        name: Name of the phase.
        objective: Its objective, with the options that were set.
        tokens: Its length.
        steps: Optimizer steps that begin in it.
        overrun: Its tokens that belong to the last step of the previous phase, since a step is never split.
        lr_first: Learning rate of its first step.
        lr_last: Learning rate at its last token.
        lr_last_step: Learning rate of its last step, which is the rate at the first token of that step.
        supervised: Expected number of tokens that carry loss.
        flops: Training FLOPs.
        frozen: What the phase freezes, in words.
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
    """The plan of each phase.

    Args:
        run: The configuration.
        document_tokens: Mean document length, on which the cost of attention depends; None takes that of full rows, or the
            longest that the model allows.
    """
    schedule, lr, model = run.phase_schedule, run.schedule, run.architecture
    lines, first = [], 0  # first token of the next step
    for index, phase in enumerate(schedule.phases):
        data, length = run.data_of(phase), document_length(run, phase, document_tokens)
        start, end = schedule.boundaries[index], schedule.boundaries[index + 1]
        step_tokens = data.global_batch_size * data.seq_len
        steps = max(0, -(-(end - first) // step_tokens))  # a step belongs to the phase in which it begins
        after = first + steps * step_tokens
        fraction, flops_per_document = _document(model, phase, length)
        options = ", ".join(f"{key} {scheduled.spelled(value)}" for key, value in phase.options.items())
        frozen = [f"layers {phase.freeze.layers}"] if phase.freeze.layers else []
        frozen += ["embeddings"] if phase.freeze.embeddings else []
        lines.append(
            PhasePlan(
                name=phase.name,
                objective=phase.objective + (f" ({options})" if options else ""),
                tokens=phase.tokens,
                steps=steps,
                overrun=first - start,
                lr_first=lr.lr_at(first, schedule),
                lr_last=lr.lr_at(end - 1, schedule),
                lr_last_step=lr.lr_at(after - step_tokens, schedule),
                supervised=fraction * phase.tokens,
                flops=flops_per_document / round(length) * phase.tokens,
                frozen=", ".join(frozen) or "-",
            )
        )
        first = after
    return lines


def document_length(run: RunConfig, phase: Phase, document_tokens: float | None) -> float:
    """Mean document length that a plan assumes in a phase, in tokens."""
    seq_len = run.data_of(phase).seq_len
    return min(document_tokens or seq_len, seq_len, run.architecture.longest_document)


def _step_tokens(run: RunConfig, phase: Phase) -> int:
    data = run.data_of(phase)
    return data.global_batch_size * data.seq_len


def _document(arch: Architecture, phase: Phase, length: float) -> tuple[float, float]:
    """Supervised fraction and FLOPs of a document in a phase; the mean over the phase where options change."""
    points = [i / 16 for i in range(17)] if any(scheduled.scheduled(phase.options)) else [0.0]
    fractions, flops = [], []
    for point in points:
        objective = objectives.build(phase.objective, phase.options, fraction=point)
        fraction = objective.target_fraction(length)
        fractions.append(fraction)
        flops.append(
            sum(
                share
                * training_flops(
                    arch,
                    [round(length)],
                    attention=part.attention,
                    supervised=part.target_fraction(length) * round(length),
                )
                for part, share in objective.parts
            )
        )
    return fmean(fractions), fmean(flops)


def caveats(run: RunConfig, lines: Sequence[PhasePlan]) -> list[str]:
    """Warnings about phases, warm-ups and decays of only a few steps, one sentence each."""
    steps_of = [_step_tokens(run, phase) for phase in run.phases]
    notes = []
    for index, line in enumerate(lines):
        if line.name == run.schedule.decay_phase and line.steps < FEW_STEPS:
            notes.append(
                f"The decay, phase '{line.name}', has only {_steps(line.steps)}: the learning rate is constant within a "
                f"step, and the last step uses {line.lr_last_step:.1e}, not {line.lr_last:.1e}."
            )
        if index and line.steps < FEW_STEPS:
            notes.append(
                f"Phase '{line.name}' has only {_steps(line.steps)}, and the last step of phase "
                f"'{lines[index - 1].name}' may take up to {min(1.0, steps_of[index - 1] / line.tokens):.0%} of its tokens "
                f"({line.overrun:,} tokens if all rows are full)."
            )
    warmups = [("schedule.warmup_tokens", run.schedule.warmup_tokens, steps_of[0])]
    warmups += [(f"phases[{i}].rewarm_tokens", phase.rewarm_tokens, steps_of[i]) for i, phase in enumerate(run.phases)]
    notes += [
        f"{key} is {tokens:,}, {tokens / step:.2g} steps: the learning rate rises in few increments, from 0."
        for key, tokens, step in warmups
        if 0 < tokens < FEW_WARMUP_STEPS * step
    ]
    return notes


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def gpu_hours(hours: float) -> str:
    """GPU-hours with at least two significant digits."""
    return f"{hours:,.1f}" if hours >= 10 or not hours else f"{hours:.2g}"


def memory(run: RunConfig, *, rows: int | None = None) -> tuple[str, Memory]:
    """The phase with the highest peak memory per device, and that memory, without FSDP.

    Args:
        run: The configuration.
        rows: Rows per micro-batch; None takes those of each phase.
    """
    needs = {}
    for phase in run.phases:
        data = run.data_of(phase)
        tokens = (rows or data.micro_batch_size) * data.seq_len
        parts = [
            part
            for fraction in (0.0, 1.0)
            for part, _ in objectives.build(phase.objective, phase.options, fraction=fraction).parts
        ]
        needs[phase.name] = step_memory(
            run.architecture,
            tokens=tokens,
            supervised=max(part.target_fraction(data.seq_len) for part in parts) * tokens,
            attention=next((part.attention for part in parts if part.attention != "causal"), "causal"),
            precision=run.system.precision,
            device="cpu" if run.system.device == "cpu" else "gpu",
            checkpointing=run.model.gradient_checkpointing,
        )
    return max(needs.items(), key=lambda item: item[1].total)


def rows_that_fit(run: RunConfig, *, gigabytes: float) -> int:
    """Largest micro-batch, in rows, that fits by `memory`, with 10% and 2 GB left for libraries and the allocator; may be 0."""
    available = 0.9 * gigabytes * 1e9 - 2e9
    rows = range(1, run.data.global_batch_size + 1)
    return bisect_right(rows, available, key=lambda rows: memory(run, rows=rows)[1].total)


def show(
    run: RunConfig,
    *,
    document_tokens: float | None,
    peak_tflops: float,
    mfu: float,
    memory_gigabytes: float,
) -> None:
    """Prints the plan as a table, followed by its assumptions and warnings.

    Args:
        run: The configuration.
        document_tokens: Mean document length; None takes ``seq_len``.
        peak_tflops: Peak matmul throughput of a GPU, in TFLOP/s.
        mfu: Assumed model FLOPs utilization, between 0 and 1.
        memory_gigabytes: Memory of a device.
    """
    lines = plan(run, document_tokens=document_tokens)
    throughput = peak_tflops * 1e12 * mfu
    table = Table(title=run.name, title_justify="left", box=box.SIMPLE)
    for heading in ("phase", "objective", "tokens", "steps", "LR", "supervised", "FLOPs", "GPU-hours", "frozen"):
        left = heading in ("phase", "objective", "LR", "frozen")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "objective", overflow="fold")
    for line in lines:
        table.add_row(
            line.name,
            line.objective,
            short(line.tokens),
            f"{line.steps:,}",
            f"{line.lr_first:.1e} -> {line.lr_last:.1e}",
            short(line.supervised),
            f"{line.flops:.2e}",
            gpu_hours(line.flops / throughput / 3600),
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
        gpu_hours(sums["flops"] / throughput / 3600),
        "",
    )
    lengths = dict.fromkeys(f"{document_length(run, phase, document_tokens):,.0f}" for phase in run.phases)
    notes = [
        *_phase_notes(run),
        f"Assumed document length: {', then '.join(lengths)} tokens (--document-tokens); attention costs more in longer "
        "documents.",
        f"GPU-hours assume {peak_tflops:g} TFLOP/s per GPU (--peak-tflops) and an MFU of {mfu:.0%} (--mfu).",
        _memory_note(run, memory_gigabytes),
        *(f"Warning: {note}" for note in caveats(run, lines)),
    ]
    console = Console()
    console.width = max(console.width, 160)  # a table that wraps cannot be read
    console.print(Group(table, *notes))


def _phase_notes(run: RunConfig) -> list[str]:
    """The size of a step, once for each size; and what phases change of the optimizer and the rotary positions."""
    shapes: dict[tuple[int, int], list[str]] = {}
    for phase in run.phases:
        data = run.data_of(phase)
        shapes.setdefault((data.global_batch_size, data.seq_len), []).append(phase.name)
    return [
        f"A step is {rows:,} rows x {seq_len:,} tokens = {rows * seq_len:,} tokens"
        + ("." if len(shapes) == 1 else f" in {', '.join(names)}.")
        for (rows, seq_len), names in shapes.items()
    ] + [
        f"{what} in phase {phase.name}: {', '.join(words)}."
        for phase in run.phases
        for what, words in (("Optimizer", phase.optimizer.words), ("Rotary bases", phase.rope.words))
        if words
    ]


def _memory_note(run: RunConfig, gigabytes: float) -> str:
    phase, need = memory(run)
    rows = next(run.data_of(p).micro_batch_size for p in run.phases if p.name == phase)
    fits = rows_that_fit(run, gigabytes=gigabytes)
    advice = (
        f"up to {fits} rows should fit"
        if fits
        else "not even one row fits: use gradient_checkpointing, FSDP or a smaller seq_len"
    )
    return (
        f"Estimated peak memory per device at micro_batch_size {rows} (phase {phase}): {need.state / 1e9:.1f} GB of weights, "
        "gradients and moments (system.parallelism: fsdp_full_shard shards these), "
        f"{need.activations / 1e9:.1f} GB of activations, {need.loss / 1e9:.1f} GB "
        f"for the loss. In {gigabytes:g} GB (--memory-gigabytes) {advice}; `detour tune` measures it."
    )
