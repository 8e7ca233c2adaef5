"""The phase clock: objective, learning rate and frozen parameters as a function of the tokens seen. Plain torch.

A training loop asks the clock once per batch::

    clock = PhaseClock(phases=PhaseSchedule(phases), wsd=wsd, vocab=vocab, seed=17)
    settings = None
    while tokens < clock.total_tokens:
        settings = clock.at(tokens, previous=settings)
        batch = clock.corrupt(next(rows), settings, step=step)
        settings.apply(optimizer)
        ...  # forward and backward pass
        gate(settings.freeze)  # detour.training.gradient_gate, or the loop's own freezing
        optimizer.step()
        tokens, step = tokens + count_tokens(batch)["total"], step + 1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from detour import objectives, scheduled
from detour.batch import Batch
from detour.objectives import Objective, RowRandom
from detour.phases import Freeze, PhaseSchedule, PhaseSpan
from detour.schedule import WSD
from detour.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Settings of one training step.

    Attributes:
        span: The phase, with its index and range of tokens.
        fraction: Fraction of the phase that lies before the step.
        objective: Objective that corrupts the batch and sets the attention rule, with the options of this step.
        lr: Learning rate of the step.
        new_phase: Whether this is the first batch of a phase.
        reset_optimizer: Whether to reset the optimizer state before the step.
    """

    span: PhaseSpan
    fraction: float
    objective: Objective
    lr: float
    new_phase: bool
    reset_optimizer: bool

    @property
    def freeze(self) -> Freeze:
        """Parameters frozen in this step; they keep their weights and optimizer state."""
        return self.span.phase.freeze

    @property
    def scheduled_options(self) -> dict[str, float]:
        """The current value of each option that changes over the phase."""
        options = self.span.phase.options
        return {key: scheduled.at(value, self.fraction) for key, value in scheduled.scheduled(options)}

    def apply(self, optimizer: Optimizer) -> None:
        """Sets the learning rate of every parameter group, and resets the optimizer state if the phase requires it."""
        if self.reset_optimizer:
            optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = self.lr


class PhaseClock:
    """The phases, objectives and learning rate of a run as a function of the tokens seen.

    The clock has no state: to resume a run, pass the tokens seen and the phase of its last batch. A batch belongs to the
    phase that contains its first token.

    Args:
        phases: The phases.
        wsd: The learning rate schedule.
        vocab: Token ids for the objectives.
        seed: Seed of the corruption.

    Raises:
        ConfigError: An objective is unknown or rejects its options.
    """

    def __init__(self, *, phases: PhaseSchedule, wsd: WSD, vocab: Vocab, seed: int) -> None:
        self.phases, self.wsd, self.vocab, self.seed = phases, wsd, vocab, seed
        self._constant: list[Objective | None] = []  # None where an option changes over the phase
        for phase in phases.phases:
            objectives.check(phase.objective, phase.options)
            changes = any(scheduled.scheduled(phase.options))
            self._constant.append(None if changes else objectives.build(phase.objective, phase.options))

    @property
    def total_tokens(self) -> int:
        """Length of the run in tokens."""
        return self.phases.total_tokens

    def at(self, tokens: int, *, previous: StepSettings | int | None = None) -> StepSettings:
        """Settings of the batch that begins after ``tokens`` tokens.

        Args:
            tokens: Tokens seen, padding excluded.
            previous: Settings or phase index of the previous batch; None at the start of the run. A phase shorter than
                a batch may be skipped; its optimizer reset still happens.
        """
        span = self.phases.at(tokens)
        last = previous.span.index if isinstance(previous, StepSettings) else previous
        fraction = span.fraction_at(tokens)
        objective = self._constant[span.index]
        if objective is None:
            objective = objectives.build(span.phase.objective, span.phase.options, fraction=fraction)
        entered = [] if last is None else self.phases.phases[last + 1 : span.index + 1]
        return StepSettings(
            span=span,
            fraction=fraction,
            objective=objective,
            lr=self.wsd.lr_at(tokens, self.phases),
            new_phase=last is None or bool(entered),
            reset_optimizer=any(phase.optimizer_state == "reset" for phase in entered),
        )

    def corrupt(self, batch: Batch, settings: StepSettings, *, step: int) -> Batch:
        """Applies the phase's objective: returns a new batch with inputs, labels and attention rule.

        Args:
            batch: Clean rows.
            settings: Settings of the batch, from `at`.
            step: Index of the optimizer step. Masks depend only on (seed, step, sample id).
        """
        rng = RowRandom(seed=self.seed, step=step, sample_id_B=batch["sample_id"])
        return settings.objective(batch, self.vocab, rng)
