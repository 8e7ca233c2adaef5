"""Hyperparameters of Llama-like models, and some published sizes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from detour.attention_rule import Rule
from detour.errors import ConfigError
from detour.models.architecture import MOST, Architecture, LayerRule, Rotary
from detour.models.family import Family
from detour.models.rope_scaling import checked_scaling

ModelType = Literal["llama", "qwen2", "qwen3", "smollm3", "eurobert"]


@dataclass(frozen=True, kw_only=True)
class LlamaArchitecture(Architecture):
    """Hyperparameters of a Llama (arXiv 2407.21783) or EuroBERT (arXiv 2503.05500), named as in Hugging Face's `LlamaConfig`.

    Attributes:
        model_type: Which of Hugging Face's classes it is exported as.
        num_key_value_heads: Heads of keys and values, each shared by num_attention_heads / num_key_value_heads query
            heads (arXiv 2305.13245); 0 for as many as query heads.
        head_dim: Width of a head; 0 for hidden_size / num_attention_heads.
        rope_scaling: Scaling of the rotary embedding for longer documents: rope_type "linear", "llama3", or "yarn", with its
            numbers as in Hugging Face's config; null for none.
        no_rope_layer_interval: Each n-th layer has no positions (SmolLM3); 0 for none.
        attention_bias: Whether the query, key, and value projections have biases.
        output_bias: Whether the output projection of the attention has one.
        qk_norm: Whether queries and keys are normalized per head (Qwen3).
        tie_word_embeddings: Whether the vocabulary projection is the embedding.
    """

    family: ClassVar[str] = "llama"
    free: ClassVar[frozenset[str]] = frozenset({"attention_dropout", "initializer_range", "max_position_embeddings"})

    model_type: ModelType = "llama"
    num_key_value_heads: int = 0
    head_dim: int = 0  # type: ignore[assignment]
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    no_rope_layer_interval: int = 0
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tie_word_embeddings: bool = False
    attention_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self._check(
            most=MOST,
            fractions=("attention_dropout",),
            positive=("initializer_range", "rms_norm_eps", "rope_theta"),
        )
        heads = self.num_attention_heads
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", heads)
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden_size // heads)
        if self.num_key_value_heads < 1 or heads % self.num_key_value_heads:
            raise ConfigError(
                f"architecture: num_key_value_heads is {self.num_key_value_heads}, expected a divisor of {heads}"
            )
        if not 0 < self.head_dim <= MOST["hidden_size"] or self.head_dim % 2:
            raise ConfigError(f"architecture: head_dim is {self.head_dim}, expected an even number above 0")
        if self.no_rope_layer_interval < 0:
            raise ConfigError(
                f"architecture: no_rope_layer_interval is {self.no_rope_layer_interval}, expected 0 or more"
            )
        scaling = checked_scaling(self.rope_scaling, "architecture: rope_scaling")
        object.__setattr__(self, "rope_scaling", scaling)

    @property
    def tied(self) -> bool:
        return self.tie_word_embeddings

    @property
    def has_decoder_bias(self) -> bool:
        return False

    @property
    def longest_document(self) -> int:
        return self.max_position_embeddings

    def has_positions(self, layer: int) -> bool:
        """Whether a layer rotates its queries and keys."""
        every = self.no_rope_layer_interval
        return not every or (layer + 1) % every != 0

    def layer_rules(self, attention: str) -> list[LayerRule]:
        rule = Rule.of(attention)
        rotary = Rotary.of(self.head_dim, self.rope_theta, self.rope_scaling)
        layers = range(self.num_hidden_layers)
        return [LayerRule(rule, rotary if self.has_positions(layer) else None) for layer in layers]

    def with_rope(
        self, *, theta: float | None = None, local_theta: float | None = None, scaling: Mapping[str, Any] | None = None
    ) -> LlamaArchitecture:
        if local_theta is not None:
            raise ConfigError("models of the family llama have one rotary base, theta, and no local_theta")
        return replace(
            self,
            rope_theta=self.rope_theta if theta is None else theta,
            rope_scaling=self.rope_scaling if scaling is None else dict(scaling),
        )

    @property
    def layer_weights(self) -> int:
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        return heads * self.head_dim * self.hidden_size + 3 * self.hidden_size * self.intermediate_size

    @property
    def head_weights(self) -> int:
        return 0

    @property
    def parameters(self) -> int:
        H, I, L, V, d = self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.vocab_size, self.head_dim
        biases = (self.num_attention_heads + 2 * self.num_key_value_heads) * d * self.attention_bias
        biases += H * self.output_bias + (2 * I + H) * self.mlp_bias + 2 * d * self.qk_norm
        return L * (self.layer_weights + biases + 2 * H) + H + V * H * (1 if self.tied else 2)

    def saved_bytes(self, precision: str) -> int:
        hidden, keys, gated = {"fp32": (36, 16, 16), "bf16": (28, 9, 8)}[precision]
        width = max(self.hidden_size, self.num_attention_heads * self.head_dim)
        return hidden * width + keys * self.num_key_value_heads * self.head_dim + gated * self.intermediate_size


def _size(layers: int, hidden: int, inner: int, heads: tuple[int, int], vocab: int, **more: Any) -> LlamaArchitecture:
    return LlamaArchitecture(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        **more,
    )


_SMOLLM2: dict[str, Any] = {"max_position_embeddings": 8192, "rope_theta": 1e5, "rms_norm_eps": 1e-5,
                            "tie_word_embeddings": True}  # fmt: skip
_EUROBERT: dict[str, Any] = {"model_type": "eurobert", "max_position_embeddings": 8192, "rope_theta": 250_000.0,
                             "rms_norm_eps": 1e-5}  # fmt: skip
FAMILY = Family(
    name="llama",
    architecture=LlamaArchitecture,
    sizes={
        "tiny-llama": _size(4, 128, 256, (4, 2), 4096, tie_word_embeddings=True),  # used by the demo
        "eurobert-210m": _size(12, 768, 3072, (12, 12), 128_256, **_EUROBERT),
        "smollm2-135m": _size(30, 576, 1536, (9, 3), 49_152, **_SMOLLM2),
        "smollm2-360m": _size(32, 960, 2560, (15, 5), 49_152, **_SMOLLM2),
    },
    model_types=("llama", "qwen2", "qwen3", "smollm3", "eurobert"),
    modules_in="detour.models.llama.modules",
    format_in="detour.models.llama.hf",
)
