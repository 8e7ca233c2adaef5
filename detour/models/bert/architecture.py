"""Hyperparameters of BERT, RoBERTa, CamemBERT, and XLM-RoBERTa, and the published sizes by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from detour.attention_rule import Rule
from detour.errors import ConfigError
from detour.models.architecture import MOST, Architecture, LayerRule
from detour.models.family import Family

ModelType = Literal["bert", "roberta", "camembert", "xlm-roberta"]
Activation = Literal["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"]


@dataclass(frozen=True, kw_only=True)
class BertArchitecture(Architecture):
    """Hyperparameters of a BERT (arXiv 1810.04805) or RoBERTa (arXiv 1907.11692), named as in Hugging Face's `BertConfig`.

    Attributes:
        model_type: Which of Hugging Face's classes it is: the names of the weights, and the activation of the head.
        max_position_embeddings: Rows of the position embedding.
        first_position: Row of a document's first token: 0 in BERT, pad_token_id + 1 in the others. A document has at most
            max_position_embeddings - first_position tokens.
        type_vocab_size: Rows of the token-type embedding. Every token has type 0.
        hidden_act: Activation inside the layers; "gelu_new", "gelu_fast" and "gelu_pytorch_tanh" are the same.
    """

    family: ClassVar[str] = "bert"
    free: ClassVar[frozenset[str]] = frozenset({
        "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range",
    })  # fmt: skip

    model_type: ModelType = "bert"
    max_position_embeddings: int = 512
    first_position: int = 0
    type_vocab_size: int = 2
    hidden_act: Activation = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self._check(
            most={**MOST, "type_vocab_size": 1 << 10},
            fractions=("hidden_dropout_prob", "attention_probs_dropout_prob"),
            positive=("initializer_range", "layer_norm_eps"),
        )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"architecture: hidden_size {self.hidden_size} over num_attention_heads {self.num_attention_heads} "
                "must be an integer (the head width)"
            )
        if (self.first_position == 0) != (self.model_type == "bert") or self.first_position < 0:
            expected = "0" if self.model_type == "bert" else "pad_token_id + 1, at least 1"
            raise ConfigError(
                f"architecture: first_position is {self.first_position}, expected {expected} with model_type "
                f"'{self.model_type}'"
            )
        if self.longest_document < 1:
            raise ConfigError(
                f"architecture: first_position {self.first_position} leaves no position of max_position_embeddings "
                f"{self.max_position_embeddings}"
            )

    @property
    def has_decoder_bias(self) -> bool:
        return True

    @property
    def longest_document(self) -> int:
        return self.max_position_embeddings - self.first_position

    @property
    def required_pad_id(self) -> int | None:
        return None if self.model_type == "bert" else self.first_position - 1

    def layer_rules(self, attention: str) -> list[LayerRule]:
        return [LayerRule(Rule.of(attention), None)] * self.num_hidden_layers

    @property
    def layer_weights(self) -> int:
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size

    @property
    def head_weights(self) -> int:
        return self.hidden_size**2

    @property
    def parameters(self) -> int:
        H, I, L, V = self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.vocab_size
        embeddings = (V + self.max_position_embeddings + self.type_vocab_size + 2) * H
        biases_and_norms = L * (9 * H + I) + 3 * H + V
        return embeddings + L * self.layer_weights + self.head_weights + biases_and_norms

    def saved_bytes(self, precision: str) -> int:
        hidden, inner = {"fp32": (38, 8), "bf16": (26, 5)}[precision]
        return hidden * self.hidden_size + inner * self.intermediate_size


def _size(layers: int, hidden: int, heads: int, vocab: int) -> BertArchitecture:
    return BertArchitecture(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )


def _roberta(arch: BertArchitecture, model_type: ModelType, *, limit: int = 512, pad: int = 1, eps: float = 1e-5):
    return replace(
        arch,
        model_type=model_type,
        max_position_embeddings=limit + pad + 1,
        first_position=pad + 1,
        type_vocab_size=1,
        layer_norm_eps=eps,
    )


FAMILY = Family(
    name="bert",
    architecture=BertArchitecture,
    sizes={
        "tiny-roberta": _roberta(_size(4, 128, 2, 4096), "roberta", limit=256, pad=0),  # used by the demo
        "bert-base": _size(12, 768, 12, 30_522),  # PubMedBERT too; BioBERT with vocab_size 28996
        "bert-large": _size(24, 1024, 16, 30_522),
        "roberta-base": _roberta(_size(12, 768, 12, 50_265), "roberta"),
        "roberta-large": _roberta(_size(24, 1024, 16, 50_265), "roberta"),
        "camembert-base": _roberta(_size(12, 768, 12, 32_005), "camembert"),
        "camembertv2-base": _roberta(_size(12, 768, 12, 32_768), "roberta", limit=1024, pad=0, eps=1e-7),
        "xlm-roberta-base": _roberta(_size(12, 768, 12, 250_002), "xlm-roberta"),
        "xlm-roberta-large": _roberta(_size(24, 1024, 16, 250_002), "xlm-roberta"),
    },
    model_types=("bert", "roberta", "camembert", "xlm-roberta"),
    modules_in="detour.models.bert.modules",
    format_in="detour.models.bert.hf",
)
