"""Folders of BERT, RoBERTa, CamemBERT, and XLM-RoBERTa of Hugging Face: names of weights, keys of config.json."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    CamembertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from detour.errors import ConfigError, ModelError
from detour.models.bert.architecture import Activation, BertArchitecture
from detour.models.hf_config import ConfigKeys
from detour.models.hf_format import Format, Uses, join, token_ids

_ACTIVATIONS = get_args(Activation)
_CLASSES: dict[str, tuple[type[PretrainedConfig], str]] = {
    "bert": (BertConfig, "BertForMaskedLM"),
    "roberta": (RobertaConfig, "RobertaForMaskedLM"),
    "camembert": (CamembertConfig, "CamembertForMaskedLM"),
    "xlm-roberta": (XLMRobertaConfig, "XLMRobertaForMaskedLM"),
}
_TITLES = {"bert": "BERT", "roberta": "RoBERTa", "camembert": "CamemBERT", "xlm-roberta": "XLM-RoBERTa"}
_NAMES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "initializer_range",
)  # fmt: skip
_DEFAULTS = {  # of transformers' config classes, for keys that a file leaves out
    "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip
_NO_EFFECT = frozenset({  # in published configs; read by none of the four classes
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type", "output_past", "embedding_size", "cross_attention_hidden_size", "model_name", "position_biased_input",
})  # fmt: skip
_TRUNK = {  # the encoder's names under "model." -> the trunk's
    "embeddings.tok_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.token_type_embeddings": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
_LAYER = {  # the encoder's names under "model.layers.<i>." -> those under "encoder.layer.<i>."
    "attn.query": "attention.self.query",
    "attn.key": "attention.self.key",
    "attn.value": "attention.self.value",
    "attn.Wo": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "mlp.Wi": "intermediate.dense",
    "mlp.Wo": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_HEADS = {  # by the trunk's prefix: the head's names
    "bert.": {
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder",
    },
    "roberta.": {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm", "decoder": "lm_head.decoder"},
}
_BIASES = {"bert.": "cls.predictions.bias", "roberta.": "lm_head.bias"}  # stored in place of the decoder's
# not part of the language model: trained by next-sentence prediction or fine-tuning, or buffers of old versions
_LEFT_OUT = re.compile(
    r"(bert\.|roberta\.)?pooler\.|cls\.seq_relationship\.|.*embeddings\.(position_ids|token_type_ids)$"
)
_OLD = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))  # of models converted in 2018
_FROM_TRUNK = {theirs: f"model.{ours}" for ours, theirs in _TRUNK.items()}
_FROM_LAYER = {theirs: ours for ours, theirs in _LAYER.items()}
_FROM_HEAD = {theirs: ours for table in _HEADS.values() for ours, theirs in table.items()}


class BertFormat(Format):
    """Folders of the four classes with a masked-language-modeling head, or of their trunks.

    Read as well: `BertForPreTraining`, and causal models (``is_decoder``), whose weights are the same. What is not part of
    the language model, the pooler above all, is neither read nor written.
    """

    keys = ConfigKeys(
        names=_NAMES,
        also_read=frozenset({"is_decoder"}),  # an objective decides on the attention; an export is an encoder
        only={"position_embedding_type": "absolute", "tie_word_embeddings": True},
        no_effect=_NO_EFFECT,
    )
    uses = Uses(drawn_anew=("classifier.", "pooler.", "bert.pooler.", "roberta.pooler."))

    def read(self, path: Path, config: Mapping[str, Any], *, ignore: Collection[str] = ()) -> BertArchitecture:
        self.keys.refuse(path, config, ignore)
        model_type = config["model_type"]
        first = 0
        if model_type != "bert":
            pad = config.get("pad_token_id", 1)
            if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
                raise ModelError(
                    f"{path}: pad_token_id is {pad!r}, expected an id; positions of {model_type} depend on it"
                )
            first = pad + 1
        values = {**_DEFAULTS, **self.keys.values(config)}
        if values["hidden_act"] not in _ACTIVATIONS:
            raise ModelError(
                f"{path}: hidden_act is {values['hidden_act']!r}, expected one of {', '.join(_ACTIVATIONS)}"
            )
        try:
            return BertArchitecture(**values, model_type=model_type, first_position=first)
        except (TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"{path}: {type(error).__name__}: {error}") from error

    def to_encoder(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        renamed: dict[str, Tensor] = {}
        biases: list[Tensor] = []
        for name, tensor in weights.items():
            for old, new in _OLD:
                name = name.replace(old, new)
            if _LEFT_OUT.match(name):
                continue
            if name in _BIASES.values() or name.endswith(("cls.predictions.decoder.bias", "lm_head.decoder.bias")):
                biases.append(tensor)
                continue
            renamed[_ours(name)] = tensor
        if biases:
            if not all(torch.equal(biases[0], other) for other in biases):
                raise ModelError("the two copies of the vocabulary projection's bias differ")
            renamed["decoder.bias"] = biases[0]
        join(renamed, parts=("attn.query", "attn.key", "attn.value"), into="attn.Wqkv")
        return renamed

    def to_folder(self, weights: Mapping[str, Tensor], arch: Any) -> dict[str, Tensor]:
        prefix = "bert." if arch.model_type == "bert" else "roberta."
        found: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            stem, kind = name.rsplit(".", 1)
            if name == "decoder.bias":
                found[_BIASES[prefix]] = tensor
            elif stem.endswith("attn.Wqkv"):
                for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    # a copy: safetensors refuses parts of one storage
                    found[f"{_theirs(stem.replace('Wqkv', part), prefix)}.{kind}"] = piece.clone()
            else:
                found[f"{_theirs(stem, prefix)}.{kind}"] = tensor
        return found

    def headline(self, arch: Any) -> str:
        return f"A bidirectional {_TITLES[arch.model_type]} encoder"

    def config(
        self, arch: Any, tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any] | None
    ) -> PretrainedConfig:
        if arch.required_pad_id not in (None, tokenizer.pad_token_id):
            raise ModelError(
                f"tokenizer: its padding id is {tokenizer.pad_token_id}, expected {arch.required_pad_id}, on which the "
                f"positions of {arch.model_type} depend"
            )
        cls, head_class = _CLASSES[arch.model_type]
        return cls(
            **{key: getattr(arch, key) for key in _NAMES},
            **token_ids(tokenizer, start or {}),
            architectures=[head_class],
            torch_dtype="float32",
        )

    def model_inputs(self, arch: Any) -> list[str]:
        types = ["token_type_ids"] if arch.type_vocab_size > 1 else []
        return ["input_ids", *types, "attention_mask"]


def _ours(name: str) -> str:
    """The encoder's name of a weight; one that is not known passes unchanged."""
    stem, _, kind = name.rpartition(".")
    if stem in _FROM_HEAD:
        return f"{_FROM_HEAD[stem]}.{kind}"
    trunk = stem.removeprefix("bert.").removeprefix("roberta.")
    if trunk in _FROM_TRUNK:
        return f"{_FROM_TRUNK[trunk]}.{kind}"
    found = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", trunk)
    if found and found[2] in _FROM_LAYER:
        return f"model.layers.{found[1]}.{_FROM_LAYER[found[2]]}.{kind}"
    return name


def _theirs(stem: str, prefix: str) -> str:
    """Hugging Face's name of a module of the encoder. ``prefix`` is "bert." or "roberta."."""
    if stem in _HEADS[prefix]:
        return _HEADS[prefix][stem]
    trunk = stem.removeprefix("model.")
    if trunk in _TRUNK:
        return prefix + _TRUNK[trunk]
    _, index, part = trunk.split(".", 2)
    return f"{prefix}encoder.layer.{index}.{_LAYER[part]}"


FORMAT = BertFormat()
