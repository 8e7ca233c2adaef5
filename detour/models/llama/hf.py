"""Folders of Llama, Qwen2, Qwen3, SmolLM3, and EuroBERT of Hugging Face: names of weights, keys of config.json."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor
from transformers import (
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.smollm3.configuration_smollm3 import SmolLM3Config

from detour.errors import ConfigError, ModelError
from detour.models.hf_config import ConfigKeys
from detour.models.hf_format import Format, Uses, join, token_ids
from detour.models.llama.architecture import LlamaArchitecture
from detour.models.rope_scaling import scaling_in

_CLASSES: dict[str, tuple[type[PretrainedConfig], str]] = {
    "llama": (LlamaConfig, "LlamaForCausalLM"),
    "qwen2": (Qwen2Config, "Qwen2ForCausalLM"),
    "qwen3": (Qwen3Config, "Qwen3ForCausalLM"),
    "smollm3": (SmolLM3Config, "SmolLM3ForCausalLM"),
}
if hasattr(transformers, "EuroBertConfig"):  # transformers 5
    _CLASSES["eurobert"] = (transformers.EuroBertConfig, "EuroBertForMaskedLM")  # type: ignore[attr-defined]
_TITLES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "smollm3": "SmolLM3", "eurobert": "EuroBERT"}
_NAMES = (  # read through transformers' config class, whose defaults are its own
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "attention_bias", "mlp_bias",
    "tie_word_embeddings", "attention_dropout", "initializer_range",
)  # fmt: skip
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
_READ = ("no_rope_layers", "no_rope_layer_interval", "layer_types", "use_sliding_window", "sliding_window",
         "max_window_layers")  # fmt: skip
_ONLY = {
    "hidden_act": "silu", "partial_rotary_factor": 1.0, "hidden_dropout": 0.0, "is_decoder": False,
    "rope_interleaved": False,
}  # fmt: skip
_NO_EFFECT = frozenset({
    "pretraining_tp", "cross_attention_hidden_size", "clf_pooling", "is_llama_config", "bos_token", "eos_token",
    "pad_token", "mask_token",
})  # fmt: skip
_LAYER = {  # the encoder's names under "model.layers.<i>." -> theirs
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.Wo": "self_attn.o_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.value": "mlp.up_proj",
    "mlp.Wo": "mlp.down_proj",
}
_TRUNK = {
    "model.embeddings.tok_embeddings": "model.embed_tokens",
    "model.final_norm": "model.norm",
    "decoder": "lm_head",
}
_FROM_TRUNK = {theirs: ours for ours, theirs in _TRUNK.items()}
_FROM_LAYER = {theirs: ours for ours, theirs in _LAYER.items()}


class LlamaFormat(Format):
    """Folders of decoders, or of their trunks, and of EuroBERT.

    The objective of a phase decides on the attention. A folder that is written is loaded by the decoder's classes, which
    attend causally; for bidirectional attention they must be given a mask.
    """

    keys = ConfigKeys(
        names=_NAMES,
        also_read=frozenset({*_ROPE, *_READ, "is_causal"}),  # an objective decides on the attention
        only=_ONLY,
        no_effect=_NO_EFFECT,
    )
    uses = Uses(
        head_class="AutoModelForCausalLM",
        attention="causal",
        classes=(
            "AutoModel",
            "AutoModelForCausalLM",
            "AutoModelForTokenClassification",
            "AutoModelForSequenceClassification",
        ),
        pipelines=("feature-extraction",),
        drawn_anew=("score.", "classifier."),
        note=(
            "These classes attend causally. To use the model as the bidirectional encoder that its last phase trained, pass "
            "a 4-dimensional attention mask of zeros, [batch, 1, length, length]."
        ),
    )

    def uses_of(self, arch: Any) -> Uses:
        # EuroBERT's classes attend bidirectionally
        return Uses(drawn_anew=("classifier.", "dense.")) if arch.model_type == "eurobert" else self.uses

    def read(self, path: Path, config: Mapping[str, Any], *, ignore: Collection[str] = ()) -> LlamaArchitecture:
        model_type = config["model_type"]
        code = {"auto_map"} if model_type == "eurobert" else set()  # its own code, which is never run
        self.keys.refuse(path, config, {*ignore, *code})
        try:
            _refuse_windows(config)
            cls = _CLASSES.get(model_type, _CLASSES["llama"])[0]
            made = cls.from_dict({key: config[key] for key in (*_NAMES, *_READ) if key in config})
            values = {name: getattr(made, name) for name in _NAMES if getattr(made, name, None) is not None}
            if model_type in ("qwen2", "qwen3"):
                values["mlp_bias"] = False  # not read there
            values["output_bias"] = values.get("attention_bias", False)
            if model_type == "qwen2":  # not read there either
                values |= {"attention_bias": True, "output_bias": False}
            theta, scaling = _rotary(config, _default_theta(made))
            return LlamaArchitecture(
                **values,
                model_type=model_type,
                rope_theta=theta,
                rope_scaling=scaling,
                qk_norm=model_type == "qwen3",
                no_rope_layer_interval=_without_positions(made),
            )
        except (TypeError, KeyError, AttributeError, ValueError, ConfigError) as error:
            raise ModelError(f"{path}: {type(error).__name__}: {error}".replace("\n", " ")) from error

    def to_encoder(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prefix = "" if any(name.startswith("model.") for name in weights) else "model."
        renamed = {_ours(name, prefix): tensor for name, tensor in weights.items() if "rotary_emb.inv_freq" not in name}
        join(renamed, parts=("attn.q", "attn.k", "attn.v"), into="attn.Wqkv")
        join(renamed, parts=("mlp.gate", "mlp.value"), into="mlp.Wi")
        return renamed

    def to_folder(self, weights: Mapping[str, Tensor], arch: Any) -> dict[str, Tensor]:
        heads = [
            n * arch.head_dim for n in (arch.num_attention_heads, arch.num_key_value_heads, arch.num_key_value_heads)
        ]
        parts = {
            "attn.Wqkv": (("attn.q", "attn.k", "attn.v"), heads),
            "mlp.Wi": (("mlp.gate", "mlp.value"), [arch.intermediate_size] * 2),
        }
        found: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            stem, kind = name.rsplit(".", 1)
            if stem in _TRUNK:
                found[f"{_TRUNK[stem]}.{kind}"] = tensor
                continue
            _, _, index, part = stem.split(".", 3)
            names, sizes = parts.get(part, ((part,), [len(tensor)]))
            for each, piece in zip(names, tensor.split(sizes), strict=True):
                # a copy: safetensors refuses parts of one storage
                found[f"model.layers.{index}.{_LAYER[each]}.{kind}"] = piece.clone() if len(names) > 1 else piece
        return found

    def headline(self, arch: Any) -> str:
        return f"A model of the class of {_TITLES[arch.model_type]}"

    def config(
        self, arch: Any, tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any] | None
    ) -> PretrainedConfig:
        if arch.model_type not in _CLASSES:
            raise ModelError(
                f"an export of model_type '{arch.model_type}' needs its class, which transformers "
                f"{transformers.__version__} does not have"
            )
        cls, head_class = _CLASSES[arch.model_type]
        more: dict[str, Any] = {}
        if arch.model_type == "smollm3":
            layers = range(arch.num_hidden_layers)
            more["no_rope_layers"] = [int(arch.has_positions(layer)) for layer in layers]
        return cls(
            **{key: getattr(arch, key) for key in _NAMES},
            **token_ids(tokenizer, start or {}),
            **more,
            rope_theta=arch.rope_theta,
            rope_scaling=arch.rope_scaling and dict(arch.rope_scaling),  # transformers 5 writes into it
            architectures=[head_class],
            torch_dtype="float32",
        )


def _ours(name: str, prefix: str) -> str:
    """The encoder's name of a weight; one that is not known passes unchanged."""
    stem, _, kind = name.rpartition(".")
    theirs = stem if stem == "lm_head" else prefix + stem
    if theirs in _FROM_TRUNK:
        return f"{_FROM_TRUNK[theirs]}.{kind}"
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", theirs)
    if found and found[2] in _FROM_LAYER:
        return f"model.layers.{found[1]}.{_FROM_LAYER[found[2]]}.{kind}"
    return name


def _refuse_windows(config: Mapping[str, Any]) -> None:
    """Raises ValueError if a layer has a sliding window."""
    if config.get("use_sliding_window", False):
        raise ValueError(f"use_sliding_window is {config['use_sliding_window']!r}, expected False")
    if config["model_type"] in ("llama", "eurobert") and config.get("sliding_window") is not None:
        raise ValueError(f"sliding_window is {config['sliding_window']!r}, expected None")
    if odd := {*(config.get("layer_types") or ())} - {"full_attention"}:
        raise ValueError(f"layer_types has {', '.join(map(repr, sorted(map(str, odd))))}, expected 'full_attention'")


def _default_theta(made: PretrainedConfig) -> float:
    """Base of the rotary embedding of a config that states none: of its class, where transformers 4 or 5 keeps it."""
    return made.rope_theta if hasattr(made, "rope_theta") else made.rope_parameters["rope_theta"]  # type: ignore[attr-defined]


def _rotary(config: Mapping[str, Any], default_theta: float) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling of the rotary embedding, as transformers 4 and 5 write them.

    Raises:
        ValueError: Another kind of scaling, or keys of both versions that differ.
    """
    old, new = config.get("rope_scaling"), config.get("rope_parameters")  # of transformers 4 and 5
    theta = default_theta if config.get("rope_theta") is None else config["rope_theta"]
    longest = config.get("max_position_embeddings", LlamaArchitecture.max_position_embeddings)
    scaling = scaling_in(old or {}, "rope_scaling", longest=longest)
    if new is not None:
        given = scaling_in(new, "rope_parameters", longest=longest)
        if old is not None and scaling != given:
            raise ValueError(f"rope_scaling is {old}, and rope_parameters is {new}")
        theta, scaling = new["rope_theta"], given
        if config.get("rope_theta") not in (None, theta):
            raise ValueError(f"rope_theta is {config['rope_theta']}, and rope_parameters.rope_theta is {theta}")
    return theta, scaling


def _without_positions(made: PretrainedConfig) -> int:
    """Each how many layers one has no positions; 0 for none. Raises ValueError for another pattern."""
    given = getattr(made, "no_rope_layers", None)
    if given is None or all(given):
        return 0
    layers = len(given)
    for every in range(1, layers + 1):
        if [bool(flag) for flag in given] == [(layer + 1) % every != 0 for layer in range(layers)]:
            return every
    raise ValueError(f"no_rope_layers is {given}, expected a 0 in every n-th layer")


FORMAT = LlamaFormat()
