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
    lines += new_phases.diff_past(saved["config"]["phases"], tokens)
    for at in _grid(tokens, {*_knots(old_wsd, old_phases), *_knots(new_wsd, new_phases)}):
        before, after = old_wsd.lr_at(at, old_phases), new_wsd.lr_at(at, new_phases)
        if abs(before - after) > 1e-12:
            lines.append(f"schedule: the learning rate at token {at:,} was {before:.6g}, and would now be {after:.6g}")
            break
    return lines


def measured_otherwise(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What separates the held-out losses of before a checkpoint from those to come.

    Args:
        saved: The record stored with the checkpoint (`detour.training.run_folder.run_record`).
        now: The record of the configuration now.

    Returns:
        Lines for what makes a curve jump though the weights do not (other rows, seed, draws or options), and lines for what a
        user may well want: curves that begin or end, another precision, a run that an earlier version of this library began.
    """
    if "evaluation" not in saved:
        return [], ["evaluation: begun by a version that drew held-out rows in another way"] if now[
            "evaluation"
        ] else []
    before, after = saved["evaluation"], now["evaluation"]
    if before is None or after is None:
        return [], [] if before == after else [f"evaluation: {'begins' if after else 'ends'} here"]
    breaks, told = [], []
    rows = [{f["sha256"]: f["drawn"] for f in each["folders"]} for each in (before, after)]
    if rows[0] != rows[1]:
        breaks.append(f"held-out rows: were {_rows(before)}, now {_rows(after)}")
    for key in ("seed", "mask_draws"):
        if before[key] != after[key]:
            breaks.append(f"evaluation.{key}: was {before[key]}, now {after[key]}")
    for name in sorted({*before["objectives"], *after["objectives"]}):
        old, new = before["objectives"].get(name), after["objectives"].get(name)
        if old is None or new is None:
            told.append(f"evaluation.objectives.{name}: {'begins' if old is None else 'ends'} here")
        elif old != new:
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            changed = ", ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in keys)
            breaks.append(f"evaluation.objectives.{name}: {changed}")
    for key in ("precision", "attention_backend"):
        if before[key] != after[key]:
            told.append(f"{key}: was {before[key]}, now {after[key]}")
    names = [{f["sha256"]: f["name"] for f in each["folders"]} for each in (before, after)]
    if rows[0] == rows[1] and names[0] != names[1]:
        told.append(f"validation folders: were called {_names(before)}, now {_names(after)}")
    return breaks, told


def _rows(measurement: Mapping[str, Any]) -> str:
    return ", ".join(f"{f['rows']:,} of {f['of']:,} of {f['name']} ({f['sha256'][:8]})" for f in measurement["folders"])


def _names(measurement: Mapping[str, Any]) -> str:
    return ", ".join(folder["name"] for folder in measurement["folders"])


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
