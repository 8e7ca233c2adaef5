"""The step guard: decides, alike on every process, whether a step may update the weights."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch import Tensor

from detour.errors import TrainingError
from detour.training.checkpoints.contents import check_count, check_number
from detour.training.loggers.jsonl import JsonlLogger
from detour.training.stop import StopRequest

log = logging.getLogger(__name__)
EMPTY = "no token is supervised"


@dataclass(frozen=True)
class StepCheck:
    """Result of checking a step, equal on all processes.

    Attributes:
        loss: Mean loss of the global batch, in nats per supervised token.
        norm: Gradient norm before clipping.
        problem: Why the step is rejected, or None. EMPTY if no token of the batch is supervised.
    """

    loss: float
    norm: float
    problem: str | None


class StepGuard(Callback):
    """Rejects non-finite and spiking steps, so that they change neither weights nor moments on any process.

    A step is rejected if its loss or gradient norm is not finite on any process. With ``spike_factor`` it is also rejected
    if its loss exceeds ``spike_factor`` times the median loss of the last ``window`` accepted steps of the phase. Rejected
    steps never enter the window. The first ``window`` steps of a phase are not checked for spikes, because the loss jumps
    when the objective changes.

    A rejected step is written to metrics.jsonl with the indices of its rows, and the optimizer is skipped. The token clock
    still advances, since the rows were read. After ``max_skips`` rejected steps in a row the next one ends the run.

    A batch without supervised tokens (documents of special tokens only) is skipped too: otherwise weight decay and momentum
    would still change the weights. It does not count towards ``max_skips``.

    Cost: one all-reduce of four numbers per step, and a synchronization for the gradient norm, which is logged anyway.

    Args:
        max_skips: Number of consecutive rejected steps that are skipped; 0 ends the run at the first.
        spike_factor: Threshold for spikes; None checks only for non-finite values.
        window: Number of accepted steps in the running median.
        metrics: Logger that records rejected steps.
        stop: Asked at each step whether this process wants to stop; receives what the processes agree on.
    """

    def __init__(
        self, *, max_skips: int, spike_factor: float | None, window: int, metrics: JsonlLogger, stop: StopRequest
    ) -> None:
        self.max_skips, self.spike_factor, self.window = max_skips, spike_factor, window
        self.metrics, self.stop = metrics, stop
        self.rejected_last = False
        self._losses: dict[str, deque[float]] = {}  # by objective
        self._phase: int | None = None
        self._in_a_row = 0
        self._sums: Tensor | None = None

    def before_train_batch(self, state: State, logger: Logger) -> None:
        self._sums = None

    def after_loss(self, state: State, logger: Logger) -> None:
        """Accumulates the loss and the supervised tokens of a micro-batch, on the device."""
        outputs = state.outputs
        sums = torch.stack([outputs.total.detach().double(), outputs.supervised.double()])  # type: ignore[union-attr]
        self._sums = sums if self._sums is None else self._sums + sums

    def check(self, state: State, norm: Tensor, *, phase: int) -> StepCheck:
        """Checks a step between its backward pass and its update. Collective.

        Args:
            state: Composer's state.
            norm: Norm of the full gradient, a scalar on each process.
            phase: Index of the current phase; the windows of losses, one for each objective, are emptied when it changes.

        Raises:
            TrainingError: The step is rejected after ``max_skips`` rejected steps in a row.
        """
        assert self._sums is not None
        rest = torch.stack([norm.double().to(self._sums.device), self._sums.new_tensor(float(self.stop.wanted()))])
        sums = torch.cat([self._sums, rest])
        dist.all_reduce(sums)  # a non-finite value on any rank propagates through the sum
        total, supervised, norms, stops = sums.tolist()
        self.stop.agreed = stops > 0
        loss = total / supervised if supervised else 0.0
        if phase != self._phase:
            self._phase = phase
            self._losses.clear()
        empty = not supervised
        losses = self._losses.setdefault(state.batch["objective"], deque(maxlen=self.window))
        check = StepCheck(
            loss=loss,
            norm=norms / dist.get_world_size(),
            problem=EMPTY if empty else self._problem(loss, norms, losses),
        )
        self.rejected_last = check.problem is not None
        if empty:
            self.metrics.omit_loss()
            self._report(state, check, ends=False)
        elif check.problem is None:
            losses.append(loss)
            self._in_a_row = 0
        else:
            self._in_a_row += 1
            self._report(state, check, ends=self._in_a_row > self.max_skips)
        return check

    def _problem(self, loss: float, norm: float, losses: deque[float]) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient norm is {norm}"
        if self.spike_factor is not None and len(losses) == self.window:
            typical = median(losses)
            if loss > self.spike_factor * typical:
                return f"the loss is {loss:.4g}, more than {self.spike_factor:g} times the median of {typical:.4g}"
        return None

    def _report(self, state: State, check: StepCheck, *, ends: bool) -> None:
        rows = sorted(row for ids in dist.all_gather_object(state.batch["sample_id"].tolist()) for row in ids)
        # numbers as text: JSON has no NaN
        seen = {"problem": check.problem, "loss": str(check.loss), "grad_norm": str(check.norm), "rows": rows}
        self.metrics.write_event(state, {"rejected_step": {**seen, "action": "stop" if ends else "skip"}})
        where = f"batch {state.timestamp.batch.value:,}, token {state.timestamp.token.value:,}"
        if ends:
            raise TrainingError(
                f"{where}: {check.problem}; no weight was changed. The step was rejected, and guard.max_skips: "
                f"{self.max_skips} allows no further one. Rows of the batch: {', '.join(map(str, rows[:8]))}"
                f"{', ...' if len(rows) > 8 else ''} (all in {self.metrics.path}). The latest checkpoint precedes it"
            )
        count = "" if check.problem == EMPTY else f" ({self._in_a_row} of {self.max_skips} in a row)"
        log.warning("%s: %s; step rejected%s", where, check.problem, count)

    def state_dict(self) -> dict[str, Any]:
        losses = {objective: list(window) for objective, window in self._losses.items()}
        return {"losses": losses, "phase": self._phase, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not isinstance(state["losses"], Mapping):
            raise ValueError(f"losses is {state['losses']!r}, expected a mapping of objectives to losses")
        for loss in (loss for window in state["losses"].values() for loss in window):
            check_number("losses", abs(loss))
        check_count("phase", state["phase"] or 0)
        check_count("in_a_row", state["in_a_row"])
        self._losses = {name: deque(window, maxlen=self.window) for name, window in state["losses"].items()}
        self._phase, self._in_a_row = state["phase"], state["in_a_row"]
