"""Where a run stands, from its folder: for a look from another terminal, while it trains or after it ended."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from detour.errors import DataError
from detour.report.run_history import RunHistory, read_run
from detour.training.checkpoints.files import listing
from detour.training.run_folder import RunFolder
from detour.units import duration, part_of, scientific, short

RECENT = 50  # training steps of which the speed and the loss are the mean
SILENT = 20  # a live run that has written nothing for so many of its steps may hang


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run at a moment.

    Attributes:
        name: Name of the run.
        state: "complete", "training", or "stopped".
        phase: Name, and objective with its options, of the current phase; of the last one if the run is complete.
        tokens: Tokens trained.
        planned: Tokens of the whole run.
        phase_tokens: Tokens trained in the current phase, and its length.
        lr: Learning rate of the last step; NaN before the first.
        losses: Mean training loss of the last steps of this phase, under the name ""; by objective where several take turns.
        held_out: Objective to the tokens at its last evaluation and its held-out loss.
        tokens_per_second: Median over the last steps; NaN if unknown.
        silent_seconds: Time since something was written.
        checkpoint: Tokens of the newest checkpoint, or None.
        warnings: Sentences on what looks wrong.
    """

    name: str
    state: str
    phase: str
    tokens: int
    planned: int
    phase_tokens: tuple[int, int]
    lr: float
    losses: dict[str, float]
    held_out: dict[str, tuple[int, float]]
    tokens_per_second: float
    silent_seconds: float
    checkpoint: int | None
    warnings: list[str]

    @property
    def seconds_left(self) -> float:
        """Time to the end of the run at the recent speed, evaluation and checkpoints not counted; NaN if unknown."""
        return (self.planned - self.tokens) / self.tokens_per_second if self.tokens_per_second else math.nan


def read_status(folder: Path, *, now: float | None = None) -> RunStatus:
    """The status of the run in a folder.

    Args:
        folder: A run folder.
        now: Time of the look, in seconds since the epoch; None for the present.

    Raises:
        DataError: It is not a run folder.
    """
    if (folder / "config.yaml").is_file() and not (folder / "metrics.jsonl").is_file():
        raise DataError(f"{folder}: the run has not trained its first batch yet")
    run = read_run(folder)
    alive = RunFolder(folder).locked()
    tokens = run.metrics.tokens_seen
    state = "complete" if tokens >= run.planned else "training" if alive else "stopped"
    ends = np.cumsum([phase.planned for phase in run.phases])
    # a batch belongs to the phase in which it begins
    before = int(run.metrics.column("before")[-1]) if len(run.metrics) else 0
    index = min(int(np.searchsorted(ends, before, side="right")), len(run.phases) - 1)
    phase, start = run.phases[index], int(ends[index]) - run.phases[index].planned
    saved = listing(folder / "checkpoints")
    silent = (now or time.time()) - (folder / "metrics.jsonl").stat().st_mtime
    return RunStatus(
        name=run.name,
        state=state,
        phase=f"{phase.name}: {phase.label}",
        tokens=tokens,
        planned=run.planned,
        phase_tokens=(min(max(tokens - start, 0), phase.planned), phase.planned),
        lr=_last(run, "lr"),
        losses=_recent_losses(run, since=start),
        held_out={name: list(points.items())[-1] for name, points in run.metrics.evaluations.items()},
        tokens_per_second=_recent_median(run, "throughput/tokens_per_second"),
        silent_seconds=max(silent, 0.0),
        checkpoint=saved[-1].tokens if saved else None,
        warnings=_warnings(run, folder, state, silent, saved=bool(saved)),
    )


def view(status: RunStatus, *, width: int = 60) -> RenderableType:
    """The status as text and a bar, at most 80 columns wide.

    Args:
        status: From `read_status`.
        width: Columns of the bar.
    """
    bar = ProgressBar(total=max(status.planned, 1), completed=min(status.tokens, status.planned), width=width)
    table = Table.grid(padding=(0, 2))
    table.add_row("", bar)
    table.add_row("phase", f"{status.phase}, {part_of(*status.phase_tokens)}")
    speed = "" if math.isnan(status.tokens_per_second) else f", {short(status.tokens_per_second)} tokens/s"
    left = f", {duration(status.seconds_left)} left" if status.state == "training" and speed else ""
    table.add_row("tokens", f"{part_of(status.tokens, status.planned)}{speed}{left}")
    for objective, loss in status.losses.items():
        name = f"training loss, {objective}" if objective else "training loss"
        table.add_row(name, f"{loss:.4f}, learning rate {scientific(status.lr)}")
    for name, (at, loss) in status.held_out.items():
        table.add_row(f"held-out {name}", f"{loss:.4f} at {short(at)} tokens")
    saved = "none yet" if status.checkpoint is None else f"at {short(status.checkpoint)} tokens"
    table.add_row("checkpoint", f"{saved}; last line written {duration(status.silent_seconds)} ago")
    warnings = [f"Warning: {text}" for text in status.warnings]
    return Group(f"{status.name}: {status.state}", table, *warnings)


def _last(run: RunHistory, name: str) -> float:
    values = run.metrics.column(name)
    return float(values[-1]) if len(values) else math.nan


def _recent_mean(run: RunHistory, name: str, *, since: int) -> float:
    values = run.metrics.column(name)[run.metrics.column("before") >= since][-RECENT:]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _recent_losses(run: RunHistory, *, since: int) -> dict[str, float]:
    """Mean training loss of the last steps: one under the name "", or one by objective where several take turns."""
    names = run.metrics.trained(run.metrics.column("before") >= since)
    if len(names) < 2:
        names = [""]
    losses = {name: _recent_mean(run, f"loss/train/{name or 'total'}", since=since) for name in names}
    return {name: loss for name, loss in losses.items() if not math.isnan(loss)}


def _recent_median(run: RunHistory, name: str) -> float:
    values = run.metrics.column(name)[-RECENT:]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan


def _warnings(run: RunHistory, folder: Path, state: str, silent: float, *, saved: bool) -> list[str]:
    found = list(run.notes)
    with (folder / "metrics.jsonl").open(encoding="utf-8", errors="replace") as lines:
        rejected = sum('"rejected_step"' in line for line in lines)
    if rejected:
        found.append(f"{rejected} steps were rejected by the guard and did not change the weights.")
    tokens, speed = run.metrics.column("token"), _recent_median(run, "throughput/tokens_per_second")
    if state == "training" and len(tokens) > 1 and speed > 0:
        step = float(np.median(np.diff(tokens[-RECENT:]))) / speed
        if silent > max(60.0, SILENT * step):
            found.append(
                f"nothing was written for {duration(silent)}, and a step takes {duration(step)}: it evaluates, saves, or hangs."
            )
    if state == "stopped":
        found.append("no process is training in this folder; the command that started the run resumes it.")
    if not saved and state != "complete":
        found.append("there is no checkpoint yet: if the run died now it would start over.")
    return found
