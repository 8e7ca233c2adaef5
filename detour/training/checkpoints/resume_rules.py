"""Whether a run may resume from a checkpoint: its future may change, its past may not. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from detour import objectives
from detour.config.schema import RunConfig
from detour.data.stream_spec import is_scheduled_mixture
from detour.optimizer import PhaseOptimizer
from detour.phases import Freeze, Phase, PhaseData, PhaseRope, PhaseSchedule
from detour.schedule import WSD

# settings on which every batch before the checkpoint depended
_FIXED = (
    "seed",
    "model.init",
    "model.size",
    "model.architecture",
    "model.new_tokens",
    "model.reset",
    "model.tile",
    "data.seq_len",
    "data.global_batch_size",
    "data.shuffle",
    "data.shuffle_seed",
    "data.canonical_nodes",
    "optimizer",
)


# settings that may change at a resume, which is logged; a branch, however, must equal a run that trained alone
_NUMERIC = (
    "plugins",
    "callbacks",
    "algorithms",
    "guard",
    "data.micro_batch_size",
    "model.attention_backend",
    "model.gradient_checkpointing",
    "model.compile",
    "system.device",
    "system.precision",
    "system.parallelism",
    "system.deterministic",
)


def branch_differences(saved: Mapping[str, Any], run: RunConfig, now: Mapping[str, Any], *, tokens: int) -> list[str]:
    """Settings by which a run would not reach the other run's checkpoint bit for bit. Arguments as of `differences`."""
    lines = []
    for key in _NUMERIC:
        before, after = _get(saved, f"config.{key}"), _get(now, f"config.{key}")
        if before != after:
            lines.append(f"{key}: was {before!r}, now {after!r}")
    return [*differences(saved, run, now, tokens=tokens), *lines]


def differences(saved: Mapping[str, Any], run: RunConfig, now: Mapping[str, Any], *, tokens: int) -> list[str]:
    """Settings that would change the first ``tokens`` tokens of the run, one line each; empty if the run may resume.

    Args:
        saved: Record stored in the checkpoint (`detour.training.run_folder.run_record`).
        run: The current configuration.
        now: Record of the current configuration.
        tokens: Tokens seen at the checkpoint.
    """
    lines = []
    for key in (*(f"config.{key}" for key in _FIXED), "tokenizer", "data"):
        before, after = _get(saved, key), _get(now, key)
        if before != after:
            lines.append(f"{key.removeprefix('config.')}: was {before!r}, now {after!r}")
    old_lr, old_phases = _schedule_of(saved["config"])
    new_lr, new_phases = run.schedule, run.phase_schedule
    begun = sum(start < tokens for start in old_phases.boundaries[:-1])
    before, after = ((record.get("phase_data") or [[]] * begun)[:begun] for record in (saved, now))
    lines += [
        f"phases[{i}].data.train: its rows were {old!r}, now {new!r}"
        for i, (old, new) in enumerate(zip(before, after, strict=False))
        if old != new
    ]
    before, after = ((record.get("phase_streams") or [{}] * begun)[:begun] for record in (saved, now))
    lines += [
        f"phases[{i}].streams: their rows were {old!r}, now {new!r}"
        for i, (old, new) in enumerate(zip(before, after, strict=False))
        if old != new
    ]
    tokens = min(tokens, old_phases.total_tokens)  # the last batch may reach past the end of the run
    lines += new_phases.diff_past(saved["config"]["phases"], tokens)
    lines += _later_kinds(saved["config"]["phases"], run.phase_schedule.describe())
    if is_scheduled_mixture(run.data.train):  # of phases without folders of their own
        lines += [
            f"phases[{i}].tokens: was {old['tokens']!r}, now {new.tokens!r}, and the proportions of data.train stretch with it"
            for i, (old, new) in enumerate(zip(saved["config"]["phases"][:begun], run.phases, strict=False))
            if not new.data.train and old["tokens"] != new.tokens
        ]
    for at in _grid(tokens, {*_knots(old_lr, old_phases), *_knots(new_lr, new_phases)}):
        before, after = old_lr.lr_at(at, old_phases), new_lr.lr_at(at, new_phases)
        if abs(before - after) > 1e-12:
            lines.append(f"schedule: the learning rate at token {at:,} was {before:.6g} and would now be {after:.6g}")
            break
    return lines


def _later_kinds(saved: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Objectives with modules must be there from the start: their parameters are in the groups of the optimizer."""
    before, after = (
        sorted(
            {
                part.name
                for phase in phases
                for part, _ in objectives.build(phase["objective"], phase["options"]).parts
                if isinstance(part, objectives.ModuleObjective)
            }
        )
        for phases in (saved, now)
    )
    if before == after:
        return []
    names = [", ".join(each) or "none" for each in (before, after)]
    return [
        f"phases: objectives with modules were {names[0]}, now {names[1]}; a run has them from its start to its end"
    ]


def measurement_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Differences between how held-out losses were measured before a checkpoint and will be measured after it.

    Args:
        saved: Record stored in the checkpoint (`detour.training.run_folder.run_record`).
        now: Record of the current configuration.

    Returns:
        breaks: One line per change that makes the loss jump although the weights do not: rows, seed, draws or options.
        notes: One line per benign change: a curve that begins or ends, precision, or a run of an earlier version.
    """
    if "evaluation" not in saved:
        return [], ["evaluation: the run began with a version that drew validation rows differently"] if now[
            "evaluation"
        ] else []
    before, after = saved["evaluation"], now["evaluation"]
    if before is None or after is None:
        return [], [] if before == after else [f"evaluation: {'starts' if after else 'ends'} here"]
    breaks, notes = [], []
    rows = [{f["sha256"]: f["drawn"] for f in _folders(each)} for each in (before, after)]
    if rows[0] != rows[1]:
        breaks.append(f"validation rows: were {_rows(before)}, now {_rows(after)}")
    for key in ("seed", "mask_draws"):
        if before[key] != after[key]:
            breaks.append(f"evaluation.{key}: was {before[key]}, now {after[key]}")
    for name in sorted({*before["objectives"], *after["objectives"]}):
        old, new = before["objectives"].get(name), after["objectives"].get(name)
        if old is None or new is None:
            notes.append(f"evaluation.objectives.{name}: {'starts' if old is None else 'ends'} here")
        elif old != new:
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            changed = ", ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in keys)
            breaks.append(f"evaluation.objectives.{name}: {changed}")
    for key in ("precision", "attention_backend"):
        if before[key] != after[key]:
            notes.append(f"{key}: was {before[key]}, now {after[key]}")
    names = [{f["sha256"]: f["name"] for f in _folders(each)} for each in (before, after)]
    if rows[0] == rows[1] and names[0] != names[1]:
        notes.append(f"validation folders: were called {_names(before)}, now {_names(after)}")
    return breaks, notes


def _rows(measurement: Mapping[str, Any]) -> str:
    return ", ".join(f"{f['rows']:,} of {f['of']:,} of {f['name']} ({f['sha256'][:8]})" for f in _folders(measurement))


def _names(measurement: Mapping[str, Any]) -> str:
    return ", ".join(folder["name"] for folder in _folders(measurement))


def _folders(measurement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The held-out folders of text and of streams."""
    return [*measurement["folders"], *chain(*measurement.get("streams", {}).values())]


def _knots(schedule: WSD, phases: PhaseSchedule) -> list[int]:
    """Token counts between which the learning rate is smooth."""
    starts = zip(phases.boundaries, phases.phases, strict=False)
    return [schedule.warmup_tokens, *phases.boundaries, *(start + phase.rewarm_tokens for start, phase in starts)]


def _grid(tokens: int, knots: set[int]) -> list[int]:
    """Token counts below ``tokens``: 32 in each interval between knots, however short."""
    edges = sorted({0, tokens, *(knot for knot in knots if knot < tokens)})
    return sorted({a + (b - a) * step // 32 for a, b in pairwise(edges) for step in range(32)})


def _get(record: Mapping[str, Any], key: str) -> Any:
    value: Any = record
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _schedule_of(config: Mapping[str, Any]) -> tuple[WSD, PhaseSchedule]:
    phases = [
        Phase(
            **{
                **phase,
                "freeze": Freeze(**phase["freeze"]),
                "data": PhaseData(**phase.get("data", {})),
                "optimizer": PhaseOptimizer.of(phase),
                "rope": PhaseRope(**phase.get("rope", {})),
            }
        )
        for phase in config["phases"]
    ]
    return WSD(**config["schedule"]), PhaseSchedule(phases)
