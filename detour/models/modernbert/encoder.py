"""ModernBERT (arXiv 2412.13663) on packed batches, with bidirectional or causal attention chosen per call.

Parameter names and numerics are those of Hugging Face's `ModernBertForMaskedLM`. Shapes: see `detour.batch`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detour.batch import target_positions
from detour.errors import ConfigError
from detour.models.attention import BACKENDS, Attend, Rule
from detour.models.loss import linear_cross_entropy
from detour.models.modernbert.architecture import Architecture
from detour.models.modernbert.rope import rotary_table, rotate
from detour.models.packed import Packing

TIED = "decoder.weight"  # tied to the embedding; only one copy is stored


class LossSum(NamedTuple):
    """Summed loss (fp32 scalar) and the number of supervised positions (int64 scalar)."""

    total: Tensor
    supervised: Tensor


@dataclass(frozen=True)
class LayerPlan:
    """Rotary table and attention function shared by all global or all local layers in one forward pass."""

    cos: Tensor
    sin: Tensor
    attend: Attend


def rules(arch: Architecture, attention: str) -> tuple[Rule, Rule]:
    """Attention rules of the global and of the local layers. Raises ConfigError for an unknown ``attention``."""
    if attention == "bidirectional":
        return Rule(causal=False), Rule(causal=False, window=(arch.side_window, arch.side_window))
    if attention == "causal":
        return Rule(causal=True), Rule(causal=True, window=(arch.causal_left, 0))
    raise ConfigError(f"attention is '{attention}', expected 'bidirectional' or 'causal'")


class Embeddings(nn.Module):
    """Normalized token embeddings. Positions are encoded by rotary embeddings only."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(arch.vocab_size, arch.hidden_size)
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)
        self.drop = nn.Dropout(arch.embedding_dropout)

    def forward(self, ids_N: Tensor) -> Tensor:
        return self.drop(self.norm(self.tok_embeddings(ids_N)))


class Attention(nn.Module):
    """Multi-head self-attention. The attention rule is an argument of the forward pass, not part of the module."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = arch.num_attention_heads, arch.head_dim, arch.attention_dropout
        self.Wqkv = nn.Linear(arch.hidden_size, 3 * arch.hidden_size, bias=arch.attention_bias)
        self.Wo = nn.Linear(arch.hidden_size, arch.hidden_size, bias=arch.attention_bias)
        self.out_drop = nn.Dropout(arch.attention_dropout)

    def project(self, x_NC: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [N, H, d]; queries and keys are rotated."""
        qk_N2Hd, v_N1Hd = self.Wqkv(x_NC).unflatten(-1, (3, self.heads, self.head_dim)).split([2, 1], dim=1)
        q_NHd, k_NHd = rotate(qk_N2Hd, cos, sin).unbind(1)
        return q_NHd, k_NHd, v_N1Hd[:, 0]

    def merge(self, o_NHd: Tensor) -> Tensor:
        """Output projection of the attention output, [N, C]."""
        return self.out_drop(self.Wo(o_NHd.flatten(1)))


class MLP(nn.Module):
    """Gated linear unit with GELU (arXiv 2002.05202)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.Wi = nn.Linear(arch.hidden_size, 2 * arch.intermediate_size, bias=arch.mlp_bias)
        self.drop = nn.Dropout(arch.mlp_dropout)
        self.Wo = nn.Linear(arch.intermediate_size, arch.hidden_size, bias=arch.mlp_bias)

    def forward(self, x_NC: Tensor) -> Tensor:
        value, gate = self.Wi(x_NC).chunk(2, dim=-1)
        return self.Wo(self.drop(F.gelu(value) * gate))


class Layer(nn.Module):
    """Pre-norm transformer layer. The parts before and after the attention kernel are methods, compiled separately."""

    def __init__(self, arch: Architecture, index: int) -> None:
        super().__init__()
        self.is_global = arch.is_global(index)
        # layer 0 has no attention norm: its input is already normalized
        norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias) if index else nn.Identity()
        self.attn_norm = norm
        self.attn = Attention(arch)
        self.mlp_norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)
        self.mlp = MLP(arch)

    def before_attention(self, x_NC: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn.project(self.attn_norm(x_NC), cos, sin)

    def after_attention(self, x_NC: Tensor, o_NHd: Tensor) -> Tensor:
        # explicit casts: under autocast inductor (torch 2.7) otherwise fuses sums of mixed dtypes into an addmm that fails
        x_NC = x_NC + self.attn.merge(o_NHd).to(x_NC.dtype)
        return x_NC + self.mlp(self.mlp_norm(x_NC)).to(x_NC.dtype)

    def forward(self, x_NC: Tensor, plan: LayerPlan) -> Tensor:
        q_NHd, k_NHd, v_NHd = self.before_attention(x_NC, plan.cos, plan.sin)
        o_NHd = plan.attend(q_NHd, k_NHd, v_NHd, self.attn.dropout if self.training else 0.0)
        return self.after_attention(x_NC, o_NHd)


class Trunk(nn.Module):
    """Embeddings, layers, final norm."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.embeddings = Embeddings(arch)
        self.layers = nn.ModuleList(Layer(arch, index) for index in range(arch.num_hidden_layers))
        self.final_norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)


class Head(nn.Module):
    """Transform before the vocabulary projection, shared by all objectives."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.dense = nn.Linear(arch.hidden_size, arch.hidden_size, bias=arch.classifier_bias)
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.norm_eps, bias=arch.norm_bias)

    def forward(self, x_MC: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x_MC)))


class Encoder(nn.Module):
    """ModernBERT with one language-modeling head, tied to the embeddings, for masked and causal language modeling.

    Args:
        arch: Hyperparameters.
        backend: An attention backend, a name in `detour.models.attention.BACKENDS`; resolve "auto" with `select`.
        gradient_checkpointing: Recompute each layer in the backward pass. Cost: about a third more compute, for one
            stored [N, C] activation per layer instead of about fifteen.
    """

    def __init__(self, arch: Architecture, *, backend: str = "sdpa", gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.arch = arch
        self.backend = BACKENDS[backend]
        self.gradient_checkpointing = gradient_checkpointing
        self.model = Trunk(arch)
        self.head = Head(arch)
        self.decoder = nn.Linear(arch.hidden_size, arch.vocab_size, bias=arch.decoder_bias)
        self.decoder.weight = self.model.embeddings.tok_embeddings.weight
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initializes the weights as ModernBERT does: truncated normal, output projections scaled by 1 / sqrt(2 L)."""
        wide = self.arch.initializer_range
        narrow = wide / math.sqrt(2.0 * self.arch.num_hidden_layers)
        for name, module in self.named_modules():
            # the decoder is tied to the embedding, which is initialized once
            if isinstance(module, (nn.Linear, nn.Embedding)) and name != "decoder":
                std = narrow if name.endswith(("Wo", "head.dense")) else wide
                cut = self.arch.initializer_cutoff_factor * std
                nn.init.trunc_normal_(module.weight, std=std, a=-cut, b=cut)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def compile_regions(self) -> None:
        """Compiles the parts of a layer before and after attention, and the head; attention stays eager.

        A switch of objective therefore recompiles nothing. Cost: the first step takes tens of seconds longer.
        """
        for layer in self.model.layers:
            layer.before_attention = torch.compile(layer.before_attention)  # type: ignore[method-assign]
            layer.after_attention = torch.compile(layer.after_attention)  # type: ignore[method-assign]
        self.head.forward = torch.compile(self.head.forward, dynamic=True)  # type: ignore[method-assign]

    def hidden(self, input_ids_BT: Tensor, doc_lengths_BD: Tensor, attention: str) -> Tensor:
        """Final hidden states [N, C] of the flattened batch, including padding."""
        plans = self._plan(input_ids_BT, doc_lengths_BD, attention)
        x_NC = self.model.embeddings(input_ids_BT.flatten())
        for layer in self.model.layers:
            plan = plans[0 if layer.is_global else 1]
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x_NC = checkpoint(layer, x_NC, plan, use_reentrant=False)
            else:
                x_NC = layer(x_NC, plan)
        return self.model.final_norm(x_NC)

    def forward(
        self,
        input_ids_BT: Tensor,
        doc_lengths_BD: Tensor,
        labels_BT: Tensor,
        attention: str,
        supervised_at_M: Tensor | None = None,
    ) -> LossSum:
        """Cross-entropy summed over the supervised positions; logits are computed at these positions only.

        Args:
            input_ids_BT: Input tokens.
            doc_lengths_BD: Tokens per document of each row.
            labels_BT: Target of each position, or IGNORE.
            attention: "bidirectional" or "causal".
            supervised_at_M: `target_positions` of the labels. If None they are computed here, which synchronizes with the
                device.
        """
        x_NC = self.hidden(input_ids_BT, doc_lengths_BD, attention)
        at_M = target_positions(labels_BT) if supervised_at_M is None else supervised_at_M
        target_M = labels_BT.flatten()[at_M]
        loss = linear_cross_entropy(self.head(x_NC[at_M]), self.decoder.weight, self.decoder.bias, target_M)
        # created on the device, to avoid a synchronizing copy
        return LossSum(total=loss, supervised=torch.full((), len(at_M), dtype=torch.int64, device=loss.device))

    def logits(self, input_ids_BT: Tensor, doc_lengths_BD: Tensor, attention: str) -> Tensor:
        """All logits [B, T, V], for inspection and export checks; not used in training."""
        x_NC = self.hidden(input_ids_BT, doc_lengths_BD, attention)
        return self.decoder(self.head(x_NC)).unflatten(0, input_ids_BT.shape)

    def _plan(self, input_ids_BT: Tensor, doc_lengths_BD: Tensor, attention: str) -> tuple[LayerPlan, LayerPlan]:
        device = input_ids_BT.device.type
        weight = self.decoder.weight
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        packing = Packing.of(doc_lengths_BD, input_ids_BT.shape[1])
        for_global, for_local = rules(self.arch, attention)

        def plan(rule: Rule, theta: float) -> LayerPlan:
            cos, sin = rotary_table(packing.position_N, head_dim=self.arch.head_dim, theta=theta, dtype=dtype)
            return LayerPlan(cos=cos, sin=sin, attend=self.backend(packing, rule, dtype))

        return plan(for_global, self.arch.global_rope_theta), plan(for_local, self.arch.local_rope_theta)
