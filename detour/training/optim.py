"""Optimizers with decoupled weight decay, and the choice of what decays."""

from __future__ import annotations

import torch
from optimi import StableAdamW
from torch import nn

from detour.config.schema import OptimizerConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices and embeddings, which decay, and everything with one dimension (biases, norms), which does not."""
    decay = [p for p in module.parameters() if p.ndim >= 2]
    spared = [p for p in module.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def build_optimizer(module: nn.Module, config: OptimizerConfig, *, peak_lr: float) -> torch.optim.Optimizer:
    """The optimizer over all of a module's parameters.

    Weight decay is decoupled from the learning rate (arXiv 1711.05101): at the peak a step takes off
    ``weight_decay`` of a weight, elsewhere in proportion to the rate. torch's AdamW takes off lr * weight_decay, so
    it is given weight_decay / peak_lr; that is Composer's DecoupledAdamW, with torch's fused kernel.

    StableAdamW (arXiv 2304.13013) clips each tensor's update by its root mean square, and so needs no gradient
    clipping; about a tenth slower a step.
    """
    if config.name == "stableadamw":
        # foreach would flatten sharded tensors; the plain loop works on every kind
        groups = parameter_groups(module, config.weight_decay)
        return StableAdamW(
            groups, lr=peak_lr, betas=config.betas, eps=config.eps, decouple_lr=True, max_lr=peak_lr, foreach=False
        )
    groups = parameter_groups(module, config.weight_decay / peak_lr)
    return torch.optim.AdamW(groups, lr=peak_lr, betas=config.betas, eps=config.eps, fused=True)
