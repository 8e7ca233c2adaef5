"""Hyperparameters of ModernBERT, and the published sizes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from detour.attention_rule import Rule
from detour.errors import ConfigError
from detour.models.architecture import MOST, Architecture, LayerRule, Rotary
from detour.models.family import Family
from detour.models.rope_scaling import checked_scaling


@dataclass(frozen=True, kw_only=True)
class ModernBertArchitecture(Architecture):
    """Hyperparameters of a ModernBERT (arXiv 2412.13663), named as in Hugging Face's `ModernBertConfig`.

    Attributes:
        local_attention: Width of the sliding window of local layers: local_attention // 2 tokens on either side.
        global_attn_every_n_layers: Layers 0, n, 2n, ... attend globally, the others locally.
        causal_left_window: Keys to the left of a token, excluding the token itself, that a local layer sees under causal
            attention. None means local_attention // 2, as with FlashAttention's causal flag; Hugging Face's
            `ModernBertDecoder` uses one less.
        global_rope_scaling: Scaling of the rotary embedding of global layers for longer documents: rope_type "linear",
            "llama3", or "yarn", with its numbers as in Hugging Face's config; null for none. Only transformers 5 has it.
    """

    family: ClassVar[str] = "modernbert"
    free: ClassVar[frozenset[str]] = frozenset({
        "embedding_dropout", "attention_dropout", "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
        "max_position_embeddings", "causal_left_window",
    })  # fmt: skip

    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    causal_left_window: int | None = None
    global_rope_theta: float = 160_000.0
    global_rope_scaling: dict[str, Any] | None = None
    local_rope_theta: float = 10_000.0
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    classifier_bias: bool = False
    decoder_bias: bool = True
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_cutoff_factor: float = 2.0

    def __post_init__(self) -> None:
        self._check(
            most={**MOST, "global_attn_every_n_layers": 1 << 20, "local_attention": 1 << 24},
            fractions=("embedding_dropout", "attention_dropout", "mlp_dropout"),
            positive=(
                "initializer_range",
                "initializer_cutoff_factor",
                "norm_eps",
                "global_rope_theta",
                "local_rope_theta",
            ),
        )
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ConfigError(
                f"architecture: hidden_size {self.hidden_size} over num_attention_heads {self.num_attention_heads} "
                "must be an even integer (the head width)"
            )
        if not 0 <= self.causal_left <= self.local_attention:
            raise ConfigError(
                f"architecture: causal_left_window {self.causal_left} must be in [0, {self.local_attention}]"
            )
        scaling = checked_scaling(self.global_rope_scaling, "architecture: global_rope_scaling")
        object.__setattr__(self, "global_rope_scaling", scaling)

    @property
    def side_window(self) -> int:
        """Keys on either side of a token that a local layer sees under bidirectional attention."""
        return self.local_attention // 2

    @property
    def causal_left(self) -> int:
        """Keys to the left of a token that a local layer sees under causal attention."""
        return self.side_window if self.causal_left_window is None else self.causal_left_window

    def is_global(self, layer: int) -> bool:
        """Whether a layer attends to the whole document."""
        return layer % self.global_attn_every_n_layers == 0

    @property
    def has_decoder_bias(self) -> bool:
        return self.decoder_bias

    @property
    def longest_document(self) -> int:
        return self.max_position_embeddings

    def layer_rules(self, attention: str) -> list[LayerRule]:
        rule = Rule.of(attention)
        left = self.causal_left if rule == Rule(causal=True) else self.side_window
        everywhere = LayerRule(rule, Rotary.of(self.head_dim, self.global_rope_theta, self.global_rope_scaling))
        nearby = LayerRule(rule.within(left, self.side_window), Rotary(self.head_dim, self.local_rope_theta))
        return [everywhere if self.is_global(layer) else nearby for layer in range(self.num_hidden_layers)]

    def with_rope(
        self, *, theta: float | None = None, local_theta: float | None = None, scaling: Mapping[str, Any] | None = None
    ) -> ModernBertArchitecture:
        return replace(
            self,
            global_rope_theta=self.global_rope_theta if theta is None else theta,
            local_rope_theta=self.local_rope_theta if local_theta is None else local_theta,
            global_rope_scaling=self.global_rope_scaling if scaling is None else dict(scaling),
        )

    @property
    def layer_weights(self) -> int:
        return 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size

    @property
    def head_weights(self) -> int:
        return self.hidden_size**2

    @property
    def parameters(self) -> int:
        H, I, L, V = self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.vocab_size
        norms = (2 * L + 2) * H * (1 + self.norm_bias)
        biases = L * (4 * H * self.attention_bias + (2 * I + H) * self.mlp_bias) + H * self.classifier_bias
        return L * self.layer_weights + self.head_weights + V * H + norms + biases + V * self.decoder_bias

    def saved_bytes(self, precision: str) -> int:
        hidden, gated = {"fp32": (44, 16), "bf16": (27, 8)}[precision]
        return hidden * self.hidden_size + gated * self.intermediate_size


def _size(layers: int, hidden: int, intermediate: int, heads: int, vocab: int = 50_368) -> ModernBertArchitecture:
    return ModernBertArchitecture(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )


FAMILY = Family(
    name="modernbert",
    architecture=ModernBertArchitecture,
    sizes={
        "tiny": _size(4, 128, 192, 2, vocab=4096),  # used by the demo; trains in minutes on a laptop
        "ettin-17m": _size(7, 256, 384, 4),
        "ettin-32m": _size(10, 384, 576, 6),
        "ettin-68m": _size(19, 512, 768, 8),
        "modernbert-base": _size(22, 768, 1152, 12),
        "modernbert-large": _size(28, 1024, 2624, 16),
        "moderncamembert-base": _size(22, 768, 1152, 12, vocab=32_768),
        "moderncamembert-large": _size(28, 1024, 2624, 16, vocab=32_768),
    },
    model_types=("modernbert", "modernbert-decoder"),
    modules_in="detour.models.modernbert.modules",
    format_in="detour.models.modernbert.hf",
)
