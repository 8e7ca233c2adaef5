"""Which checkpoint a run continues from: the newest whole one, the same on every process, if the past allows it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from composer.utils import dist

from detour.config.schema import RunConfig
from detour.errors import CheckpointError
from detour.training.checkpoints import files as checkpoints
from detour.training.checkpoints.compatible import differences, measured_otherwise
from detour.training.checkpoints.files import Checkpoint
from detour.training.run_folder import METRICS, RunFolder

log = logging.getLogger(__name__)


def checkpoint_to_resume(run: RunConfig, record: dict[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint of the run's folder, or None if there is none. Collective.

    Args:
        run: The configuration.
        record: What the run is now (`detour.training.run_folder.run_record`).

    Raises:
        CheckpointError: All are damaged; the configuration would change what was trained; `checkpoint.resume` is false
            and there are some.
    """
    folder = RunFolder.of(run).checkpoints
    if not run.checkpoint.resume:
        if checkpoints.listing(folder):
            raise CheckpointError(f"{folder}: holds checkpoints, and checkpoint.resume is false; choose another name")
        return None
    newest = _agree(partial(_newest, folder))
    if newest is None:
        return None
    with newest.translate_errors():
        state = newest.state()
        # what the last batch ran past a phase's end does not count as begun: other decays may branch off there
        changed = differences(state["run"], run, record, tokens=state["last_batch_began"] + 1)
    if changed:
        raise CheckpointError(
            f"{newest.path}: this configuration would change what was already trained:\n  " + "\n  ".join(changed)
        )
    return newest


def measurement_changes(run: RunConfig, record: dict[str, Any], resumed: Checkpoint | None) -> list[str]:
    """Lines for what held-out losses are measured otherwise by from here on; logged here. Empty for a run that begins, and for
    one that is complete.

    Args:
        run: The configuration.
        record: What the run is now.
        resumed: The checkpoint that it continues from.

    Raises:
        CheckpointError: Curves would jump though the weights do not, and `evaluation.change_on_resume` does not allow it.
    """
    if resumed is None or resumed.tokens >= sum(phase.tokens for phase in run.phases):
        return []
    with resumed.translate_errors():
        breaks, told = measured_otherwise(resumed.state()["run"], record)
    if breaks and not run.evaluation.change_on_resume:
        raise CheckpointError(
            f"{resumed.path}: this configuration would measure held-out losses otherwise than before:\n  "
            + "\n  ".join(breaks)
            + "\nevaluation.change_on_resume: true allows it, and marks the place in the report"
        )
    changes = [*breaks, *told]
    for line in changes if dist.get_global_rank() == 0 else []:
        log.warning("from token %s on held-out losses are measured otherwise: %s", f"{resumed.tokens:,}", line)
    return changes


def _newest(folder: Path) -> Checkpoint | None:
    newest, passed_over = checkpoints.newest_valid(folder)
    for line in passed_over:
        log.warning("passing over a damaged checkpoint: %s", line)
    metrics = folder.with_name(METRICS)
    left = [*folder.glob(".*-tokens-*"), *([metrics] if metrics.exists() and metrics.stat().st_size else [])]
    if newest is None and left:
        log.warning("%s: no checkpoint was finished before; starting from the beginning", left[0])
    return newest


def _agree(choose: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """Process 0's choice, on every process; its error too, so that none waits for it."""
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
            f"{answer[0].path}: process 0 sees it and this one does not; the run folder must be shared"
        )
    return answer[0]
