"""Selects the checkpoint from which a run resumes: the newest intact one, or that from which it branches, on every process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from composer.utils import dist

from detour.config.schema import RunConfig
from detour.errors import CheckpointError
from detour.options import flatten
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.resume_rules import branch_differences, differences, measurement_differences
from detour.training.run_folder import METRICS, RunFolder

log = logging.getLogger(__name__)
SHOWN = 8  # changed settings in the log
NAMES = ("name", "folder", "logging", "branch", "match")  # which change nothing that is trained


def checkpoint_to_resume(run: RunConfig, record: dict[str, Any]) -> Checkpoint | None:
    """The newest intact checkpoint in the run folder; without one, that of `branch`, if the run has one. Collective.

    Args:
        run: The configuration.
        record: Current record of the run (`detour.training.run_folder.run_record`).

    Raises:
        CheckpointError: All checkpoints are damaged; the configuration would change what was already trained; or there are
            checkpoints and `checkpoint.resume` is false; or the run to branch from has no intact checkpoint there, or
            was trained otherwise.
    """
    folder = RunFolder.of(run).checkpoints
    if not run.checkpoint.resume:
        if checkpoints.listing(folder):
            raise CheckpointError(
                f"{folder}: contains checkpoints, but checkpoint.resume is false; choose another name"
            )
        return None
    newest = _agree(partial(_newest, folder))
    if newest is None:
        return None if run.branch.run is None else _branch_point(run, record)
    with newest.translate_errors():
        state = newest.state()
        # only up to where the last batch began: another decay may branch off at the end of a phase
        changed = differences(state["run"], run, record, tokens=state["last_batch_began"] + 1)
    if changed:
        raise CheckpointError(
            f"{newest.path}: this configuration would change what was already trained:\n  " + "\n  ".join(changed)
        )
    if dist.get_global_rank() == 0 and (lines := _changes(state["run"]["config"], record["config"])):
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        log.warning(
            "settings that have changed since the run began or last resumed: %s%s", "; ".join(lines[:SHOWN]), more
        )
    return newest


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Settings of the rest of the run that a resume changes, one line each."""
    old, new = (flatten({k: v for k, v in config.items() if k not in NAMES}) for config in (before, now))
    return [
        f"{key}: was {old[key]!r}, now {new[key]!r}"
        for key in old
        if key in new and old[key] != new[key] and not key.endswith((".path", ".remote"))
    ]


def measurement_changes(run: RunConfig, record: dict[str, Any], resumed: Checkpoint | None) -> list[str]:
    """Changes in how held-out losses are measured from this resume on, one line each; also logged.

    Args:
        run: The configuration.
        record: Current record of the run.
        resumed: The checkpoint from which the run resumes, or None.

    Returns:
        The changes; empty for a new run and for a complete one.

    Raises:
        CheckpointError: Losses would jump although the weights do not, and `evaluation.change_on_resume` is false.
    """
    if resumed is None or resumed.tokens >= sum(phase.tokens for phase in run.phases):
        return []
    with resumed.translate_errors():
        breaks, notes = measurement_differences(resumed.state()["run"], record)
    if breaks and not run.evaluation.change_on_resume:
        raise CheckpointError(
            f"{resumed.path}: this configuration would change how held-out losses are measured:\n  "
            + "\n  ".join(breaks)
            + "\nSet evaluation.change_on_resume: true to allow this; the report marks the change"
        )
    changes = [*breaks, *notes]
    for line in changes if dist.get_global_rank() == 0 else []:
        log.warning("from token %s on, held-out losses are measured differently: %s", f"{resumed.tokens:,}", line)
    return changes


def branch_record(run: RunConfig, resumed: Checkpoint | None) -> dict[str, Any] | None:
    """The record of where a run branched: the other run, its tokens and the cost of each of its phases. None if it did not.

    Args:
        run: The configuration.
        resumed: The checkpoint from which the run starts or resumes; its own ones hold the record.
    """
    if resumed is None:
        return None
    with resumed.translate_errors():
        state = resumed.state()
        if resumed.path.parent.resolve() == RunFolder.of(run).checkpoints.resolve():
            return state["run"].get("branch")
        costs = state["callbacks"]["Ledger"]["entries"]
    return {"run": str(run.branch.run), "tokens": resumed.tokens, "costs": costs}


def _branch_point(run: RunConfig, record: dict[str, Any]) -> Checkpoint:
    """The checkpoint of another run from which this one branches. Raises CheckpointError. Collective."""
    assert run.branch.run is not None
    folder, wanted = Path(run.branch.run) / "checkpoints", run.branch.tokens
    point = _agree(partial(_at_or_after, folder, wanted))
    assert point is not None
    with point.translate_errors():
        state = point.state()
        changed = branch_differences(state["run"], run, record, tokens=state["last_batch_began"] + 1)
        if (processes := len(state["rng"])) != dist.get_world_size():
            changed.append(f"number of processes: was {processes}, now {dist.get_world_size()}")
    if changed:
        raise CheckpointError(
            f"{point.path}: this run cannot branch from here, because it would have trained these tokens otherwise:\n  "
            + "\n  ".join(changed)
        )
    log.warning("branching from %s", point.path)
    return point


def _at_or_after(folder: Path, tokens: int | None) -> Checkpoint:
    if tokens is None:
        newest = _newest(folder)
        if newest is None:
            raise CheckpointError(f"branch.run: {folder}: no checkpoints there")
        return newest
    found = checkpoints.listing(folder)
    point = next((checkpoint for checkpoint in found if checkpoint.tokens >= tokens), None)
    if point is None:
        listed = ", ".join(f"{checkpoint.tokens:,}" for checkpoint in found) or "none"
        raise CheckpointError(f"branch.tokens: no checkpoint at or after {tokens:,} in {folder}; there are: {listed}")
    if problem := point.validate():
        raise CheckpointError(f"{point.path}: {problem}")
    return point


def _newest(folder: Path) -> Checkpoint | None:
    newest, damaged = checkpoints.newest_valid(folder)
    for line in damaged:
        log.warning("skipping a damaged checkpoint: %s", line)
    metrics = folder.with_name(METRICS)
    leftovers = [*folder.glob(".*-tokens-*"), *([metrics] if metrics.exists() and metrics.stat().st_size else [])]
    if newest is None and leftovers:
        log.warning("%s: found, but no complete checkpoint; starting from the beginning", leftovers[0])
    return newest


def _agree(choose: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """The choice of process 0, broadcast to every process; if it fails, every process raises its error."""
    answer: list[Any] = [None, None]
    if dist.get_global_rank() == 0:
        try:
            answer = [choose(), None]
        except CheckpointError as error:
            answer = [None, str(error)]
    dist.broadcast_object_list(answer, src=0)
    if answer[1]:
        raise CheckpointError(answer[1])
    if answer[0] is not None and not answer[0].path.is_dir():
        raise CheckpointError(
            f"{answer[0].path}: visible to process 0 but not to this process; the run folder must be on a shared disk"
        )
    return answer[0]
