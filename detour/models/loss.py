"""Cross-entropy fused with the vocabulary projection, without materializing the logits of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from detour.models.constants import CHUNK_ELEMENTS


def linear_cross_entropy(
    h_MC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, target_M: Tensor, loss_weight_M: Tensor | None = None
) -> Tensor:
    """Cross-entropy of softmax(h W^T + b) at the targets, weighted and summed over M; a scalar in fp32.

    Positions are processed in chunks, and gradients are computed in the forward pass while the logits of a chunk exist.
    Nothing of size M x V is stored, and no projection is computed twice. Matrix products follow autocast; the softmax is
    in fp32. Cost: beyond the gradients, memory for one chunk of logits (64 MB on a CPU).

    Args:
        h_MC: Hidden states at the supervised positions.
        weight_VC: Vocabulary projection (the embedding, if tied).
        bias_V: Bias of the projection, or None.
        target_M: Ids to predict, int64, in [0, V).
        loss_weight_M: Weight of each position's cross-entropy, fp32; None for 1. It gets no gradient.
    """
    device = h_MC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else h_MC.dtype
    return _LinearCrossEntropy.apply(h_MC, weight_VC, bias_V, target_M, loss_weight_M, dtype, torch.is_grad_enabled())  # type: ignore[return-value]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_MC, weight_VC, bias_V, target_M, loss_weight_M, dtype, with_grad):
        M, V = len(h_MC), len(weight_VC)
        rows = max(1, CHUNK_ELEMENTS.get(h_MC.device.type, 1 << 24) // V)
        want_h, want_w, want_b = (with_grad and need for need in ctx.needs_input_grad[:3])
        grad_h = torch.empty_like(h_MC) if want_h else None
        grad_w = torch.zeros_like(weight_VC, dtype=torch.float32) if want_w else None
        grad_b = torch.zeros_like(bias_V, dtype=torch.float32) if want_b else None
        loss = torch.zeros((), dtype=torch.float32, device=h_MC.device)

        with torch.autocast(h_MC.device.type, enabled=False):
            w, b = weight_VC.to(dtype), None if bias_V is None else bias_V.to(dtype)
            room = h_MC.new_empty(
                min(rows, M), V, dtype=dtype
            )  # reused by all chunks: first touches of new memory are slow
            for start in range(0, M, rows):
                h = h_MC[start : start + rows].to(dtype)
                target = target_M[start : start + rows, None]
                logits = room[: len(h)]
                logits = (torch.mm(h, w.T, out=logits) if b is None else torch.addmm(b, h, w.T, out=logits)).float()
                at_target, largest = logits.gather(1, target), logits.amax(1, keepdim=True)
                # as few passes over the chunk as possible: they dominate the memory traffic of a step
                p = torch.softmax(logits, 1, out=logits)
                # logsumexp = largest - log(max p); max p >= 1 / V, so the logarithm is finite
                each = largest - p.amax(1, keepdim=True).log() - at_target
                factor = None if loss_weight_M is None else loss_weight_M[start : start + rows, None]
                loss += (each if factor is None else each * factor).sum()
                if not (want_h or want_w or want_b):
                    continue
                slope = p.scatter_add_(1, target, -torch.ones_like(at_target))  # d loss / d logits
                slope = slope if factor is None else slope.mul_(factor)
                if grad_b is not None:
                    grad_b += slope.sum(0)
                slope = slope if slope.dtype == dtype else room[: len(h)].copy_(slope)
                if grad_h is not None:
                    grad_h[start : start + rows] = slope @ w
                if grad_w is not None:
                    grad_w.addmm_(slope.T, h) if dtype == torch.float32 else grad_w.add_(slope.T @ h)
        ctx.grads = (grad_h, grad_w, grad_b)
        ctx.dtypes = (h_MC.dtype, weight_VC.dtype, None if bias_V is None else bias_V.dtype)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor):  # type: ignore[override]
        grads = (
            None if grad is None else grad.mul_(grad_loss).to(dtype)
            for grad, dtype in zip(ctx.grads, ctx.dtypes, strict=True)
        )
        ctx.grads = ()  # a second backward fails instead of scaling twice
        return *grads, None, None, None, None
