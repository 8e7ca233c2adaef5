"""Llama-like models: pre-norm layers with RMSNorm, SwiGLU, rotary positions and grouped-query attention.

Numerics are those of Hugging Face's `LlamaForCausalLM`, `Qwen2ForCausalLM`, `Qwen3ForCausalLM`, and `SmolLM3ForCausalLM`;
with bidirectional attention also of EuroBERT. Shapes: see `detour.batch`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detour.models.layers import Attention, BaseTrunk, Layer
from detour.models.llama.architecture import LlamaArchitecture


class Embeddings(nn.Module):
    """Token embeddings. Positions are encoded by rotary embeddings only."""

    def __init__(self, arch: LlamaArchitecture) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(arch.vocab_size, arch.hidden_size)

    def forward(self, ids_N: Tensor, position_N: Tensor) -> Tensor:
        return self.tok_embeddings(ids_N)


class MLP(nn.Module):
    """Gated linear unit with SiLU (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, arch: LlamaArchitecture) -> None:
        super().__init__()
        self.Wi = nn.Linear(arch.hidden_size, 2 * arch.intermediate_size, bias=arch.mlp_bias)
        self.Wo = nn.Linear(arch.intermediate_size, arch.hidden_size, bias=arch.mlp_bias)

    def forward(self, x_NC: Tensor) -> Tensor:
        gate, value = self.Wi(x_NC).chunk(2, dim=-1)
        return self.Wo(F.silu(gate) * value)


class LlamaLayer(Layer):
    """Pre-norm transformer layer."""

    def __init__(self, arch: LlamaArchitecture) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.attn = Attention(
            arch.hidden_size,
            heads=arch.num_attention_heads,
            kv_heads=arch.num_key_value_heads,
            head_dim=arch.head_dim,
            bias=arch.attention_bias,
            out_bias=arch.output_bias,
            dropout=arch.attention_dropout,
            qk_norm_eps=arch.rms_norm_eps if arch.qk_norm else None,
        )
        self.mlp_norm = nn.RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.mlp = MLP(arch)

    def before_attention(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn.project(self.attn_norm(x_NC), cos, sin)

    def after_attention(self, x_NC: Tensor, o_NHd: Tensor) -> Tensor:
        x_NC = x_NC + self.attn.merge(o_NHd).to(x_NC.dtype)
        return x_NC + self.mlp(self.mlp_norm(x_NC)).to(x_NC.dtype)


class Trunk(BaseTrunk):
    """Embeddings, layers, final norm."""

    def __init__(self, arch: LlamaArchitecture) -> None:
        super().__init__()
        self.embeddings = Embeddings(arch)
        self.layers = nn.ModuleList(LlamaLayer(arch) for _ in range(arch.num_hidden_layers))
        self.final_norm = nn.RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)


class Head(nn.Identity):
    """Nothing: the vocabulary projection follows the final norm."""

    def __init__(self, arch: LlamaArchitecture) -> None:
        super().__init__()


@torch.no_grad()
def reset_parameters(encoder: nn.Module, arch: LlamaArchitecture) -> None:
    """Initializes the weights as Llama does: normal, biases zero."""
    for name, module in encoder.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and not (arch.tied and name == "decoder"):
            nn.init.normal_(module.weight, std=arch.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
