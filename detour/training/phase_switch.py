"""The phase switch: a Composer algorithm that trains each batch with the settings of the phase clock."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from composer.core import Algorithm, Event, State, Timestamp
from composer.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer

from detour.phase_clock import PhaseClock, StepSettings
from detour.training.callbacks.step_guard import StepGuard
from detour.training.gradient_gate import GradientGate

log = logging.getLogger(__name__)


class PhaseSwitch(Algorithm):
    """Applies the phases of a run to Composer's training loop.

    Its state is the phase index of the last batch, and the names of the parameters that have optimizer moments.

    - `AFTER_DATALOADER`: corrupts the clean batch with the objective of the phase. Prefetched batches are clean, so the
      objective changes exactly at the first batch that begins at or past the boundary.
    - `BATCH_START`: sets the learning rate, and what phases change of the optimizer and of the rotary positions; resets the
      optimizer state if the phase asks for it.
    - `AFTER_TRAIN_BATCH`: passes the gradients through the gate, which drops them if the guard rejects the step.

    Gradients are handled here rather than in a separate algorithm, because Composer runs algorithms in reverse order after
    an event.

    Args:
        clock: Settings of each batch.
        gate: Processes gradients before the optimizer step.
        guard: Checks each step before it changes weights.
        micro_batch_rows: Rows per micro-batch of a device in each phase, by stream.
    """

    def __init__(
        self, *, clock: PhaseClock, gate: GradientGate, guard: StepGuard, micro_batch_rows: Sequence[Mapping[str, int]]
    ) -> None:
        self.clock, self.gate, self.guard, self.micro_batch_rows = clock, gate, guard, micro_batch_rows
        self._phase_of_last_batch: int | None = None
        self._with_moments: set[str] = set()
        self._recorded: set[tuple[int, str]] = set()  # phase and objective of the steps that are in it
        self._set_rope()

    def state_dict(self) -> dict[str, Any]:
        return {"phase_of_last_batch": self._phase_of_last_batch, "with_moments": sorted(self._with_moments)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        last, count = state["phase_of_last_batch"], len(self.clock.phases.phases)
        if last is not None and not (type(last) is int and 0 <= last < count):
            raise ValueError(f"phase_of_last_batch is {last!r}, expected an index into {count} phases")
        self._phase_of_last_batch = last
        known = {name for name, _ in self.gate.encoder.named_parameters()}
        if unknown := {*state["with_moments"]} - known:
            raise ValueError(f"with_moments: the model has no parameter {min(unknown)!r}")
        self._with_moments = {*state["with_moments"]}
        self._set_rope()

    def parameters_with_moments(self) -> set[nn.Parameter]:
        """Those that a step has changed since the optimizer state was last reset."""
        return {parameter for name, parameter in self.gate.encoder.named_parameters() if name in self._with_moments}

    def set_groups(self, optimizer: Optimizer) -> None:
        """Sets betas and weight decay of the parameter groups as the last batch before a checkpoint did."""
        if self._phase_of_last_batch is not None:
            self.clock.at(self.clock.phases.boundaries[self._phase_of_last_batch]).set_groups(optimizer)

    def _set_rope(self) -> None:
        """The rotary positions of the last batch, or of the first phase: an evaluation may come before the next batch."""
        start = self.clock.phases.boundaries[self._phase_of_last_batch or 0]
        self.clock.at(start).set_rope(self.gate.encoder)

    @property
    def find_unused_parameters(self) -> bool:
        """Tells Composer that DDP must expect parameters without a gradient: those of an objective whose turn it is not."""
        return len(self.gate.encoder.objectives) > 0

    def reads_at(self, time: Timestamp) -> tuple[int, str, float]:
        """The phase of the next batch, the stream that it is read from, and the fraction of the phase before it."""
        settings = self.clock.at(time.token.value)
        return settings.span.index, settings.objective.stream_at(time.batch.value), settings.fraction

    def match(self, event: Event, state: State) -> bool:
        return event in (Event.AFTER_DATALOADER, Event.BATCH_START, Event.AFTER_TRAIN_BATCH)

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        settings = self.clock.at(state.timestamp.token.value, previous=self._phase_of_last_batch)
        if event == Event.AFTER_DATALOADER:
            state.batch = self.clock.corrupt(state.batch, settings, step=state.timestamp.batch.value)
        elif event == Event.BATCH_START:
            self._begin_batch(state, settings, logger)
        else:
            self._finish_gradients(state, settings, logger)

    def _begin_batch(self, state: State, settings: StepSettings, logger: Logger) -> None:
        span = settings.span
        if settings.new_phase:
            tokens = f"{state.timestamp.token.value:,}"
            log.info("phase %d '%s': %s from token %s", span.index, span.phase.name, span.phase.objective, tokens)
        for optimizer in state.optimizers:
            settings.apply(optimizer, self.gate.encoder)
        if settings.reset_optimizer:
            self._with_moments.clear()
            self._recorded.clear()
        stream = settings.objective.stream_at(state.timestamp.batch.value)
        state.device_train_microbatch_size = self.micro_batch_rows[span.index][stream]
        self._phase_of_last_batch = span.index
        changing = {f"phase/{key}": value for key, value in settings.scheduled_values.items()}
        logger.log_metrics({"phase/index": span.index, "lr": settings.lr, **changing})

    def _finish_gradients(self, state: State, settings: StepSettings, logger: Logger) -> None:
        def accept(norm: Tensor) -> bool:
            check = self.guard.check(state, norm, phase=settings.span.index)
            logger.log_metrics({"grad_norm": check.norm})
            return check.problem is None

        self.gate(settings.freeze, clip_norm=settings.clip_norm, accept=accept)
        self._record(settings.span.index, state.batch["objective"])

    def _record(self, phase: int, objective: str) -> None:
        """Adds the parameters that this step changes. Steps of one phase and objective change the same ones."""
        if (phase, objective) not in self._recorded:
            changed = {name for name, parameter in self.gate.encoder.named_parameters() if parameter.grad is not None}
            self._with_moments |= changed
            if changed:  # the step was not rejected
                self._recorded.add((phase, objective))
