"""Whether a batch may change the weights: one small reduction a step, and the same answer on every process."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch import Tensor

from detour.errors import TrainingError
from detour.training.callbacks.jsonl import JsonlLogger
from detour.training.checkpoints.contents import number, whole
from detour.training.stop import StopRequest

log = logging.getLogger(__name__)
EMPTY = "no token is supervised"


@dataclass(frozen=True)
class StepCheck:
    """What the processes found together about a batch.

    Attributes:
        loss: Its mean loss, in nats a supervised token.
        norm: Norm of its gradient, before clipping.
        problem: Why it must not change the weights; None if it may. EMPTY if nothing in it carries loss.
    """

    loss: float
    norm: float
    problem: str | None


class StepGuard(Callback):
    """Keeps a bad batch from changing weights and moments, on all processes or on none.

    A batch is bad if its loss or the norm of its gradient is not finite on any process or, with ``spike_factor``, if
    its loss is more than that many times the median of the last ``window`` good batches of its phase. Bad ones never
    enter that window, so they cannot raise what passes for normal. The first ``window`` batches of a phase are not
    judged by it: the loss jumps where the objective changes.

    A bad batch is written to metrics.jsonl with its rows, and its update is left out; the token clock moves on, since
    its rows were read. After ``max_skips`` in a row the next one ends the run, without an update.

    A batch without any supervised token (documents of special tokens only) has nothing to learn from. Its update is left
    out in the same way, or weight decay and momentum would still move the weights; it is no fault and never ends the run.

    Cost: an all-reduce of four numbers and the wait for the gradient's norm, which was read in each step anyway.

    Args:
        max_skips: Bad batches in a row that are left out; 0 ends the run at the first.
        spike_factor: See above; None never judges by the size of the loss.
        window: Good batches whose losses are remembered.
        metrics: Where bad batches are written down.
        stop: Asked in each step, and told what the processes agreed on.
    """

    def __init__(
        self, *, max_skips: int, spike_factor: float | None, window: int, metrics: JsonlLogger, stop: StopRequest
    ) -> None:
        self.max_skips, self.spike_factor, self.window = max_skips, spike_factor, window
        self.metrics, self.stop = metrics, stop
        self.skipped_last = False
        self._losses: deque[float] = deque(maxlen=window)
        self._phase: int | None = None
        self._in_a_row = 0
        self._sums: Tensor | None = None

    def before_train_batch(self, state: State, logger: Logger) -> None:
        self._sums = None

    def after_loss(self, state: State, logger: Logger) -> None:
        """Adds up a micro-batch's loss and supervised tokens, on the device."""
        outputs = state.outputs
        sums = torch.stack([outputs.total.detach().double(), outputs.supervised.double()])  # type: ignore[union-attr]
        self._sums = sums if self._sums is None else self._sums + sums

    def check(self, state: State, norm: Tensor, *, phase: int) -> StepCheck:
        """Looks at the batch whose gradients are there. Collective.

        Args:
            state: Composer's.
            norm: Norm of the whole gradient, a scalar, on each process.
            phase: Index of the phase that trains; its window is its own.

        Raises:
            TrainingError: The batch is bad, and too many before it were.
        """
        assert self._sums is not None
        rest = torch.stack([norm.double().to(self._sums.device), self._sums.new_tensor(float(self.stop.wanted()))])
        sums = torch.cat([self._sums, rest])
        dist.all_reduce(sums)  # whatever is not finite on one process makes the sum so
        total, supervised, norms, stops = sums.tolist()
        self.stop.agreed = stops > 0
        loss = total / supervised if supervised else 0.0
        if phase != self._phase:
            self._phase = phase
            self._losses.clear()
        empty = not supervised
        check = StepCheck(
            loss=loss,
            norm=norms / dist.get_world_size(),
            problem=EMPTY if empty else self._problem(loss, norms),
        )
        self.skipped_last = check.problem is not None
        if empty:
            self.metrics.leave_out_loss()
            self._report(state, check, ends=False)
        elif check.problem is None:
            self._losses.append(loss)
            self._in_a_row = 0
        else:
            self._in_a_row += 1
            self._report(state, check, ends=self._in_a_row > self.max_skips)
        return check

    def _problem(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the norm of the gradient is {norm}"
        if self.spike_factor is not None and len(self._losses) == self.window:
            usual = median(self._losses)
            if loss > self.spike_factor * usual:
                return f"the loss is {loss:.4g}, over {self.spike_factor:g} times the usual {usual:.4g}"
        return None

    def _report(self, state: State, check: StepCheck, *, ends: bool) -> None:
        rows = sorted(row for part in dist.all_gather_object(state.batch["sample_id"].tolist()) for row in part)
        # as text: JSON has no NaN
        seen = {"problem": check.problem, "loss": str(check.loss), "grad_norm": str(check.norm), "rows": rows}
        self.metrics.write_event(state, {"bad_batch": {**seen, "action": "stop" if ends else "skip"}})
        where = f"batch {state.timestamp.batch.value:,}, token {state.timestamp.token.value:,}"
        if ends:
            raise TrainingError(
                f"{where}: {check.problem}; no weight was changed. guard.max_skips: {self.max_skips} allows no further "
                f"batch to be left out. Its rows, {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}, are "
                f"all in {self.metrics.path}; the newest checkpoint is from before it"
            )
        counted = "" if check.problem == EMPTY else f" ({self._in_a_row} of {self.max_skips} in a row)"
        log.warning("%s: %s; left out%s", where, check.problem, counted)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self._losses), "phase": self._phase, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for loss in state["losses"]:
            number("losses", abs(loss))
        whole("phase", state["phase"] or 0)
        whole("in_a_row", state["in_a_row"])
        self._losses = deque(state["losses"], maxlen=self.window)
        self._phase, self._in_a_row = state["phase"], state["in_a_row"]
