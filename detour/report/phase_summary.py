"""Plan, cost, and losses of each phase of a run, from its newest checkpoint and the metrics recorded after it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detour.cost.ledger import PhaseCost, read_costs
from detour.errors import ConfigError
from detour.files import sha256_of
from detour.report.held_out import HeldOut, labeled
from detour.report.metrics_log import Metrics
from detour.training.checkpoints.files import MANIFEST, STATE, Checkpoint, listing

_COUNTED = ("tokens", "supervised", "flops", "device_seconds", "matmul_flops", "steps")


@dataclass(frozen=True, kw_only=True)
class PhaseSummary:
    """Plan, cost and results of one phase. The counted fields are those of `detour.cost.ledger.PhaseCost`.

    Attributes:
        planned: Tokens in the configuration.
        options: Objective options that distinguish this use of the objective from others in the run, as text.
        turns: Objectives trained in turn -> their options, as text.
        optimizer: What the phase changes of the run's optimizer, as text; empty for nothing.
        rope: Bases and scaling of the rotary positions that the phase sets, as text; empty for those of the model.
        mixture: Names of the phase's own folders of rows, if their proportions change over it.
        clip_norm: Gradient norm above which gradients are clipped, or None.
        start: Tokens the run had seen when the phase began.
        matmul_flops: FLOPs that the devices would have done in the same time at their measured GEMM throughput; 0 if
            unknown.
        tokens_per_second: Mean over the recorded batches; NaN if there are none.
        lr: Learning rate of the first and of the last recorded batch.
        held_out: Objective -> its held-out loss before the first batch, and the last one within the phase.
    """

    name: str
    objective: str
    planned: int
    options: str = ""
    turns: dict[str, str] = field(default_factory=dict)
    optimizer: str = ""
    rope: str = ""
    mixture: tuple[str, ...] = ()
    clip_norm: float | None = None
    start: int = 0
    tokens: int = 0
    supervised: int = 0
    flops: float = 0.0
    device_seconds: float = 0.0
    matmul_flops: float = 0.0
    steps: int = 0
    tokens_per_second: float = math.nan
    lr: tuple[float, float] | None = None
    held_out: dict[str, tuple[HeldOut | None, HeldOut | None]] = field(default_factory=dict)

    @property
    def uses(self) -> list[tuple[str, str]]:
        """The objectives that the phase trains, alone or in turn, with their options."""
        return [(self.objective, self.options), *self.turns.items()]

    @property
    def label(self) -> str:
        """The objective with its options."""
        return labeled(self.objective, self.options)

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization: counted FLOPs / (measured GEMM throughput x device-seconds); NaN if unknown."""
        return self.flops / self.matmul_flops if self.matmul_flops else math.nan

    @property
    def end(self) -> int:
        """Tokens the run had seen after the last recorded batch of the phase."""
        return self.start + self.tokens


def with_costs(phases: list[PhaseSummary], folder: Path, metrics: Metrics, notes: list[str]) -> list[PhaseSummary]:
    """Adds each phase's cost: the ledger of the newest readable checkpoint plus the metrics recorded after it."""
    counted, batch = list(phases), 0
    for checkpoint in reversed(listing(folder / "checkpoints")):
        if len(metrics) and checkpoint.tokens > metrics.tokens_seen:
            notes.append(
                f"The checkpoint at token {checkpoint.tokens:,} is newer than the last line of metrics.jsonl; not used."
            )
            continue
        try:
            batch, costs = _ledger(checkpoint)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigError):
            notes.append(f"The ledger of the checkpoint at token {checkpoint.tokens:,} cannot be read; not used.")
            continue
        for index, (phase, cost) in enumerate(zip(phases, costs, strict=False)):
            counted[index] = replace(phase, **{key: getattr(cost, key) for key in _COUNTED})
        break
    counted = _carry_on(counted, metrics, after_batch=batch)
    if len(metrics) and batch and metrics.column("batch")[-1] > batch:
        notes.append("Tokens, FLOPs and seconds after the newest checkpoint are computed from metrics.jsonl.")
    starts = np.cumsum([0, *(phase.tokens for phase in counted)])
    return [
        _observed(replace(phase, start=int(start)), index, metrics)
        for index, (phase, start) in enumerate(zip(counted, starts, strict=False))
    ]


def intact_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state of a checkpoint without its weights, after checking its SHA-256 against the manifest.

    Raises:
        OSError, ValueError, TypeError, KeyError, CheckpointError: The state is damaged or cannot be read.
    """
    expected = json.loads((checkpoint.path / MANIFEST).read_text())["files"][STATE]["sha256"]
    if sha256_of(checkpoint.path / STATE) != expected:
        raise ValueError(f"{checkpoint.path / STATE}: does not match its SHA-256")
    return checkpoint.state()


def _ledger(checkpoint: Checkpoint) -> tuple[int, list[PhaseCost]]:
    """The batch of a checkpoint and the cost of each phase."""
    state = checkpoint.state()
    return int(state["timestamp"]["batch"]), read_costs(state)


def _carry_on(phases: list[PhaseSummary], metrics: Metrics, *, after_batch: int) -> list[PhaseSummary]:
    """Adds the batches after a checkpoint. Metrics are cumulative, so a batch is the difference of two lines."""
    if not len(metrics):
        return phases
    grown = {
        name: np.diff(metrics.column(column), prepend=0.0)
        for name, column in [("supervised", "tokens/supervised"), ("flops", "flops/total"), ("steps", "steps/total")]
    }
    tokens_N = metrics.column("token") - metrics.column("before")
    seconds_N = grown["flops"] / np.maximum(metrics.column("throughput/flops_per_second_per_device"), 1e-9)
    mfu = next(
        (name for name in ("throughput/mfu", "throughput/utilisation") if name in metrics.columns), "throughput/mfu"
    )
    mfu_N = metrics.column(mfu)  # the second name is that of older runs
    matmul_N = grown["flops"] / np.maximum(mfu_N, 1e-9)
    out = []
    for index, phase in enumerate(phases):
        new_N = (metrics.column("phase/index") == index) & (metrics.column("batch") > after_batch)
        out.append(
            replace(
                phase,
                tokens=phase.tokens + int(tokens_N[new_N].sum()),
                supervised=phase.supervised + int(np.nansum(grown["supervised"][new_N])),
                flops=phase.flops + float(np.nansum(grown["flops"][new_N])),
                device_seconds=phase.device_seconds + float(np.nansum(seconds_N[new_N])),
                matmul_flops=phase.matmul_flops + float(np.nansum(matmul_N[new_N])),
                steps=phase.steps + int(np.nansum(grown["steps"][new_N])),
            )
        )
    return out


def _observed(phase: PhaseSummary, index: int, metrics: Metrics) -> PhaseSummary:
    """Adds learning rates, throughput and held-out losses of a phase."""
    if not phase.tokens:
        return phase
    mine_N = metrics.column("phase/index") == index
    tokens_N = metrics.column("token") - metrics.column("before")
    rate_N = metrics.column("throughput/tokens_per_second")
    timed_N = mine_N & (rate_N > 0) & np.isfinite(rate_N)
    lr = metrics.column("lr")[mine_N]
    held_out = {}
    for name, points in metrics.evaluations.items():
        within = [tokens for tokens in points if phase.start < tokens <= phase.end]
        first = HeldOut.of(metrics, name, phase.start) if phase.start in points else None
        held_out[name] = (first, HeldOut.of(metrics, name, within[-1]) if within else None)
    return replace(
        phase,
        lr=(float(lr[0]), float(lr[-1])) if len(lr) else None,
        tokens_per_second=(
            float(tokens_N[timed_N].sum() / (tokens_N[timed_N] / rate_N[timed_N]).sum()) if timed_N.any() else math.nan
        ),
        held_out=held_out,
    )
