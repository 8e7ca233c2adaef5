"""The learning rate as a pure function of tokens seen: warmup, stable, decay (WSD, arXiv 2404.06395)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from detour.phases import PhaseSchedule

Shape = Literal["linear", "cosine", "one_minus_sqrt"]

# share of the way from the floor to the peak that is left after a share x of the decay
_LEFT: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),  # arXiv 2405.18392; the detour's choice
}


@dataclass(frozen=True, kw_only=True)
class WSD:
    """Linear warmup to ``peak_lr``, constant, decay to ``final_lr`` over the tokens of one phase, then the floor.

    Attributes:
        peak_lr: Learning rate of the stable part.
        final_lr: Where the decay ends; the rate never falls below it afterwards.
        warmup_tokens: Length of the climb from 0.
        decay_phase: Name of the phase over which the rate decays; None keeps it constant to the end.
        shape: Form of the decay.
    """

    peak_lr: float
    final_lr: float = 0.0
    warmup_tokens: int = 0
    decay_phase: str | None = None
    shape: Shape = "one_minus_sqrt"

    def lr_at(self, tokens: int, phases: PhaseSchedule) -> float:
        """Learning rate of a batch before which ``tokens`` tokens were seen."""
        rate = self.peak_lr
        if self.warmup_tokens and tokens < self.warmup_tokens:
            rate *= tokens / self.warmup_tokens
        if self.decay_phase is not None:
            decay = phases.named(self.decay_phase)
            if tokens > decay.start:  # at its first token the rate is the peak itself, not a rounded sum
                done = min((tokens - decay.start) / (decay.end - decay.start), 1.0)
                rate = min(rate, self.final_lr + (self.peak_lr - self.final_lr) * _LEFT[self.shape](done))
        place = phases.at(tokens)
        rewarm = place.phase.rewarm_tokens
        climbed = min((tokens - place.start) / rewarm, 1.0) if rewarm else 1.0
        return rate * place.phase.lr_factor * climbed
