"""What the model families share of an architecture, without importing torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from detour.attention_rule import Rule
from detour.errors import ConfigError

MOST = {  # upper bounds that catch typing errors before memory is allocated
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 10,
    "max_position_embeddings": 1 << 24,
}


@dataclass(frozen=True)
class Rotary:
    """A rotary position embedding (arXiv 2104.09864).

    Attributes:
        head_dim: Width of an attention head, all of which is rotated.
        theta: Base of the frequencies.
        scaling: How the frequencies are changed for longer documents: Hugging Face's ``rope_scaling`` as sorted pairs,
            ``rope_type`` among them; empty for not at all.
    """

    head_dim: int
    theta: float
    scaling: tuple[tuple[str, float | str], ...] = ()

    @classmethod
    def of(cls, head_dim: int, theta: float, scaling: Mapping[str, Any] | None) -> Rotary:
        """The same from a scaling as a mapping, or None."""
        return cls(head_dim, theta, tuple(sorted((scaling or {}).items())))


class LayerRule(NamedTuple):
    """What a layer is told besides its weights. Layers with equal rules share masks and rotary tables."""

    attention: Rule
    rotary: Rotary | None


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """Hyperparameters of a model. Each family has its own subclass, with fields named as in Hugging Face's config.

    Attributes:
        vocab_size: Number of token ids, V.
        hidden_size: Hidden width, C.
        intermediate_size: Width inside the feed-forward layers.
        num_hidden_layers: Number of layers, L.
        num_attention_heads: Number of attention heads, H.
    """

    family: ClassVar[str]  # its name in `detour.models.families`
    # fields that a start model may have otherwise: they do not give the weights their meaning
    free: ClassVar[frozenset[str]] = frozenset({"initializer_range"})

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def tied(self) -> bool:
        """Whether the vocabulary projection is the embedding."""
        return True

    @property
    @abstractmethod
    def has_decoder_bias(self) -> bool:
        """Whether the vocabulary projection has a bias."""

    @property
    @abstractmethod
    def longest_document(self) -> int:
        """Most tokens that a document may have."""

    @property
    def required_pad_id(self) -> int | None:
        """The padding id that the tokenizer must have, because positions depend on it; None for any."""
        return None

    @abstractmethod
    def layer_rules(self, attention: str) -> list[LayerRule]:
        """The rule of each layer. Raises ConfigError for an ``attention`` that `Rule.of` does not know."""

    def with_rope(
        self, *, theta: float | None = None, local_theta: float | None = None, scaling: Mapping[str, Any] | None = None
    ) -> Architecture:
        """The same with other rotary positions.

        Args:
            theta: Base in layers that attend to the whole document; None leaves it.
            local_theta: Base in layers with a window; None leaves it.
            scaling: Scaling in layers that attend to the whole document (`detour.models.rope_scaling`), the rope_type
                "default" for none; None leaves it.

        Raises:
            ConfigError: The family has no such base or scaling, or a number is out of range.
        """
        if theta is None and local_theta is None and scaling is None:
            return self
        raise ConfigError(f"models of the family {self.family} have no rotary positions that could be set")

    @property
    @abstractmethod
    def layer_weights(self) -> int:
        """Number of weights in a layer's matrices."""

    @property
    @abstractmethod
    def head_weights(self) -> int:
        """Number of weights in the head's matrices, without the vocabulary projection."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters; tied weights count once."""

    @abstractmethod
    def saved_bytes(self, precision: str) -> int:
        """Bytes that autograd saves for the backward pass per token and layer. ``precision`` is "fp32" or "bf16"."""

    def _check(
        self, *, most: Mapping[str, int] = MOST, fractions: Iterable[str] = (), positive: Iterable[str] = ()
    ) -> None:
        """Raises ConfigError for a field outside its range."""
        for name, high in most.items():
            if not 1 <= getattr(self, name) <= high:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected 1 to {high:,}")
        for name in fractions:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected a fraction in [0, 1)")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"architecture: {name} is {getattr(self, name)}, expected a number above 0")
