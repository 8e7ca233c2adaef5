"""Optimizers with decoupled weight decay, and which parameters decay."""

from __future__ import annotations

import torch
from optimi import StableAdamW
from torch import nn

from detour.optimizer import OptimizerConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Two parameter groups: matrices and embeddings with weight decay, biases and norms (one dimension) without."""
    decay = [p for p in module.parameters() if p.ndim >= 2]
    no_decay = [p for p in module.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def build_optimizer(module: nn.Module, config: OptimizerConfig, *, peak_lr: float) -> torch.optim.Optimizer:
    """The configured optimizer over all parameters of a module.

    Weight decay is fully decoupled (arXiv 1711.05101): a step multiplies each weight by 1 - weight_decay * lr / peak_lr.
    With torch's fused AdamW this equals Composer's DecoupledAdamW (`OptimizerConfig.group_weight_decay`).

    StableAdamW (arXiv 2304.13013) clips the update of each tensor by its root mean square, so it needs no gradient clipping.
    Cost: about 10% of the step time.

    Args:
        module: The model.
        config: The optimizer section of the configuration.
        peak_lr: Peak learning rate, at which weight decay has its full strength.
    """
    groups = parameter_groups(module, config.group_weight_decay(peak_lr))
    if config.name == "stableadamw":
        # foreach would flatten sharded tensors; the plain loop works with all
        return StableAdamW(
            groups, lr=peak_lr, betas=config.betas, eps=config.eps, decouple_lr=True, max_lr=peak_lr, foreach=False
        )
    return torch.optim.AdamW(groups, lr=peak_lr, betas=config.betas, eps=config.eps, fused=True)
