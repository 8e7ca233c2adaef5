"""ModernBERT (arXiv 2412.13663): pre-norm layers with a gated MLP and rotary positions. Shapes: see `detour.batch`.

Parameter names and numerics are those of Hugging Face's `ModernBertForMaskedLM`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detour.models.layers import Attention, BaseTrunk, Layer
from detour.models.modernbert.architecture import ModernBertArchitecture


class Embeddings(nn.Module):
    """Normalized token embeddings. Positions are encoded by rotary embeddings only."""

    def __init__(self, arch: ModernBertArchitecture) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(arch.vocab_size, arch.hidden_size)
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)
        self.drop = nn.Dropout(arch.embedding_dropout)

    def forward(self, ids_N: Tensor, position_N: Tensor) -> Tensor:
        return self.drop(self.norm(self.tok_embeddings(ids_N)))


class MLP(nn.Module):
    """Gated linear unit with GELU (arXiv 2002.05202)."""

    def __init__(self, arch: ModernBertArchitecture) -> None:
        super().__init__()
        self.Wi = nn.Linear(arch.hidden_size, 2 * arch.intermediate_size, bias=arch.mlp_bias)
        self.drop = nn.Dropout(arch.mlp_dropout)
        self.Wo = nn.Linear(arch.intermediate_size, arch.hidden_size, bias=arch.mlp_bias)

    def forward(self, x_NC: Tensor) -> Tensor:
        value, gate = self.Wi(x_NC).chunk(2, dim=-1)
        return self.Wo(self.drop(F.gelu(value) * gate))


class ModernBertLayer(Layer):
    """Pre-norm transformer layer."""

    def __init__(self, arch: ModernBertArchitecture, index: int) -> None:
        super().__init__()
        # layer 0 has no attention norm: its input is already normalized
        norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias) if index else nn.Identity()
        self.attn_norm = norm
        self.attn = Attention(
            arch.hidden_size,
            heads=arch.num_attention_heads,
            head_dim=arch.head_dim,
            bias=arch.attention_bias,
            dropout=arch.attention_dropout,
            out_dropout=arch.attention_dropout,
        )
        self.mlp_norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)
        self.mlp = MLP(arch)

    def before_attention(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn.project(self.attn_norm(x_NC), cos, sin)

    def after_attention(self, x_NC: Tensor, o_NHd: Tensor) -> Tensor:
        # explicit casts: under autocast inductor (torch 2.7) otherwise fuses sums of mixed dtypes into an addmm that fails
        x_NC = x_NC + self.attn.merge(o_NHd).to(x_NC.dtype)
        return x_NC + self.mlp(self.mlp_norm(x_NC)).to(x_NC.dtype)


class Trunk(BaseTrunk):
    """Embeddings, layers, final norm."""

    def __init__(self, arch: ModernBertArchitecture) -> None:
        super().__init__()
        self.embeddings = Embeddings(arch)
        self.layers = nn.ModuleList(ModernBertLayer(arch, index) for index in range(arch.num_hidden_layers))
        self.final_norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)


class Head(nn.Module):
    """Transform before the vocabulary projection, shared by all objectives."""

    def __init__(self, arch: ModernBertArchitecture) -> None:
        super().__init__()
        self.dense = nn.Linear(arch.hidden_size, arch.hidden_size, bias=arch.classifier_bias)
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)

    def forward(self, x_MC: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x_MC)))


@torch.no_grad()
def reset_parameters(encoder: nn.Module, arch: ModernBertArchitecture) -> None:
    """Initializes the weights as ModernBERT does: truncated normal, output projections scaled by 1 / sqrt(2 L)."""
    wide = arch.initializer_range
    narrow = wide / math.sqrt(2.0 * arch.num_hidden_layers)
    for name, module in encoder.named_modules():
        # the decoder is tied to the embedding, which is initialized once
        if isinstance(module, (nn.Linear, nn.Embedding)) and name != "decoder":
            std = narrow if name.endswith(("Wo", "head.dense")) else wide
            cut = arch.initializer_cutoff_factor * std
            nn.init.trunc_normal_(module.weight, std=std, a=-cut, b=cut)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
