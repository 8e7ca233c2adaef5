"""Whether a run may continue from a checkpoint: its future may change, its past may not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from detour.config.schema import RunConfig
from detour.phases import Freeze, Phase, PhaseSchedule
from detour.schedule import WSD

# what every batch behind the checkpoint depended on
_FIXED = (
    "seed",
    "model.init",
    "model.size",
    "model.architecture",
    "data.seq_len",
    "data.global_batch_size",
    "data.shuffle",
    "data.shuffle_seed",
    "data.canonical_nodes",
    "optimizer",
)


def differences(saved: Mapping[str, Any], run: RunConfig, now: Mapping[str, Any], *, tokens: int) -> list[str]:
    """Lines that say what would change the first ``tokens`` tokens of the run; empty if it may continue.

    Args:
        saved: The record stored with the checkpoint (`detour.build.run_record`).
        run: The configuration now.
        now: The record of this configuration.
        tokens: Where the checkpoint stands.
    """
    lines = []
    for key in (*(f"config.{key}" for key in _FIXED), "tokenizer", "data"):
        before, after = _get(saved, key), _get(now, key)
        if before != after:
            lines.append(f"{key.removeprefix('config.')}: was {before!r}, now {after!r}")
    old_wsd, old_phases = _schedule_of(saved["config"])
    new_wsd, new_phases = run.schedule, run.phase_schedule
    tokens = min(tokens, old_phases.total_tokens)  # a run's last batch may reach past its end, and none begins there
    lines += new_phases.past_differs(saved["config"]["phases"], tokens)
    for at in _grid(tokens, {*_knots(old_wsd, old_phases), *_knots(new_wsd, new_phases)}):
        before, after = old_wsd.lr_at(at, old_phases), new_wsd.lr_at(at, new_phases)
        if abs(before - after) > 1e-12:
            lines.append(f"schedule: the learning rate at token {at:,} was {before:.6g}, and would now be {after:.6g}")
            break
    return lines


def _knots(schedule: WSD, phases: PhaseSchedule) -> list[int]:
    """Tokens between which the learning rate is smooth."""
    starts = zip(phases.boundaries, phases.phases, strict=False)
    return [schedule.warmup_tokens, *phases.boundaries, *(start + phase.rewarm_tokens for start, phase in starts)]


def _grid(tokens: int, knots: set[int]) -> list[int]:
    """Places below ``tokens``, 32 between each pair of knots, however close together these are."""
    edges = sorted({0, tokens, *(knot for knot in knots if knot < tokens)})
    return sorted({a + (b - a) * step // 32 for a, b in pairwise(edges) for step in range(32)})


def _get(record: Mapping[str, Any], key: str) -> Any:
    value: Any = record
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _schedule_of(config: Mapping[str, Any]) -> tuple[WSD, PhaseSchedule]:
    phases = [Phase(**{**phase, "freeze": Freeze(**phase["freeze"])}) for phase in config["phases"]]
    return WSD(**config["schedule"]), PhaseSchedule(phases)
