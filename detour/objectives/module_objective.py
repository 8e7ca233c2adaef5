"""Objectives with parameters of their own: a head over spans, or a generator."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detour.batch import Batch
from detour.objectives.base import Objective
from detour.objectives.random import RowRandom
from detour.vocab import Vocab

if TYPE_CHECKING:
    from torch import nn

    from detour.models.architecture import Architecture
    from detour.models.encoder import Encoder, LossSum


@dataclass(frozen=True, kw_only=True)
class ModuleObjective(Objective):
    """An objective whose loss is computed by a module of its own.

    A run builds the module once and trains it with the encoder. It is in the run's checkpoints, and in no export. Phases with
    the same objective share it.
    """

    @abstractmethod
    def build_module(self, encoder: Encoder) -> nn.Module:
        """The module with new weights; parameters of the encoder may be part of it. Draw from torch's global generator."""

    @property
    def module_key(self) -> object:
        """What phases with this objective must agree on to share the module, besides the shapes of its parameters."""
        return None

    @abstractmethod
    def loss_sum(self, encoder: Encoder, module: nn.Module, batch: Batch) -> LossSum:
        """Loss of a micro-batch, summed over its supervised positions, and their number (or the sum of `loss_tokens`).

        It must be a sum over rows, so that it does not depend on how a batch is split.

        Args:
            encoder: The model; `Encoder.hidden_of` gives the hidden states of the batch.
            module: From `build_module`.
            batch: From `corrupt`.
        """

    def module_flops(self, arch: Architecture, *, tokens: float, supervised: float) -> float:
        """FLOPs of the module, forward and backward, for the ledger and `detour plan`; those of the layers are counted already.

        Args:
            arch: Architecture of the encoder.
            tokens: Tokens without padding.
            supervised: Positions with a label.
        """
        return 0.0

    def __call__(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        return {**super().__call__(batch, vocab, rng), "module_objective": self}
