"""The micro-batch finder: a run's own step at growing micro-batches on this device, its speed and its memory.

Packed rows all have the same size, so one micro-batch needs as much as any other of its objective, and what is measured
here holds for the whole run. The result of training does not depend on the choice, up to rounding.
"""

from __future__ import annotations

import resource
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
from detour.cost.plan import memory
from detour.data.packing import pack_rows, split_document
from detour.errors import ConfigError
from detour.models.attention import select
from detour.models.modernbert.encoder import Encoder
from detour.training.optim import build_optimizer
from detour.units import short

STEPS = 3  # the first is not counted


@dataclass(frozen=True)
class Trial:
    """One micro-batch that was tried.

    Attributes:
        rows: Rows in it.
        tokens_per_second: The slowest objective's, forward, backward and a share of the optimizer's step.
        peak_bytes: The hungriest objective's; on a CPU of the whole process.
    """

    rows: int
    tokens_per_second: float
    peak_bytes: int


def trials(run: RunConfig, *, memory_bytes: float | None, document_tokens: float) -> Iterator[Trial]:
    """Tries 1, 2, 4, ... rows until the global batch is reached, memory runs out, or would by the estimate.

    Args:
        run: Its model, objectives, precision and row length are used; its data and weights are not.
        memory_bytes: Stop before the estimate exceeds it; None tries until the device refuses, and on a CPU stops at
            three quarters of what is free.
        document_tokens: Mean length of the documents that the rows are filled with.

    Raises:
        ConfigError: Not even one row fits.
    """
    device = "cuda" if run.system.device != "cpu" and torch.cuda.is_available() else "cpu"
    limit = memory_bytes or (0.75 * _free_bytes() if device == "cpu" else float("inf"))
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
        need = memory(run, rows=rows)[1].total
        if need > limit:
            if rows == 1:
                raise ConfigError(
                    f"not one row of {run.data.seq_len:,} tokens fits: it needs about {need / 1e9:.1f} GB, and there are "
                    f"{limit / 1e9:.1f}; turn on model.gradient_checkpointing, or make rows shorter"
                )
            return
        try:
            yield _trial(run, encoder, optimizer, rows=rows, device=device, document_tokens=document_tokens)
        except torch.OutOfMemoryError:
            if rows == 1:
                raise ConfigError(
                    "not one row fits: turn on model.gradient_checkpointing, or make rows shorter"
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
    for phase in {(p.objective, str(p.options)): p for p in run.phases}.values():
        objective = objectives.build(phase.objective, phase.options)
        batch = _batch(run, rows, document_tokens, share=objective.target_fraction(document_tokens))
        batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=run.system.precision == "bf16"):
                out = encoder(batch["input_ids"], batch["doc_lengths"], batch["labels"], objective.attention)
            (out.total / out.supervised.clamp(min=1)).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            optimizer.step()
            optimizer.zero_grad()
        speeds.append(rows * run.data.seq_len / statistics.median(times[1:]))
    return Trial(rows, min(speeds), _peak_bytes(device))


def _batch(run: RunConfig, rows: int, document_tokens: float, *, share: float) -> Batch:
    """Random tokens in packed documents, a share of them supervised."""
    rng, T = np.random.default_rng(1), run.data.seq_len
    ids = torch.from_numpy(rng.integers(0, run.architecture.vocab_size, (rows, T)))
    return {
        "input_ids": ids,
        "doc_lengths": packed_lengths(rows, T, document_tokens),
        "sample_id": torch.arange(rows),
        "labels": torch.where(torch.from_numpy(rng.random((rows, T)) < share), ids, IGNORE),
    }


def packed_lengths(rows: int, T: int, document_tokens: float) -> torch.Tensor:
    """int64 [rows, D]: lengths of documents in packed rows of T; log-normal (sigma 1) with the given mean, before cutting."""
    enough = int(3 * rows * T / document_tokens) + 8
    drawn = np.random.default_rng(0).lognormal(np.log(document_tokens) - 0.5, 1.0, enough)
    pieces = [range(n) for length in np.maximum(1, drawn).astype(int).tolist() for n in split_document(length, T)]
    packed = [[len(piece) for piece in row] for row in pack_rows(pieces, seq_len=T, seed=0)][:rows]
    D = max(map(len, packed))
    return torch.tensor([row + [0] * (D - len(row)) for row in packed])


def _free_bytes() -> float:
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return float(fields["MemAvailable"].split()[0]) * 1024


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def advice(tried: list[Trial]) -> Trial:
    """The fewest rows that come within 3% of the best speed: more would only take memory."""
    best = max(trial.tokens_per_second for trial in tried)
    return next(trial for trial in tried if trial.tokens_per_second >= 0.97 * best)


def tune(run: RunConfig, *, memory_gigabytes: float | None, document_tokens: float) -> None:
    """Prints each trial as it ends, then which `data.micro_batch_size` to take."""
    console, tried = Console(), []
    limit = None if memory_gigabytes is None else memory_gigabytes * 1e9
    for trial in trials(run, memory_bytes=limit, document_tokens=document_tokens):
        tried.append(trial)
        console.print(
            f"micro_batch_size {trial.rows}: {short(trial.tokens_per_second)} tokens/s, {trial.peak_bytes / 1e9:.2f} GB",
            highlight=False,
        )
    table = Table("micro_batch_size", "tokens/s", "peak GB", "estimate GB")
    for trial in tried:
        estimate = memory(run, rows=trial.rows)[1].total / 1e9
        table.add_row(
            str(trial.rows), f"{trial.tokens_per_second:,.0f}", f"{trial.peak_bytes / 1e9:.2f}", f"{estimate:.2f}"
        )
    console.print(table)
    console.print(f"data.micro_batch_size={advice(tried).rows}", highlight=False)
