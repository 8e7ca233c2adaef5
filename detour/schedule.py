"""The learning rate as a pure function of tokens seen: warmup, stable, decay (WSD, arXiv 2404.06395)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from detour import scheduled
from detour.phases import PhaseSchedule

Shape = Literal["linear", "cosine", "one_minus_sqrt"]

# remaining fraction of (peak - floor) after a fraction x of the decay
_REMAINING: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),  # arXiv 2405.18392; used by the paper
}


@dataclass(frozen=True, kw_only=True)
class WSD:
    """Warmup-stable-decay: linear warmup to ``peak_lr``, constant, decay to ``final_lr`` over one phase, then constant.

    Attributes:
        peak_lr: Learning rate of the stable part.
        final_lr: Learning rate at the end of the decay and after it.
        warmup_tokens: Length of the linear warmup from 0.
        decay_phase: Name of the phase over which the learning rate decays; None for no decay.
        shape: Shape of the decay.
    """

    peak_lr: float
    final_lr: float = 0.0
    warmup_tokens: int = 0
    decay_phase: str | None = None
    shape: Shape = "one_minus_sqrt"

    def lr_at(self, tokens: int, phases: PhaseSchedule) -> float:
        """Learning rate of a batch that begins after ``tokens`` tokens."""
        rate = self.peak_lr
        if self.warmup_tokens and tokens < self.warmup_tokens:
            rate *= tokens / self.warmup_tokens
        if self.decay_phase is not None:
            decay = phases.span_of(self.decay_phase)
            if tokens > decay.start:  # at its first token the rate is exactly the peak
                fraction = min((tokens - decay.start) / (decay.end - decay.start), 1.0)
                rate = min(rate, self.final_lr + (self.peak_lr - self.final_lr) * _REMAINING[self.shape](fraction))
        span = phases.at(tokens)
        rewarm = span.phase.rewarm_tokens
        rewarmed = min((tokens - span.start) / rewarm, 1.0) if rewarm else 1.0
        return rate * scheduled.at(span.phase.lr_factor, span.fraction_at(tokens)) * rewarmed
