"""What the layers of all families are made of: the attention, the part around it, and the plan of a forward pass.

Parameters have the same names in every family, so that freezing, transplants and weight changes address them alike;
each family's `Format` translates them to and from Hugging Face's. Shapes: see `detour.batch`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from detour.models.attention import Attend
from detour.models.rope import rotate


@dataclass(frozen=True)
class LayerPlan:
    """Rotary table and attention function shared by all layers with the same rule in one forward pass.

    Attributes:
        cos: Cosines, or None if positions are not rotary.
        sin: Sines, likewise.
        attend: The attention kernel, with the masks of this batch.
    """

    cos: Tensor | None
    sin: Tensor | None
    attend: Attend


class HeadNorm(nn.RMSNorm):
    """RMSNorm in fp32 of an input of any type; under autocast torch's own warns of a bf16 input beside fp32 weights."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention of every family. The attention rule is an argument of the forward pass, not a part of it.

    Args:
        width: Hidden width, C.
        heads: Number of query heads, H.
        head_dim: Width of a head, d.
        kv_heads: Number of heads of keys and values, a divisor of ``heads``; None for as many.
        qk_norm_eps: Epsilon of an RMSNorm of queries and keys per head; None for no norm.
        bias: Whether the query, key and value projections have a bias.
        out_bias: Whether the output projection has one; None for as ``bias``.
        dropout: Of the attention probabilities.
        out_dropout: Of the output.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_dim: int,
        kv_heads: int | None = None,
        bias: bool,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        qk_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout
        self.kv_heads = heads if kv_heads is None else kv_heads
        self.Wqkv = nn.Linear(width, (heads + 2 * self.kv_heads) * head_dim, bias=bias)
        self.Wo = nn.Linear(heads * head_dim, width, bias=bias if out_bias is None else out_bias)
        self.out_drop = nn.Dropout(out_dropout)
        normed = qk_norm_eps is not None
        self.q_norm = HeadNorm(head_dim, eps=qk_norm_eps) if normed else nn.Identity()
        self.k_norm = HeadNorm(head_dim, eps=qk_norm_eps) if normed else nn.Identity()
        self.alike = self.kv_heads == heads and not normed  # queries and keys can be rotated together

    def project(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [N, H, d]; queries and keys are rotated if there is a table.

        Keys and values with fewer heads are repeated. Cost: memory for the copies.
        """
        if not self.alike:
            return self._project_groups(x_NC, cos, sin)
        qkv_N3Hd = self.Wqkv(x_NC).unflatten(-1, (3, self.heads, self.head_dim))
        if cos is None or sin is None:
            q_NHd, k_NHd, v_NHd = qkv_N3Hd.unbind(1)
            return q_NHd, k_NHd, v_NHd
        qk_N2Hd, v_N1Hd = qkv_N3Hd.split([2, 1], dim=1)
        q_NHd, k_NHd = rotate(qk_N2Hd, cos, sin).unbind(1)
        return q_NHd, k_NHd, v_N1Hd[:, 0]

    def _project_groups(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.Wqkv(x_NC).unflatten(-1, (-1, self.head_dim))
        q_NHd, k_NGd, v_NGd = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q_NHd, k_NGd = self.q_norm(q_NHd), self.k_norm(k_NGd)
        if cos is not None and sin is not None:
            q_NHd, k_NGd = rotate(q_NHd[:, None], cos, sin)[:, 0], rotate(k_NGd[:, None], cos, sin)[:, 0]
        group = self.heads // self.kv_heads
        return q_NHd, k_NGd.repeat_interleave(group, dim=1), v_NGd.repeat_interleave(group, dim=1)

    def merge(self, o_NHd: Tensor) -> Tensor:
        """Output projection of the attention output, [N, C]."""
        return self.out_drop(self.Wo(o_NHd.flatten(1)))


class Layer(nn.Module, ABC):
    """A transformer layer. The parts before and after the attention kernel are methods, compiled separately."""

    attn: Attention

    @abstractmethod
    def before_attention(self, x_NC: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [N, H, d]."""

    @abstractmethod
    def after_attention(self, x_NC: Tensor, o_NHd: Tensor) -> Tensor:
        """The layer's output [N, C] from its input and the attention output."""

    def forward(self, x_NC: Tensor, plan: LayerPlan) -> Tensor:
        q_NHd, k_NHd, v_NHd = self.before_attention(x_NC, plan.cos, plan.sin)
        o_NHd = plan.attend(q_NHd, k_NHd, v_NHd, self.attn.dropout if self.training else 0.0)
        return self.after_attention(x_NC, o_NHd)


class BaseTrunk(nn.Module):
    """The embeddings, layers and final norm of a family.

    Attributes:
        embeddings: From ids [N] and positions [N] to [N, C]; has the token embedding as ``tok_embeddings``.
        layers: Each a `Layer`.
        final_norm: From [N, C] to [N, C].
    """

    embeddings: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module
