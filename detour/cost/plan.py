"""The plan of a run: steps, learning rates, FLOPs and memory, computed from the configuration alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from detour import objectives, scheduled
from detour.config.schema import RunConfig
from detour.cost.flops import training_flops
from detour.cost.memory import Memory, step_memory
from detour.data.manifest import MANIFEST, ShardManifest
from detour.models.architecture import Architecture
from detour.objectives import ModuleObjective, Objective
from detour.phases import Phase

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
        document_tokens: Mean document length of text, on which the cost of attention depends; None takes that of full rows,
            or the longest that the model allows. Of streams, see `document_length`.
    """
    schedule, lr = run.phase_schedule, run.schedule
    lines, first = [], 0  # first token of the next step
    for index, phase in enumerate(schedule.phases):
        start, end = schedule.boundaries[index], schedule.boundaries[index + 1]
        step_tokens = _step_tokens(run, phase)
        steps = max(0, -(-(end - first) // step_tokens))  # a step belongs to the phase in which it begins
        after = first + steps * step_tokens
        fraction, flops = _per_token(run, phase, document_tokens)
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
                flops=flops * phase.tokens,
                frozen=", ".join(frozen) or "-",
            )
        )
        first = after
    return lines


def document_length(run: RunConfig, phase: Phase, document_tokens: float | None, stream: str = "") -> float:
    """Mean document length that a plan assumes in a phase or one of its streams, in tokens.

    ``document_tokens`` is that of text. A stream has documents of its own: their mean is read in its folders if they are
    there, as of the pairs in them alike, and is otherwise a row.
    """
    seq_len = run.data_of(phase, stream).seq_len
    if stream:
        document_tokens = stream_document_length(run, phase, stream)
    return min(document_tokens or seq_len, seq_len, run.architecture.longest_document)


def stream_document_length(run: RunConfig, phase: Phase, stream: str) -> float | None:
    """Mean tokens of the documents in a stream's folders; None if one of them is not on this machine."""
    folders = [Path(spec.path) for spec in run.data_of(phase, stream).train]
    if not all((folder / MANIFEST).exists() for folder in folders):
        return None
    counts = [ShardManifest.load(folder).counts for folder in folders]
    return sum(each.tokens for each in counts) / sum(each.pieces for each in counts)


def _parts(run: RunConfig, phase: Phase, *, fraction: float = 0.0) -> list[tuple[Objective, float, int]]:
    """The objectives of a phase, the fraction of the steps under each, and the tokens of such a step."""
    found = []
    for part, share in objectives.build(phase.objective, phase.options, fraction=fraction).parts:
        data = run.data_of(phase, part.stream_at(0))
        found.append((part, share, data.global_batch_size * data.seq_len))
    return found


def _step_tokens(run: RunConfig, phase: Phase) -> int:
    """Tokens of a step; their mean where the streams of a phase have batches of different sizes."""
    return round(sum(share * tokens for _, share, tokens in _parts(run, phase)))


def _per_token(run: RunConfig, phase: Phase, document_tokens: float | None) -> tuple[float, float]:
    """Supervised fraction and FLOPs per token of a phase; the mean over the phase where options change."""
    points = [i / 16 for i in range(17)] if any(scheduled.scheduled(phase.options)) else [0.0]
    fractions, flops = [], []
    for point in points:
        parts = _parts(run, phase, fraction=point)
        total = sum(share * tokens for _, share, tokens in parts)
        fractions.append(0.0)
        flops.append(0.0)
        for part, share, tokens in parts:
            length = document_length(run, phase, document_tokens, part.stream_at(0))
            supervised = part.target_fraction(length)
            fractions[-1] += share * tokens / total * supervised
            flops[-1] += share * tokens / total * document_flops(run.architecture, part, length) / round(length)
    return fmean(fractions), fmean(flops)


def document_flops(arch: Architecture, objective: Objective, length: float) -> float:
    """FLOPs of the forward and backward pass over a document of so many tokens."""
    supervised = objective.target_fraction(length) * round(length)
    if isinstance(objective, ModuleObjective):
        own, supervised = objective.module_flops(arch, tokens=length, supervised=supervised), 0.0
    else:
        own = 0.0
    return own + training_flops(arch, [round(length)], attention=objective.attention, supervised=supervised)


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
                f"Phase '{line.name}' has only {_steps(line.steps)}. No step is split between two phases: the last one of phase "
                f"'{lines[index - 1].name}' may take up to {min(1.0, steps_of[index - 1] / line.tokens):.0%} of the tokens "
                f"of '{line.name}' ({line.overrun:,} if all rows are full)."
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


def memory(run: RunConfig, *, rows: int | None = None) -> tuple[str, int, Memory]:
    """The phase with the highest peak memory per device, its rows per micro-batch there, and that memory, without FSDP.

    Args:
        run: The configuration.
        rows: Rows per micro-batch; None takes those of each phase.
    """
    needs = {}
    for phase in run.phases:
        parts = [part for fraction in (0.0, 1.0) for part, _, _ in _parts(run, phase, fraction=fraction)]
        for stream in dict.fromkeys(part.stream_at(0) for part in parts):
            data, read = run.data_of(phase, stream), [part for part in parts if part.stream_at(0) == stream]
            size = rows or data.micro_batch_size
            tokens = size * data.seq_len
            needs[phase.name, size, stream] = step_memory(
                run.architecture,
                tokens=tokens,
                supervised=max(part.target_fraction(data.seq_len) for part in read) * tokens,
                attention=next((part.attention for part in read if part.attention != "causal"), "causal"),
                precision=run.system.precision,
                device="cpu" if run.system.device == "cpu" else "gpu",
                checkpointing=run.model.gradient_checkpointing,
            )
    (name, size, _), most = max(needs.items(), key=lambda item: item[1].total)
    return name, size, most


def rows_that_fit(run: RunConfig, *, gigabytes: float) -> int:
    """Largest micro-batch, in rows, that fits by `memory`, with 10% and 2 GB left for libraries and the allocator; may be 0."""
    available = 0.9 * gigabytes * 1e9 - 2e9
    rows = range(1, run.data.global_batch_size + 1)
    return bisect_right(rows, available, key=lambda rows: memory(run, rows=rows)[2].total)
