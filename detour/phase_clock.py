"""The phase clock: objective, learning rate and frozen parameters as a function of the tokens seen. Plain torch.

A training loop asks the clock once per batch::

    clock = PhaseClock(phases=PhaseSchedule(phases), wsd=wsd, vocab=vocab, seed=17, optimizer=optimizer_config)
    settings = None
    while tokens < clock.total_tokens:
        settings = clock.at(tokens, previous=settings)
        batch = clock.corrupt(next(rows), settings, step=step)
        settings.apply(optimizer, encoder)
        ...  # forward and backward pass
        gate(settings.freeze, clip_norm=settings.clip_norm)  # detour.training.gradient_gate, or the loop's own
        optimizer.step()
        tokens, step = tokens + count_tokens(batch)["total"], step + 1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from detour import objectives, scheduled
from detour.batch import Batch
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.objectives import Objective, RowRandom
from detour.optimizer import OptimizerConfig, PhaseOptimizer
from detour.phases import Freeze, PhaseRope, PhaseSchedule, PhaseSpan
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
        clip_norm: Largest gradient norm of the step; None does not clip.
        group_settings: Settings whose betas and weight decay `apply` sets; None if no phase of the run changes the optimizer.
        peak_lr: Peak learning rate of the run, to which weight decay is relative.
        sets_rope: Whether `apply` sets bases and scaling of the rotary positions: a phase of the run changes them.
    """

    span: PhaseSpan
    fraction: float
    objective: Objective
    lr: float
    new_phase: bool
    reset_optimizer: bool
    clip_norm: float | None
    group_settings: OptimizerConfig | None
    peak_lr: float
    sets_rope: bool

    @property
    def freeze(self) -> Freeze:
        """Parameters frozen in this step; they keep their weights and optimizer state."""
        return self.span.phase.freeze

    @property
    def scheduled_values(self) -> dict[str, float]:
        """The current value of each option, and of each proportion of the phase's own mixture, that changes over the phase."""
        phase = self.span.phase
        mixture = [{"proportion": stream.proportion} for stream in phase.data.train]
        found = [*scheduled.scheduled(phase.options), *scheduled.scheduled(mixture, "train")]
        return {key: scheduled.at(value, self.fraction) for key, value in found}

    def apply(self, optimizer: Optimizer, encoder: Encoder | None = None) -> None:
        """Sets every parameter group and the rotary positions, and resets the optimizer state if the phase requires it.

        Args:
            optimizer: Its groups are those of `detour.training.optim.parameter_groups` where a phase changes weight decay.
            encoder: The model, before anything wraps it; None if no phase changes its rotary positions.

        Raises:
            ConfigError: A phase changes the rotary positions, and there is no encoder.
        """
        self.set_rope(encoder)
        if self.reset_optimizer:
            optimizer.state.clear()
        self.set_groups(optimizer)
        for group in optimizer.param_groups:
            group["lr"] = self.lr

    def set_rope(self, encoder: Encoder | None) -> None:
        """Sets bases and scaling of the rotary positions, if a phase of the run changes them."""
        if self.sets_rope:
            if encoder is None:
                raise ConfigError(f"phases[{self.span.index}].rope: phases change it, but apply was given no encoder")
            rope = self.span.phase.rope
            encoder.use_rope(rope.theta, rope.local_theta, rope.scaling)

    def set_groups(self, optimizer: Optimizer) -> None:
        """Sets betas and weight decay of every parameter group, if a phase of the run changes them."""
        if self.group_settings is not None:
            self.group_settings.set_groups(optimizer.param_groups, peak_lr=self.peak_lr)


class PhaseClock:
    """The phases, objectives and learning rate of a run as a function of the tokens seen.

    The clock has no state: to resume a run, pass the tokens seen and the phase of its last batch. A batch belongs to the
    phase that contains its first token.

    Args:
        phases: The phases.
        wsd: The learning rate schedule.
        vocab: Token ids for the objectives.
        seed: Seed of the corruption.
        optimizer: Settings of the optimizer, which phases may change; None if the loop alone sets it and clips.

    Raises:
        ConfigError: An objective is unknown or rejects its options; or a phase changes an optimizer that is not given.
    """

    def __init__(
        self, *, phases: PhaseSchedule, wsd: WSD, vocab: Vocab, seed: int, optimizer: OptimizerConfig | None = None
    ) -> None:
        self.phases, self.wsd, self.vocab, self.seed = phases, wsd, vocab, seed
        self._optimizers = self._optimizer_of_phases(optimizer)
        self._changes_optimizer = any(phase.optimizer != PhaseOptimizer() for phase in phases.phases)
        self._changes_rope = any(phase.rope != PhaseRope() for phase in phases.phases)
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
        optimizer = self._optimizers[span.index]
        entered = [] if last is None else self.phases.phases[last + 1 : span.index + 1]
        return StepSettings(
            span=span,
            fraction=fraction,
            objective=objective,
            lr=self.wsd.lr_at(tokens, self.phases),
            new_phase=last is None or bool(entered),
            reset_optimizer=any(phase.optimizer_state == "reset" for phase in entered),
            clip_norm=optimizer.clip_norm if optimizer else None,
            group_settings=optimizer if self._changes_optimizer else None,
            peak_lr=self.wsd.peak_lr,
            sets_rope=self._changes_rope,
        )

    def _optimizer_of_phases(self, optimizer: OptimizerConfig | None) -> list[OptimizerConfig | None]:
        if optimizer is not None:
            return [optimizer.during(phase.optimizer) for phase in self.phases.phases]
        for index, phase in enumerate(self.phases.phases):
            if words := phase.optimizer.words:
                raise ConfigError(
                    f"phases[{index}].optimizer: {', '.join(words)}, but the clock was given no optimizer"
                )
        return [None] * len(self.phases.phases)

    def corrupt(self, batch: Batch, settings: StepSettings, *, step: int) -> Batch:
        """Applies the phase's objective: returns a new batch with inputs, labels and attention rule.

        Args:
            batch: Clean rows.
            settings: Settings of the batch, from `at`.
            step: Index of the optimizer step. Masks depend only on (seed, step, sample id).
        """
        rng = RowRandom(seed=self.seed, step=step, sample_id_B=batch["sample_id"])
        return settings.objective(batch, self.vocab, rng)
