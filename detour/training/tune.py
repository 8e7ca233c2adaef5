"""`detour tune`: measures throughput and peak memory of a training step at growing micro-batches on this device.

Packed rows all have the same length, so a measured micro-batch is representative of the whole run. Up to rounding, the result of
training does not depend on the micro-batch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from detour import objectives
from detour.batch import IGNORE, Batch
from detour.config.schema import RunConfig
from detour.cost.memory import peak_memory_bytes
from detour.cost.plan import memory
from detour.data.packing import pack_rows, split_document
from detour.errors import ConfigError
from detour.models.attention import select
from detour.models.encoder import Encoder
from detour.objectives import ModuleObjective, Objective
from detour.training.optim import build_optimizer
from detour.units import short

STEPS = 3  # the first is a warm-up


@dataclass(frozen=True)
class Trial:
    """Measurement of one micro-batch size.

    Attributes:
        rows: Rows per micro-batch.
        tokens_per_second: Throughput of forward and backward pass, for the slowest objective.
        peak_bytes: Highest peak memory over the objectives; on a CPU, of the whole process.
    """

    rows: int
    tokens_per_second: float
    peak_bytes: int


def trials(run: RunConfig, *, memory_bytes: float | None, document_tokens: float) -> Iterator[Trial]:
    """Measures 1, 2, 4, ... rows up to the global batch, or until memory runs out or is estimated to run out.

    Args:
        run: Model, objectives, precision and row length are used; data and weights are not.
        memory_bytes: Limit for the estimated memory. By default there is none on a GPU, and on a CPU it is three quarters of
            the available memory.
        document_tokens: Mean document length in the packed rows.

    Raises:
        ConfigError: A single row does not fit, or no objective can be measured.
    """
    measured(run)
    device = "cuda" if run.system.device != "cpu" and torch.cuda.is_available() else "cpu"
    limit = memory_bytes or (0.75 * _available_bytes() if device == "cpu" else float("inf"))
    dtype = torch.bfloat16 if run.system.precision == "bf16" else torch.float32
    backend = select(run.model.attention_backend, device=device, dtype=dtype)
    encoder = Encoder(run.architecture, backend=backend, gradient_checkpointing=run.model.gradient_checkpointing).to(
        device
    )
    if run.model.compile:
        encoder.compile_regions()
    optimizer = build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr)
    rows = 1
    while rows <= run.data.global_batch_size:
        need = memory(run, rows=rows)[2].total
        if need > limit:
            if rows == 1:
                raise ConfigError(
                    f"a single row of {run.data.seq_len:,} tokens does not fit: it needs about {need / 1e9:.1f} GB of "
                    f"{limit / 1e9:.1f} GB; set model.gradient_checkpointing or reduce data.seq_len"
                )
            return
        try:
            yield _trial(run, encoder, optimizer, rows=rows, device=device, document_tokens=document_tokens)
        except torch.OutOfMemoryError:
            if rows == 1:
                raise ConfigError(
                    "a single row does not fit: set model.gradient_checkpointing or reduce data.seq_len"
                ) from None
            return
        rows *= 2


def _trial(
    run: RunConfig,
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    *,
    rows: int,
    device: str,
    document_tokens: float,
) -> Trial:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    speeds = []
    for objective in measured(run)[0]:
        batch = _batch(run, rows, document_tokens, target_fraction=objective.target_fraction(document_tokens))
        batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=run.system.precision == "bf16"):
                out = encoder(
                    batch["input_ids"],
                    batch["doc_lengths"],
                    batch["labels"],
                    objective.attention,
                    reach_BT=torch.full_like(batch["input_ids"], run.data.seq_len),  # read by the rule "reach" alone
                )
            (out.total / out.supervised.clamp(min=1)).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            optimizer.step()
            optimizer.zero_grad()
        speeds.append(rows * run.data.seq_len / statistics.median(times[1:]))
    return Trial(rows, min(speeds), peak_memory_bytes(device))


def measured(run: RunConfig) -> tuple[list[Objective], list[str]]:
    """The objectives whose step is measured, and a sentence for each that is left out.

    An objective with a module or a stream of its own is left out: its batches are not those of text that are made up here.

    Raises:
        ConfigError: None is left.
    """
    found, left_out = {}, {}
    for phase in run.phases:
        whole = objectives.build(phase.objective, phase.options)
        own = [part for part, _ in whole.parts if isinstance(part, ModuleObjective) or part.stream_at(0)]
        for part in [part for part, _ in whole.parts if part not in own] if own else [whole]:
            found[repr(part)] = part
        for part in own:
            stream = part.stream_at(0)
            where = f"phases[{run.phases.index(phase)}].streams.{stream}" if stream else "data"
            left_out[
                f"{part.name} (phase {phase.name}) is not measured: it has a module or rows of its own; choose "
                f"{where}.micro_batch_size by detour plan and a short run"
            ] = None
    if not found:
        raise ConfigError("; ".join(left_out))
    return [*found.values()], [*left_out]


def _batch(run: RunConfig, rows: int, document_tokens: float, *, target_fraction: float) -> Batch:
    """Random tokens in packed documents, a fraction of them supervised."""
    rng, T = np.random.default_rng(1), run.data.seq_len
    ids = torch.from_numpy(rng.integers(0, run.architecture.vocab_size, (rows, T)))
    return {
        "input_ids": ids,
        "doc_lengths": packed_lengths(rows, T, document_tokens, limit=run.architecture.longest_document),
        "sample_id": torch.arange(rows),
        "labels": torch.where(torch.from_numpy(rng.random((rows, T)) < target_fraction), ids, IGNORE),
    }


def packed_lengths(rows: int, T: int, document_tokens: float, *, limit: int | None = None) -> torch.Tensor:
    """Document lengths of packed rows, int64 [rows, D], drawn from a log-normal distribution with sigma 1.

    Args:
        rows: Number of rows.
        T: Tokens per row.
        document_tokens: Mean document length, before documents longer than a row are split.
        limit: Most tokens of a document; None for T.
    """
    longest = min(T, limit or T)
    enough = int(3 * rows * T / document_tokens) + 8
    drawn = np.random.default_rng(0).lognormal(np.log(document_tokens) - 0.5, 1.0, enough)
    pieces = [range(n) for length in np.maximum(1, drawn).astype(int).tolist() for n in split_document(length, longest)]
    packed = [[len(piece) for piece in row] for row in pack_rows(pieces, seq_len=T, seed=0)][:rows]
    D = max(map(len, packed))
    return torch.tensor([row + [0] * (D - len(row)) for row in packed])


def _available_bytes() -> float:
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return float(fields["MemAvailable"].split()[0]) * 1024


def recommended(tried: list[Trial]) -> Trial:
    """The smallest micro-batch within 3% of the best throughput; a larger one would only take memory."""
    best = max(trial.tokens_per_second for trial in tried)
    return next(trial for trial in tried if trial.tokens_per_second >= 0.97 * best)


def tune(run: RunConfig, *, memory_gigabytes: float | None, document_tokens: float) -> None:
    """Prints each measurement, then the recommended `data.micro_batch_size`.

    Args:
        run: The configuration.
        memory_gigabytes: Limit for the estimated memory; None as in `trials`.
        document_tokens: Mean document length.
    """
    console, tried = Console(), []
    limit = None if memory_gigabytes is None else memory_gigabytes * 1e9
    for trial in trials(run, memory_bytes=limit, document_tokens=document_tokens):
        tried.append(trial)
        console.print(
            f"micro_batch_size {trial.rows}: {short(trial.tokens_per_second)} tokens/s, {trial.peak_bytes / 1e9:.2f} GB",
            highlight=False,
        )
    table = Table("micro_batch_size", "tokens/s", "peak GB", "estimated GB")
    for trial in tried:
        estimate = memory(run, rows=trial.rows)[2].total / 1e9
        table.add_row(
            str(trial.rows), f"{trial.tokens_per_second:,.0f}", f"{trial.peak_bytes / 1e9:.2f}", f"{estimate:.2f}"
        )
    console.print(table)
    for sentence in measured(run)[1]:
        console.print(f"{sentence}.", highlight=False)
    console.print(f"data.micro_batch_size={recommended(tried).rows}", highlight=False)
