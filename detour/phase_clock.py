"""The phase clock: what the batch at a given token is trained with. Plain torch, usable from any training loop.

A loop asks the clock once per batch and obeys the answer::

    clock = PhaseClock(phases=PhaseSchedule(phases), wsd=wsd, vocab=vocab, seed=17)
    settings = None
    while tokens < clock.total_tokens:
        settings = clock.at(tokens, previous=settings)
        batch = clock.corrupt(next(rows), settings, step=step)
        settings.apply(optimizer)
        ...  # forward and backward pass
        gate(settings.freeze)  # detour.training.gradient_gate, or any loop's own freezing
        optimizer.step()
        tokens, step = tokens + count_tokens(batch)["total"], step + 1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from detour import objectives
from detour.batch import Batch
from detour.objectives import Objective, RowRandom
from detour.phases import Freeze, PhaseSchedule, PhaseSpan
from detour.schedule import WSD
from detour.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What one batch is trained with.

    Attributes:
        span: The phase, its index, and its first and last token.
        objective: Corrupts the batch and declares the attention rule.
        lr: Learning rate of the step.
        new_phase: Whether this is the first batch of its phase, or of the run.
        reset_optimizer: Whether the optimizer state is to be dropped before the step.
    """

    span: PhaseSpan
    objective: Objective
    lr: float
    new_phase: bool
    reset_optimizer: bool

    @property
    def freeze(self) -> Freeze:
        """Parameters that keep their weights and optimizer state in this step."""
        return self.span.phase.freeze

    def apply(self, optimizer: Optimizer) -> None:
        """Sets the learning rate of every parameter group, after dropping the optimizer state where a phase asks for it."""
        if self.reset_optimizer:
            optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = self.lr


class PhaseClock:
    """The phases, objectives and learning rate of a run as a function of the tokens seen.

    The clock has no state: a resumed run only has to say how many tokens it has seen, and which phase its last batch
    belonged to. A batch belongs to the phase that contains its first token.

    Args:
        phases: The phases.
        wsd: The learning-rate schedule.
        vocab: Token ids that the objectives need.
        seed: Seed of the corruption.

    Raises:
        ConfigError: An objective is unknown, or does not accept its options.
    """

    def __init__(self, *, phases: PhaseSchedule, wsd: WSD, vocab: Vocab, seed: int) -> None:
        self.phases, self.wsd, self.vocab, self.seed = phases, wsd, vocab, seed
        self.objectives = [objectives.build(phase.objective, phase.options) for phase in phases.phases]

    @property
    def total_tokens(self) -> int:
        """Length of the run in tokens."""
        return self.phases.total_tokens

    def at(self, tokens: int, *, previous: StepSettings | int | None = None) -> StepSettings:
        """Settings of the batch before which ``tokens`` tokens were seen.

        Args:
            tokens: Tokens seen, padding excluded.
            previous: Settings, or phase index, of the batch before this one; None at the start of the run. A phase that
                is shorter than a batch may be skipped; if it resets the optimizer, the reset still happens.
        """
        span = self.phases.at(tokens)
        last = previous.span.index if isinstance(previous, StepSettings) else previous
        entered = [] if last is None else self.phases.phases[last + 1 : span.index + 1]
        return StepSettings(
            span=span,
            objective=self.objectives[span.index],
            lr=self.wsd.lr_at(tokens, self.phases),
            new_phase=last is None or bool(entered),
            reset_optimizer=any(phase.optimizer_state == "reset" for phase in entered),
        )

    def corrupt(self, batch: Batch, settings: StepSettings, *, step: int) -> Batch:
        """The batch with inputs, labels and attention rule of the phase's objective; the argument is left untouched.

        Args:
            batch: Clean rows.
            settings: What `at` returned for it.
            step: Index of the optimizer step. Masks depend on (seed, step, sample id) only.
        """
        rng = RowRandom(seed=self.seed, step=step, sample_id_B=batch["sample_id"])
        return settings.objective(batch, self.vocab, rng)
