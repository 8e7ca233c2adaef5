"""Hyperparameters of ModernBERT, and the published sizes by name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from detour.errors import ConfigError
from detour.options import parse
from detour.registry import suggestion

MOST = {  # upper bounds that catch typing errors before memory is allocated
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 10,
    "global_attn_every_n_layers": 1 << 20,
    "local_attention": 1 << 24,
    "max_position_embeddings": 1 << 24,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Hyperparameters of a ModernBERT (arXiv 2412.13663), named as in Hugging Face's `ModernBertConfig`.

    Attributes:
        local_attention: Width of the sliding window of local layers: local_attention // 2 tokens on either side.
        global_attn_every_n_layers: Layers 0, n, 2n, ... attend globally, the others locally.
        causal_left_window: Keys to the left of a token, excluding the token itself, that a local layer sees under causal
            attention. None means local_attention // 2, as with FlashAttention's causal flag; Hugging Face's
            `ModernBertDecoder` uses one less.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    causal_left_window: int | None = None
    global_rope_theta: float = 160_000.0
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
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected 1 to {most:,}")
        for name in ("embedding_dropout", "attention_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected a fraction in [0, 1)")
        for name in (
            "initializer_range",
            "initializer_cutoff_factor",
            "norm_eps",
            "global_rope_theta",
            "local_rope_theta",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected a number above 0")
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ConfigError(
                f"architecture: hidden_size {self.hidden_size} over num_attention_heads {self.num_attention_heads} "
                "must be an even integer (the head width)"
            )
        if not 0 <= self.causal_left <= self.local_attention:
            raise ConfigError(
                f"architecture: causal_left_window {self.causal_left} must be in [0, {self.local_attention}]"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

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
    def global_layers(self) -> int:
        """Number of layers that attend to the whole document."""
        return sum(self.is_global(layer) for layer in range(self.num_hidden_layers))


def _size(layers: int, hidden: int, intermediate: int, heads: int, vocab: int = 50_368) -> Architecture:
    return Architecture(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )


SIZES: dict[str, Architecture] = {
    "tiny": _size(4, 128, 192, 2, vocab=4096),  # used by the demo; trains in minutes on a laptop
    "ettin-17m": _size(7, 256, 384, 4),
    "ettin-32m": _size(10, 384, 576, 6),
    "ettin-68m": _size(19, 512, 768, 8),
    "modernbert-base": _size(22, 768, 1152, 12),
    "modernbert-large": _size(28, 1024, 2624, 16),
    "moderncamembert-base": _size(22, 768, 1152, 12, vocab=32_768),
    "moderncamembert-large": _size(28, 1024, 2624, 16, vocab=32_768),
}


def architecture(size: str, overrides: dict[str, Any] | None = None) -> Architecture:
    """The architecture of a published size, with some fields overridden.

    Raises:
        ConfigError: A size or field is unknown, or a value has the wrong type. The message suggests the nearest name.
    """
    if size not in SIZES:
        raise ConfigError(f"model.size: no '{size}'{suggestion(size, SIZES)}; known: {', '.join(SIZES)}")
    values = {**asdict(SIZES[size]), **(overrides or {})}
    return parse(Architecture, values, prefix="model.architecture")
