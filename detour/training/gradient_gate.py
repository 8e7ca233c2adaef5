"""What happens to gradients between the backward pass and the optimizer step: scale, freeze, check, clip. Plain torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from detour.models.encoder import Encoder
from detour.phases import Freeze
from detour.versions import torch_at_least


class GradientGate:
    """Processes the gradients of a step before the optimizer sees them: scale, freeze, check, clip.

    Freezing and rejecting set ``grad = None``: the optimizer skips a parameter without a gradient, so its weight and its
    optimizer state stay bitwise unchanged. Unlike switching `requires_grad` off during training, this works alike in one
    process, with DDP and with FSDP. Cost: the backward pass still computes the gradients of frozen layers.

    Args:
        encoder: The model, before DDP or FSDP wraps it.
        scale: Factor applied to all gradients (`gloo_sums_gradients`).
    """

    def __init__(self, encoder: Encoder, *, scale: float = 1.0) -> None:
        self.encoder, self.scale = encoder, scale

    def __call__(
        self,
        freeze: Freeze,
        *,
        clip_norm: float | None = None,
        accept: Callable[[Tensor], bool] = lambda norm: True,
    ) -> Tensor:
        """Applies the gate, and returns the norm of the unfrozen gradient before clipping: a scalar on the model's device.

        Args:
            freeze: Parameters that the current phase freezes.
            clip_norm: Maximum gradient norm; None does not clip.
            accept: Called with the norm; if it returns False, all gradients are dropped and the step changes nothing.
        """
        for parameter in self.frozen_parameters(freeze):
            parameter.grad = None
        parameters = [p for p in self.encoder.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.scale != 1:
            for gradient in gradients:
                gradient.mul_(self.scale)
        norm = nn.utils.get_total_norm(gradients)
        gathered = _gathered(norm)
        if not accept(gathered):
            for parameter in parameters:
                parameter.grad = None
        elif clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        return gathered

    def frozen_parameters(self, freeze: Freeze) -> list[nn.Parameter]:
        """The parameters that a phase freezes. Raises ConfigError if the model has no such layer."""
        modules: list[nn.Module] = [self._layers[index] for index in freeze.layer_indices(len(self._layers))]
        if freeze.embeddings:
            modules.append(self.encoder.model.embeddings)
        return [parameter for module in modules for parameter in module.parameters()]

    @cached_property
    def _layers(self) -> list[nn.Module]:
        return list(self.encoder.model.layers)


def _gathered(tensor: Tensor) -> Tensor:
    """Gathers a sharded tensor (DTensor); detaches any other."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()  # type: ignore[operator]


def gloo_sums_gradients(*, sharded: bool) -> bool:
    """Whether FSDP2 sums gradients over processes instead of averaging them, as torch before 2.8 does on gloo.

    Adam hides the error, since its update is invariant to the scale of the gradient.
    """
    return sharded and not torch_at_least(2, 8) and torch.distributed.get_backend() == "gloo"
