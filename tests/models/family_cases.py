"""Tiny models of Hugging Face for every registered family: what tests/models/test_families.py holds the families against.

A new family adds its cases here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    CamembertConfig,
    CamembertForCausalLM,
    CamembertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForCausalLM,
    XLMRobertaForMaskedLM,
)

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tiny model.

    Attributes:
        family: Registered name.
        config: Its config.
        bidirectional: Class with a masked-language-modeling head, or None.
        causal: The same weights with causal attention, or None.
        limit: Most tokens of a document.
    """

    family: str
    config: Callable[[], PretrainedConfig]
    bidirectional: Callable[[PretrainedConfig], PreTrainedModel] | None
    causal: Callable[[PretrainedConfig], PreTrainedModel] | None
    limit: int

    def model(self, attention: str) -> PreTrainedModel:
        """The reference with sharp attention and no zero bias, so that a wrong mask, position or bias shows."""
        made = self.causal(self.config()) if attention == "causal" else self.bidirectional(self.config())  # type: ignore[misc]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in made.parameters():
                spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
                centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
                parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
        made.tie_weights()
        return made.eval()

    @property
    def attentions(self) -> list[str]:
        """Under which attentions there is a reference."""
        return [name for name, cls in (("bidirectional", self.bidirectional), ("causal", self.causal)) if cls]


def _decoder(cls: type[PreTrainedModel]) -> Callable[[PretrainedConfig], PreTrainedModel]:
    """The causal reference of a BERT: the class for generation, with the run-time flag."""

    def make(config: PretrainedConfig) -> PreTrainedModel:
        config.is_decoder, config.use_cache = True, False
        return cls(config)

    return make


def _bert(config: type[PretrainedConfig], masked: Any, causal: Any, **changes: Any) -> Case:
    values = {**SHAPE, "max_position_embeddings": 40, "pad_token_id": 0, **changes}
    offset = 0 if config is BertConfig else values["pad_token_id"] + 1
    return Case(
        family="bert",
        config=lambda: config(**values),
        bidirectional=masked,
        causal=_decoder(causal),
        limit=values["max_position_embeddings"] - offset,
    )


_LLAMA = {**SHAPE, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 40, "pad_token_id": 0,
          "use_cache": False, "rope_theta": 500.0}  # fmt: skip


def _llama(config: type[PretrainedConfig], causal: Any, **changes: Any) -> Case:
    values = {**_LLAMA, **changes}

    class Bidirectional(causal):  # the decoder's class with a mask that shows everything
        def forward(self, input_ids=None, **kwargs):
            length = input_ids.shape[1]
            return super().forward(input_ids=input_ids, attention_mask=torch.zeros(len(input_ids), 1, length, length))

    return Case(family="llama", config=lambda: config(**values), bidirectional=Bidirectional, causal=causal, limit=40)


_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10, "beta_fast": 3.0, "beta_slow": 0.1}
_MODERN = {**SHAPE, "local_attention": 16, "max_position_embeddings": 40, "pad_token_id": 0, "reference_compile": False}
CASES = {
    "modernbert": Case(
        family="modernbert",
        config=lambda: ModernBertConfig(**_MODERN, global_rope_theta=5000.0, local_rope_theta=300.0),
        bidirectional=ModernBertForMaskedLM,
        causal=None,  # another class, with a narrower window: the next case
        limit=40,
    ),
    "modernbert-decoder": Case(
        family="modernbert",
        config=lambda: ModernBertDecoderConfig(**_MODERN, global_rope_theta=5000.0, use_cache=False),
        bidirectional=None,
        causal=ModernBertDecoderForCausalLM,
        limit=40,
    ),
    "bert": _bert(BertConfig, BertForMaskedLM, BertLMHeadModel, layer_norm_eps=1e-3),
    "bert, tanh": _bert(BertConfig, BertForMaskedLM, BertLMHeadModel, hidden_act="gelu_new", num_attention_heads=4),
    "bert, relu": _bert(BertConfig, BertForMaskedLM, BertLMHeadModel, hidden_act="relu", num_hidden_layers=1),
    "roberta": _bert(RobertaConfig, RobertaForMaskedLM, RobertaForCausalLM, pad_token_id=1, type_vocab_size=1),
    "roberta, pad 0": _bert(RobertaConfig, RobertaForMaskedLM, RobertaForCausalLM, type_vocab_size=1),
    "roberta, relu": _bert(RobertaConfig, RobertaForMaskedLM, RobertaForCausalLM, hidden_act="relu", pad_token_id=1),
    "camembert": _bert(CamembertConfig, CamembertForMaskedLM, CamembertForCausalLM, pad_token_id=1, type_vocab_size=1),
    "xlm-roberta": _bert(
        XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaForCausalLM, pad_token_id=1, type_vocab_size=1
    ),
    "llama": _llama(LlamaConfig, LlamaForCausalLM, rope_scaling=_LLAMA3),
    "llama, biases": _llama(
        LlamaConfig, LlamaForCausalLM, attention_bias=True, mlp_bias=True, head_dim=12, rope_scaling=_YARN
    ),
    "llama, linear": _llama(
        LlamaConfig,
        LlamaForCausalLM,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        rms_norm_eps=1e-3,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
    ),
    "qwen2": _llama(Qwen2Config, Qwen2ForCausalLM, tie_word_embeddings=True),
    "qwen3": _llama(Qwen3Config, Qwen3ForCausalLM, head_dim=16, rope_scaling={**_YARN, "attention_factor": 0.8}),
    "smollm3": _llama(SmolLM3Config, SmolLM3ForCausalLM, num_hidden_layers=4),
}
if hasattr(transformers, "EuroBertConfig"):  # transformers 5
    CASES["eurobert"] = Case(
        family="llama",
        config=lambda: transformers.EuroBertConfig(**_LLAMA),
        bidirectional=transformers.EuroBertForMaskedLM,
        causal=None,
        limit=40,
    )
