"""What both example loops train with, built from a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from detour.config.schema import RunConfig
from detour.data.loader import build_loader
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, vocab_of
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.phase_clock import PhaseClock
from detour.phases import PhaseData
from detour.training.gradient_gate import GradientGate
from detour.training.objective_modules import add_modules
from detour.training.optim import build_optimizer


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """The parts of a run, in one process and in fp32.

    Attributes:
        encoder: The model, from random weights.
        rows: Loader of clean batches of `data.global_batch_size` rows; each iteration is one epoch.
        clock: Gives the objective, the optimizer's values, and the frozen parameters at a token count.
        optimizer: The configured optimizer.
        gate: Freezes and clips gradients before a step.
    """

    encoder: Encoder
    rows: Any
    clock: PhaseClock
    optimizer: torch.optim.Optimizer
    gate: GradientGate


def build_parts(run: RunConfig) -> RunParts:
    """Builds the parts of a run.

    Raises:
        ConfigError: A phase has data of its own.
        DataError: Tokenizer or rows are missing, damaged, or do not belong together.
    """
    for index, phase in enumerate(run.phases):
        if phase.streams or phase.data != PhaseData():
            raise ConfigError(
                f"phases[{index}]: these loops read one stream of rows, data.train, and the phase has its own"
            )
    tokenizer = load_tokenizer(run.model.tokenizer or "")
    vocab = vocab_of(tokenizer, size=run.architecture.vocab_size)
    torch.manual_seed(run.seed)
    encoder = Encoder(run.architecture)
    add_modules(encoder, run.phases, seed=run.seed)
    rows = build_loader(
        streams=run.data.train,
        device_batch_size=run.data.global_batch_size,
        shuffle=run.data.shuffle,
        shuffle_seed=run.data.shuffle_seed,
        workers=0,
        seq_len=run.data.seq_len,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
    )
    return RunParts(
        encoder=encoder,
        rows=rows,
        clock=PhaseClock(
            phases=run.phase_schedule, wsd=run.schedule, vocab=vocab, seed=run.seed, optimizer=run.optimizer
        ),
        optimizer=build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr),
        gate=GradientGate(encoder),
    )
