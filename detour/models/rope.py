"""Rotary position embeddings (arXiv 2104.09864), in the half-split layout of Hugging Face."""

from __future__ import annotations

import torch
from torch import Tensor

from detour.models.architecture import Rotary


def rotary_table(position_N: Tensor, rotary: Rotary, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, 1, 1, d / 2] for tokens at the given positions; computed in fp32, then cast."""
    head_dim = rotary.head_dim
    exponent = torch.arange(0, head_dim, 2, device=position_N.device, dtype=torch.float32) / head_dim
    angle_ND = position_N[:, None].float() * (1.0 / rotary.theta**exponent)
    return angle_ND.cos().to(dtype)[:, None, None], angle_ND.sin().to(dtype)[:, None, None]


def rotate(x_NKHd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the rotary table to [N, K, H, d]; queries and keys together have K = 2."""
    a, b = x_NKHd.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
