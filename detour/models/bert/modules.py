"""BERT and RoBERTa: post-norm layers and learned absolute positions, which start anew in each document of a packed row.

Numerics are those of Hugging Face's `BertForMaskedLM` and `RobertaForMaskedLM`. Shapes: see `detour.batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detour.models.bert.architecture import BertArchitecture
from detour.models.layers import Attention, BaseTrunk, Layer

_TANH = partial(F.gelu, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    "gelu_new": _TANH,
    "gelu_fast": _TANH,
    "gelu_pytorch_tanh": _TANH,
    "relu": F.relu,
}


class Embeddings(nn.Module):
    """Sum of token, token-type, and position embeddings, normalized. Every token has type 0."""

    def __init__(self, arch: BertArchitecture) -> None:
        super().__init__()
        self.first_position = arch.first_position
        self.tok_embeddings = nn.Embedding(arch.vocab_size, arch.hidden_size)
        self.position_embeddings = nn.Embedding(arch.max_position_embeddings, arch.hidden_size)
        self.token_type_embeddings = nn.Embedding(arch.type_vocab_size, arch.hidden_size)
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.layer_norm_eps)
        self.drop = nn.Dropout(arch.hidden_dropout_prob)

    def forward(self, ids_N: Tensor, position_N: Tensor) -> Tensor:
        x_NC = self.tok_embeddings(ids_N) + self.token_type_embeddings.weight[0]
        return self.drop(self.norm(x_NC + self.position_embeddings(position_N + self.first_position)))


class MLP(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, arch: BertArchitecture) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[arch.hidden_act]
        self.Wi = nn.Linear(arch.hidden_size, arch.intermediate_size)
        self.Wo = nn.Linear(arch.intermediate_size, arch.hidden_size)
        self.drop = nn.Dropout(arch.hidden_dropout_prob)

    def forward(self, x_NC: Tensor) -> Tensor:
        return self.drop(self.Wo(self.activation(self.Wi(x_NC))))


class BertLayer(Layer):
    """Post-norm transformer layer: each sum with the residual is normalized."""

    def __init__(self, arch: BertArchitecture) -> None:
        super().__init__()
        self.attn = Attention(
            arch.hidden_size,
            heads=arch.num_attention_heads,
            head_dim=arch.head_dim,
            bias=True,
            dropout=arch.attention_probs_dropout_prob,
            out_dropout=arch.hidden_dropout_prob,
        )
        self.attn_norm = nn.LayerNorm(arch.hidden_size, eps=arch.layer_norm_eps)
        self.mlp = MLP(arch)
        self.mlp_norm = nn.LayerNorm(arch.hidden_size, eps=arch.layer_norm_eps)

    def before_attention(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn.project(x_NC, cos, sin)

    def after_attention(self, x_NC: Tensor, o_NHd: Tensor) -> Tensor:
        x_NC = self.attn_norm(x_NC + self.attn.merge(o_NHd).to(x_NC.dtype))
        return self.mlp_norm(x_NC + self.mlp(x_NC).to(x_NC.dtype))


class Trunk(BaseTrunk):
    """Embeddings and layers; the last layer's norm is the final one."""

    def __init__(self, arch: BertArchitecture) -> None:
        super().__init__()
        self.embeddings = Embeddings(arch)
        self.layers = nn.ModuleList(BertLayer(arch) for _ in range(arch.num_hidden_layers))
        self.final_norm = nn.Identity()


class Head(nn.Module):
    """Transform before the vocabulary projection, shared by all objectives. RoBERTa's has GELU whatever its layers have."""

    def __init__(self, arch: BertArchitecture) -> None:
        super().__init__()
        self.dense = nn.Linear(arch.hidden_size, arch.hidden_size)
        self.activation = ACTIVATIONS[arch.hidden_act if arch.model_type == "bert" else "gelu"]
        self.norm = nn.LayerNorm(arch.hidden_size, eps=arch.layer_norm_eps)

    def forward(self, x_MC: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x_MC)))


@torch.no_grad()
def reset_parameters(encoder: nn.Module, arch: BertArchitecture) -> None:
    """Initializes the weights as BERT does: normal, biases zero."""
    for name, module in encoder.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and name != "decoder":  # tied to the embedding
            nn.init.normal_(module.weight, std=arch.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
