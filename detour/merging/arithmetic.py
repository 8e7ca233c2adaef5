"""Merging of tensors: linear, SLERP, TIES, and DARE. Pure functions; sums are in float64, results in the parents' type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

PARALLEL = 1e-6  # sine of the angle below which SLERP is linear: its formula divides by the sine


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum. A tensor whose weight is 1, with all others 0, is returned bitwise.

    Args:
        tensors: One per parent, of one shape.
        weights: One per parent.
    """
    if (alone := _alone(tensors, weights)) is not None:
        return alone
    total = torch.zeros_like(tensors[0], dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor.double()
    return total.to(tensors[0].dtype)


def slerp(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Spherical linear interpolation of two tensors, each taken as one vector (Shoemake 1985).

    With the angle w between the two and t the second weight, (sin((1-t) w) a + sin(t w) b) / sin w. Lengths are not
    normalized. Tensors that are parallel, opposite, or zero are interpolated linearly. With t = 0 or 1 the result is one of
    the two bitwise.

    Args:
        tensors: Two tensors of one shape.
        weights: 1 - t and t.
    """
    if (alone := _alone(tensors, weights)) is not None:
        return alone
    a, b = (tensor.double() for tensor in tensors)
    lengths = a.norm() * b.norm()
    cosine = float((a * b).sum() / lengths) if lengths > 0 else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < PARALLEL:
        return linear(tensors, weights)
    mixed = (math.sin(weights[0] * angle) * a + math.sin(weights[1] * angle) * b) / math.sin(angle)
    return mixed.to(tensors[0].dtype)


def threshold(deltas: Mapping[str, Tensor], density: float) -> float:
    """The magnitude from which a number belongs to the largest ``density`` of all numbers of a task vector.

    Args:
        deltas: Name -> difference of a parent and the base.
        density: Fraction to keep, in (0, 1].

    Cost: one copy of the task vector.
    """
    magnitudes = torch.cat([delta.abs().flatten() for delta in deltas.values()])
    kept = max(1, round(density * magnitudes.numel()))
    return float(magnitudes.kthvalue(magnitudes.numel() - kept + 1).values)


def drop(delta: Tensor, density: float, seed: int) -> Tensor:
    """DARE (Yu et al. 2024, arXiv 2311.03099): keeps each number with probability ``density`` and divides it by that.

    Args:
        delta: Difference of a parent and the base.
        density: In (0, 1]; 1 changes nothing.
        seed: Seed of the draw.
    """
    if density == 1:
        return delta
    kept = torch.rand(delta.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) < density
    return torch.where(kept, delta / density, torch.zeros_like(delta))


def elect(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sign election and disjoint mean of TIES (Yadav et al. 2023, arXiv 2306.01708), in float64.

    The sign of each number is that of the weighted sum over parents; the weighted mean is over the parents with this sign.
    Where the sum is 0, or all are 0, the result is 0.

    Args:
        deltas: One trimmed task vector per parent, of one shape.
        weights: One per parent, at least 0.
    """
    stacked = torch.stack([delta.double() for delta in deltas])
    weight = torch.tensor(weights, dtype=torch.float64).reshape(-1, *[1] * deltas[0].ndim)
    sign = (weight * stacked).sum(0).sign()
    agree = (stacked.sign() == sign) & (sign != 0)
    total, share = (weight * stacked * agree).sum(0), (weight * agree).sum(0)
    return torch.where(share > 0, total / share.clamp(min=torch.finfo(torch.float64).tiny), torch.zeros_like(total))


def _alone(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor | None:
    """The only tensor with a weight other than 0, if that is 1."""
    used = [(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0]
    return used[0][0] if len(used) == 1 and used[0][1] == 1 else None
