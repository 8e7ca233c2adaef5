"""Rotary position embeddings (arXiv 2104.09864), in the half-split layout of Hugging Face."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from detour.errors import ConfigError
from detour.models.architecture import Rotary
from detour.models.rope_scaling import YARN, attention_factor


def rotary_table(position_N: Tensor, rotary: Rotary, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, 1, 1, d / 2] for tokens at the given positions; computed in fp32, then cast."""
    angle_ND = position_N[:, None].float() * _frequencies(rotary, position_N.device)
    factor = attention_factor(dict(rotary.scaling))
    return (factor * angle_ND.cos()).to(dtype)[:, None, None], (factor * angle_ND.sin()).to(dtype)[:, None, None]


def _frequencies(rotary: Rotary, device: torch.device) -> Tensor:
    """Radians per position, fp32 [d / 2]. The scaling "llama3" is that of Llama 3.1's reference code."""
    exponent = torch.arange(0, rotary.head_dim, 2, device=device, dtype=torch.float32) / rotary.head_dim
    plain = 1.0 / rotary.theta**exponent
    scaling: dict[str, Any] = dict(rotary.scaling)
    if not scaling:
        return plain
    slowed = plain / scaling["factor"]
    if scaling["rope_type"] == "linear":
        return slowed
    if scaling["rope_type"] == "yarn":
        keep = _yarn_keep(rotary, {**YARN, **scaling}).to(device)
        return slowed * (1 - keep) + plain * keep
    if scaling["rope_type"] != "llama3":
        raise ConfigError(f"rotary scaling '{scaling['rope_type']}', expected 'linear', 'llama3' or 'yarn'")
    # turns within the original length: above high_freq_factor unchanged, below low_freq_factor slowed, between interpolated
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - share) * slowed + share * plain


def _yarn_keep(rotary: Rotary, scaling: dict[str, Any]) -> Tensor:
    """Share of its own speed that each frequency keeps, [d / 2]: arXiv 2309.00071, section 3.2, with transformers' rounding."""

    def index(turns: float) -> float:  # of the frequency that turns so often within the original length
        length = scaling["original_max_position_embeddings"]
        return rotary.head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    first = max(math.floor(index(scaling["beta_fast"])), 0)
    last = min(math.ceil(index(scaling["beta_slow"])), rotary.head_dim - 1)
    ramp = (torch.arange(rotary.head_dim // 2, dtype=torch.float32) - first) / ((last - first) or 0.001)
    return 1 - ramp.clamp(0, 1)


def rotate(x_NKHd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the rotary table to [N, K, H, d]; queries and keys together have K = 2."""
    a, b = x_NKHd.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
