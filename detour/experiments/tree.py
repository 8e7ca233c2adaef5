"""What the arms of an experiment share is trained once: a tree of runs that branch from one another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from detour.config.load import from_mapping
from detour.config.other_runs import BranchConfig
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.options import flatten
from detour.redact import redacted
from detour.training.checkpoints.resume_rules import branch_differences
from detour.training.run_folder import RunFolder
from detour.units import short

# without influence on weights and metrics, or compared in their own way
_FREE = ("name", "folder", "phases", "schedule", "checkpoint", "logging", "branch", "match", "system.max_minutes",
         "data.workers", "data.timeout_seconds", "data.verify_hashes", "system.timeout_seconds")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Node:
    """A run of the tree.

    Attributes:
        run: The run; branches from its parent if it has one.
        parent: Name of the run that it branches from, or None.
        shared: Tokens that it takes over from its parent.
        arms: The arms whose history contains it; the last run of an arm has the arm's name.
    """

    run: RunConfig
    parent: str | None
    shared: int
    arms: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Tokens that the run trains itself."""
        return self.run.phase_schedule.total_tokens - self.shared


def shared_tokens(one: RunConfig, other: RunConfig) -> int:
    """Number of tokens up to which two runs are the same run, bit for bit; always the end of a phase of one of them, or 0."""
    if one.match.run or other.match.run or _fixed(one) != _fixed(other) or one.reads_by_phase != other.reads_by_phase:
        return 0
    warmup = max(one.schedule.warmup_tokens, other.schedule.warmup_tokens)
    total = min(one.phase_schedule.total_tokens, other.phase_schedule.total_tokens)
    cuts = {*one.phase_schedule.boundaries, *other.phase_schedule.boundaries}
    for cut in sorted((cut for cut in cuts if max(1, warmup) <= cut <= total), reverse=True):
        alike = not _differences(one, other, cut) and not _differences(other, one, cut)
        if alike and _measured(one, cut) == _measured(other, cut):
            return cut
    return 0


def grow(runs: Mapping[str, RunConfig]) -> list[Node]:
    """The tree of some runs, parents first: every past that two or more of them share is a run of its own.

    Args:
        runs: Name of the arm -> its run.

    Raises:
        ConfigError: Two arms are the same run.
    """
    shared = {frozenset(pair): shared_tokens(runs[pair[0]], runs[pair[1]]) for pair in combinations(runs, 2)}
    nodes: list[Node] = []

    def add(arms: list[str], parent: Node | None) -> None:
        start = parent.run.phase_schedule.total_tokens if parent else 0
        while arms:
            first, *rest = arms
            group = [first, *(arm for arm in rest if shared[frozenset((first, arm))] > start)]
            arms = [arm for arm in arms if arm not in group]
            if len(group) == 1:
                nodes.append(_node(runs[first], parent, group))
                continue
            cut = min(shared[frozenset(pair)] for pair in combinations(group, 2))
            ends = [arm for arm in group if runs[arm].phase_schedule.total_tokens == cut]
            if len(ends) > 1:
                raise ConfigError(f"arms: {ends[0]} and {ends[1]} are the same run; what distinguishes them?")
            trunk = _node(runs[ends[0]] if ends else _until(runs[first], cut), parent, group)
            nodes.append(trunk)
            add([arm for arm in group if arm not in ends], trunk)

    add(list(runs), None)
    return nodes


def settings_that_differ(run: RunConfig, recorded: Mapping[str, Any]) -> list[str]:
    """Keys in which a configuration differs from a recorded one, apart from those that do not influence the results.

    A key that the recorded one does not have yet has its default there.

    Raises:
        ConfigError: The recorded one cannot be read.
    """
    ours, theirs = _plain(run), _plain(from_mapping(dict(recorded), source="the recorded configuration"))
    flat, recorded_flat = flatten(ours), flatten(theirs)
    keys = [key for key in {**flat, **recorded_flat} if not _is_free(key) and flat.get(key) != recorded_flat.get(key)]
    return [*keys, *(key for key in ("phases", "schedule") if ours[key] != theirs.get(key))]


def _node(run: RunConfig, parent: Node | None, arms: list[str]) -> Node:
    if parent is None:
        return Node(run=run, parent=None, shared=0, arms=tuple(arms))
    shared = parent.run.phase_schedule.total_tokens
    branch = BranchConfig(run=str(RunFolder.of(parent.run).path), tokens=shared)
    return Node(run=replace(run, branch=branch), parent=parent.run.name, shared=shared, arms=tuple(arms))


def _until(run: RunConfig, cut: int) -> RunConfig:
    """The first ``cut`` tokens of a run, as a run of its own. Its name depends on nothing but what it trains."""
    phases, start = [], 0
    for phase in run.phases:
        if start >= cut:
            break
        phases.append(replace(phase, tokens=min(phase.tokens, cut - start)))
        start += phase.tokens
    kept = run.schedule.decay_phase in [phase.name for phase in phases]
    trunk = replace(
        run, phases=phases, schedule=replace(run.schedule, decay_phase=run.schedule.decay_phase if kept else None)
    )
    plain = _set_values({**_plain(trunk), "name": "", "folder": "", "branch": None})
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    names = "-".join(phase.name for phase in phases)
    return replace(trunk, name=f"trunk-{names[:60]}-{short(cut)}-seed{run.seed}-{digest[:8]}")


def _set_values(value: Any) -> Any:
    """Without keys that are null, false or empty: a key that a later version adds changes no name of a trunk."""
    if isinstance(value, dict):
        return {
            key: kept for key, inner in value.items() if (kept := _set_values(inner)) not in (None, False, "", [], {})
        }
    return [_set_values(inner) for inner in value] if isinstance(value, list) else value


def _measured(run: RunConfig, cut: int) -> list[list[str] | None]:
    """The held-out losses of each phase that begins before ``cut``."""
    starts = zip(run.phases, run.phase_schedule.boundaries, strict=False)
    return [phase.evaluate for phase, start in starts if start < cut]


def _differences(one: RunConfig, other: RunConfig, cut: int) -> list[str]:
    saved, now = ({"config": _plain(run), "tokenizer": None, "data": None} for run in (one, other))
    return branch_differences(saved, other, now, tokens=cut)


def _fixed(run: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in flatten(_plain(run)).items() if not _is_free(key)}


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith((f"{free}.", f"{free}[")) for free in _FREE)


def _plain(run: RunConfig) -> dict[str, Any]:
    return redacted(json.loads(json.dumps(asdict(run))))
