"""What happens to gradients between the backward pass and the optimizer step: scale, freeze, check, clip. Plain torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from detour.models.modernbert.encoder import Encoder
from detour.phases import Freeze


class GradientGate:
    """Lets a step's gradients through to the optimizer, in this order: scale, freeze, check, clip.

    Freezing and rejecting drop gradients (``grad = None``): a parameter without a gradient is left out of the step, so
    its weight and its optimizer state stay bitwise as they are. This works in the same way in one process, with DDP and
    with FSDP, where turning `requires_grad` off during training does not. Cost: the backward pass still visits
    frozen layers.

    Args:
        encoder: The model, before it is wrapped.
        clip_norm: Largest norm of the gradient; None does not clip.
        scale: Factor on all gradients (see `gloo_sums_gradients`).
    """

    def __init__(self, encoder: Encoder, *, clip_norm: float | None = None, scale: float = 1.0) -> None:
        self.encoder, self.clip_norm, self.scale = encoder, clip_norm, scale

    def __call__(self, freeze: Freeze, *, accept: Callable[[Tensor], bool] = lambda norm: True) -> Tensor:
        """Norm of the unfrozen gradient before clipping, a scalar on the model's device.

        Args:
            freeze: Parameters of the current phase that keep their weights.
            accept: Given the norm; returning False drops every gradient, so that the step changes nothing.
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
        elif self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        return gathered

    def frozen_parameters(self, freeze: Freeze) -> list[nn.Parameter]:
        """The parameters that a phase freezes. Raises ConfigError if it names a layer that the model does not have."""
        modules: list[nn.Module] = [self._layers[index] for index in freeze.layer_indices(len(self._layers))]
        if freeze.embeddings:
            modules.append(self.encoder.model.embeddings)
        return [parameter for module in modules for parameter in module.parameters()]

    @cached_property
    def _layers(self) -> list[nn.Module]:
        return list(self.encoder.model.layers)


def _gathered(tensor: Tensor) -> Tensor:
    """A sharded tensor (DTensor) gathered; any other tensor unchanged."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()  # type: ignore[operator]


def gloo_sums_gradients(*, sharded: bool) -> bool:
    """Whether FSDP2 sums gradients over processes instead of averaging them here, as torch 2.7 does on gloo.

    Adam hides the fault (its update does not depend on the gradient's scale); a comparison with one process shows it.
    """
    old = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2]) < (2, 8)
    return sharded and old and torch.distributed.get_backend() == "gloo"
