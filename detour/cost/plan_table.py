"""Shows the plan of a run as a table, with its assumptions and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table

from detour.config.schema import RunConfig
from detour.cost.evaluation import evaluation_flops, evaluations
from detour.cost.plan import (
    PhasePlan,
    caveats,
    document_length,
    gpu_hours,
    memory,
    plan,
    rows_that_fit,
    stream_document_length,
)
from detour.units import disk_size, short

GPU_TFLOPS, GPU_GIGABYTES = 790.0, 80.0  # assumed where nothing is given: an H100, dense bf16


def show(
    run: RunConfig,
    *,
    document_tokens: float | None,
    peak_tflops: float | None,
    mfu: float,
    memory_gigabytes: float | None,
) -> None:
    """Prints the plan as a table, followed by its assumptions and warnings.

    Args:
        run: The configuration.
        document_tokens: Mean document length; None takes ``seq_len``.
        peak_tflops: Peak matmul throughput of a device, in TFLOP/s; None takes an H100's, and gives no hours for a CPU.
        mfu: Assumed model FLOPs utilization, between 0 and 1.
        memory_gigabytes: Memory of a device; None takes 80 GB, and gives no number of rows for a CPU.
    """
    lines = plan(run, document_tokens=document_tokens)
    on_cpu = run.system.device == "cpu"
    peak = peak_tflops or (None if on_cpu else GPU_TFLOPS)
    unit = "hours" if on_cpu else "GPU-hours"
    table = _table(run.name, lines, unit, None if peak is None else peak * 1e12 * mfu)
    lengths = dict.fromkeys(f"{document_length(run, phase, document_tokens):,.0f}" for phase in run.phases)
    notes = [
        *_phase_notes(run),
        f"Assumed document length: {', then '.join(lengths)} tokens (--document-tokens); attention costs more in longer "
        "documents.",
        *_stream_notes(run),
        "Hours on a CPU need its speed: `detour tune` measures it, and --peak-tflops takes it."
        if peak is None
        else f"{unit[0].upper()}{unit[1:]} assume {peak:g} TFLOP/s per device (--peak-tflops) and an MFU of {mfu:.0%} (--mfu).",
        *_evaluation_notes(run, sum(line.flops for line in lines), document_tokens),
        _memory_note(run, memory_gigabytes or (None if on_cpu else GPU_GIGABYTES)),
        *(f"Warning: {note}" for note in caveats(run, lines)),
    ]
    console = Console()
    console.width = max(console.width, 160)  # a table that wraps cannot be read
    console.print(Group(table, *notes))


def _table(name: str, lines: Sequence[PhasePlan], unit: str, throughput: float | None) -> Table:
    """A row for each phase, and the total. Without a throughput in FLOP/s there are no hours."""

    def hours(flops: float) -> str:
        return "-" if throughput is None else gpu_hours(flops / throughput / 3600)

    table = Table(title=name, title_justify="left", box=box.SIMPLE)
    for heading in ("phase", "objective", "tokens", "steps", "LR", "supervised", "FLOPs", unit, "frozen"):
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
            hours(line.flops),
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
        hours(sums["flops"]),
        "",
    )
    return table


def _phase_notes(run: RunConfig) -> list[str]:
    """The size of a step, once for each size; and what phases change of the optimizer and the rotary positions."""
    shapes: dict[tuple[int, int], list[str]] = {}
    for phase in run.phases:
        for stream in ("", *phase.streams):
            data, name = run.data_of(phase, stream), f"{phase.name} ({stream})" if stream else phase.name
            shapes.setdefault((data.global_batch_size, data.seq_len), []).append(name)
    return [
        f"A step is {rows:,} rows x {seq_len:,} tokens = {rows * seq_len:,} tokens"
        + ("." if len(shapes) == 1 else f" in {', '.join(names)}.")
        for (rows, seq_len), names in shapes.items()
    ] + [
        f"{what} in phase {phase.name}: {', '.join(words)}."
        for phase in run.phases
        for what, words in (("Optimizer", phase.optimizer.words), ("Rotary positions", phase.rope.words))
        if words
    ]


def _evaluation_notes(run: RunConfig, training: float, document_tokens: float | None) -> list[str]:
    """What the held-out losses cost, which the table leaves out."""
    counts = evaluations(run)
    if not counts:
        return []
    flops = evaluation_flops(run, document_tokens=document_tokens)
    times = ", ".join(f"{name} {count:,} times" for name, count in counts.items())
    return [
        f"Not in the table: held-out losses ({times}, up to {run.evaluation.rows:,} rows), {flops:.1e} FLOPs, "
        f"{flops / training:.2g} of training."
    ]


def _stream_notes(run: RunConfig) -> list[str]:
    """The document length of each stream, and where it is from."""
    notes = {}
    for phase in run.phases:
        for stream in phase.streams:
            known = stream_document_length(run, phase, stream) is not None
            length = document_length(run, phase, None, stream)
            notes[
                f"Document length in the stream {stream}: {length:,.4g} tokens, "
                + ("the mean of its rows." if known else "a whole row, because its folders are not on this machine.")
            ] = None
    return [*notes]


def _memory_note(run: RunConfig, gigabytes: float | None) -> str:
    phase, rows, need = memory(run)
    if gigabytes is None:
        advice = ""
    elif fits := rows_that_fit(run, gigabytes=gigabytes):
        advice = f"In {gigabytes:g} GB (--memory-gigabytes) up to {fits} rows should fit; "
    else:
        advice = f"In {gigabytes:g} GB not even one row fits: use gradient_checkpointing, FSDP or a smaller seq_len; "
    return (
        f"Estimated peak memory per device at micro_batch_size {rows} (phase {phase}): {disk_size(need.state)} of weights, "
        "gradients and moments (system.parallelism: fsdp_full_shard shards these), "
        f"{disk_size(need.activations)} of activations, {disk_size(need.loss)} "
        f"for the loss. {advice}`detour tune` measures it."
    )
