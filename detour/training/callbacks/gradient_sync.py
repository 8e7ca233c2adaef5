"""FSDP at the price of DDP: weights gathered once a step, gradients reduced once."""

from __future__ import annotations

import math
from typing import cast

from composer.core import Callback, State
from composer.loggers import Logger
from torch.distributed.fsdp import FSDPModule
from torch.nn import Module


class GradientSync(Callback):
    """Reduces the gradients of a sharded model, and frees its gathered weights, in the last micro-batch of a step only.

    Composer lets FSDP2 do both after each micro-batch. With ``reshard_after_forward=False`` the weights are then gathered once
    a step. Cost: full weights and gradients are held during a step; optimizer moments stay sharded.

    Args:
        encoder: The model, which FSDP2 will have sharded by the first step.
    """

    def __init__(self, encoder: Module) -> None:
        self.encoder = encoder
        self._left = 0

    def before_train_batch(self, state: State, logger: Logger) -> None:
        size = state.device_train_microbatch_size
        assert size is not None
        self._left = math.ceil(len(state.batch["input_ids"]) / size)

    def before_forward(self, state: State, logger: Logger) -> None:
        self._left -= 1
        sync_at(self.encoder, last=self._left == 0)


def sync_at(encoder: Module, *, last: bool) -> None:
    """Tells a sharded model whether the coming micro-batch is the last of its step."""
    sharded = cast(FSDPModule, encoder)
    sharded.set_requires_gradient_sync(last)
    sharded.set_reshard_after_backward(last)
