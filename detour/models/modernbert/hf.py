"""ModernBERT folders of Hugging Face: encoders, and decoders, whose names and windows differ."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor
from transformers import ModernBertConfig, ModernBertDecoderConfig, PretrainedConfig, PreTrainedTokenizerFast

from detour.errors import ConfigError, ModelError
from detour.models.hf_config import ConfigKeys, number
from detour.models.hf_format import Format, Uses, join, token_ids
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.models.rope_scaling import scaling_in

log = logging.getLogger(__name__)

_NAMES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "global_attn_every_n_layers", "local_attention", "max_position_embeddings", "norm_eps", "norm_bias",
    "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias", "embedding_dropout", "attention_dropout",
    "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
)  # fmt: skip
_ROPE = ("global_rope_theta", "local_rope_theta", "rope_parameters", "rope_scaling")
_ONLY_OF_ENCODERS = {"is_decoder": False, "is_causal": False, "causal_mask": False}
_ONLY_OF_DECODERS = {"is_causal": True, "causal_mask": True}


_NO_EFFECT = frozenset({
    "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "sparse_prediction",
    "sparse_pred_ignore_index",
    # in published configs, of no meaning to ModernBERT: norm_eps is read, positions are rotary
    "layer_norm_eps", "position_embedding_type", "cross_attention_hidden_size",
})  # fmt: skip
_ONLY = {
    "hidden_activation": "gelu", "classifier_activation": "gelu", "tie_word_embeddings": True,
    "partial_rotary_factor": 1.0,
}  # fmt: skip


def _keys(only: Mapping[str, Any]) -> ConfigKeys:
    return ConfigKeys(
        names=_NAMES,
        also_read=frozenset({"layer_types", "sliding_window", *_ROPE, *_ONLY_OF_ENCODERS}),
        only=_ONLY | dict(only),
        no_effect=_NO_EFFECT,
    )


class ModernBertFormat(Format):
    """Folders of `ModernBertForMaskedLM`; those of `ModernBertDecoderForCausalLM` are read, and written by `as_decoder`.

    A decoder's causal window is one narrower and is kept so, and all its layers have one rotary base unless
    transformers 5 wrote it.
    """

    keys = _keys(_ONLY_OF_ENCODERS)

    def read(self, path: Path, config: Mapping[str, Any], *, ignore: Collection[str] = ()) -> ModernBertArchitecture:
        decoder = config["model_type"] == "modernbert-decoder"
        keys = _keys(_ONLY_OF_DECODERS) if decoder else self.keys
        keys.refuse(path, config, ignore)
        values = keys.values(config)
        try:
            _set_window(values, config, decoder=decoder)
            if "layer_types" in config:
                values["global_attn_every_n_layers"] = _every(config)
            global_theta, local_theta = _thetas(config, decoder=decoder)
            arch = ModernBertArchitecture(
                **values,
                global_rope_theta=global_theta,
                local_rope_theta=local_theta,
                global_rope_scaling=_scaling(config),
            )
        except (TypeError, KeyError, AttributeError, ValueError, ConfigError) as error:
            raise ModelError(f"{path}: {type(error).__name__}: {error}") from error
        if decoder and config.get("local_rope_theta", local_theta) != local_theta:
            log.warning(
                "%s: local_rope_theta is not used: transformers 4 rotates all layers of a decoder by %g",
                path,
                local_theta,
            )
        return arch

    def to_encoder(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encoders' names pass unchanged; of decoders q, k and v are joined, and lm_head is called head."""
        prefix = "" if any(name.startswith("model.") for name in weights) else "model."
        trunk = ("embeddings.", "layers.", "final_norm.")
        renamed = {
            prefix + name if name.startswith(trunk) else name.replace("lm_head.", "head.", 1): tensor
            for name, tensor in weights.items()
        }
        join(renamed, parts=("attn.q_proj", "attn.k_proj", "attn.v_proj"), into="attn.Wqkv")
        return renamed

    def to_folder(self, weights: Mapping[str, Tensor], arch: Any) -> dict[str, Tensor]:
        return dict(weights)

    def headline(self, arch: Any) -> str:
        return "A bidirectional ModernBERT encoder"

    def uses_of(self, arch: Any) -> Uses:
        if not arch.global_rope_scaling:
            return self.uses
        note = "Needs transformers 5: its rotary positions are scaled in global layers only (`rope_parameters`)."
        return replace(self.uses, note=f"{note} {self.uses.note}".rstrip())

    def config(
        self, arch: Any, tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any] | None
    ) -> PretrainedConfig:
        made = ModernBertConfig(
            **{key: getattr(arch, key) for key in _NAMES},
            **token_ids(tokenizer, start or {}),
            **_rope_keys(arch),
            architectures=["ModernBertForMaskedLM"],
            torch_dtype="float32",
        )
        return _readable_by_4(made, arch)

    def as_decoder(self, arch: Any) -> Format:
        keys = arch.side_window - 1
        if arch.causal_left != keys:
            raise ModelError(
                f"export as a decoder: local layers see {arch.causal_left} tokens to the left, those of ModernBertDecoder "
                f"{keys}; train with model.architecture.causal_left_window: {keys}"
            )
        local = any(not arch.is_global(layer) for layer in range(arch.num_hidden_layers))
        if local and arch.local_rope_theta != arch.global_rope_theta and transformers.__version__.startswith("4."):
            raise ModelError(
                f"export as a decoder: local_rope_theta is {arch.local_rope_theta:g} and global_rope_theta "
                f"{arch.global_rope_theta:g}; ModernBertDecoder of transformers {transformers.__version__} has one for both, "
                "that of transformers 5 has two"
            )
        return DecoderFormat()


class DecoderFormat(ModernBertFormat):
    """Folders of `ModernBertDecoderForCausalLM`, for models whose causal attention is that of the class."""

    uses = Uses(
        head_class="AutoModelForCausalLM",
        attention="causal",
        classes=(
            "AutoModel",
            "AutoModelForCausalLM",
        ),  # the classifier's head has another name, and would be drawn anew
        pipelines=("text-generation", "feature-extraction"),
        note="These classes attend causally.",
    )

    def to_folder(self, weights: Mapping[str, Tensor], arch: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            if ".attn.Wqkv." in name:
                for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                    # a copy: safetensors refuses parts of one storage
                    found[name.replace("Wqkv", f"{part}_proj")] = piece.clone()
            else:
                found[f"lm_{name}" if name.startswith("head.") else name] = tensor
        return found

    def headline(self, arch: Any) -> str:
        return "A causal ModernBERT decoder"

    def config(
        self, arch: Any, tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any] | None
    ) -> PretrainedConfig:
        made = ModernBertDecoderConfig(
            **{key: getattr(arch, key) for key in _NAMES},
            **token_ids(tokenizer, start or {}),
            **_rope_keys(arch),
            architectures=["ModernBertDecoderForCausalLM"],
            torch_dtype="float32",
        )
        made.local_attention = arch.local_attention  # without it in the file, transformers 4 reads the default window
        return _readable_by_4(made, arch)


FORMAT = ModernBertFormat()


def _rope_keys(arch: Any) -> dict[str, Any]:
    """The rotary positions as arguments of a config class. Raises ModelError if transformers 4 has no such positions."""
    if not arch.global_rope_scaling:
        return {"global_rope_theta": arch.global_rope_theta, "local_rope_theta": arch.local_rope_theta}
    if transformers.__version__.startswith("4."):
        raise ModelError(
            f"export: global_rope_scaling is {arch.global_rope_scaling['rope_type']}; transformers {transformers.__version__} "
            "scales all layers of a ModernBERT or none, transformers 5 its global layers alone: export with that version"
        )
    return {
        "rope_parameters": {
            "full_attention": {**arch.global_rope_scaling, "rope_theta": arch.global_rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": arch.local_rope_theta},
        }
    }


def _readable_by_4(config: PretrainedConfig, arch: Any) -> PretrainedConfig:
    """The config with the keys in which transformers 4 looks for positions and layers: it ignores those of 5 without a word.

    Where global layers are scaled, which it cannot do, the base is null, at which it stops with a TypeError.
    """
    config.global_attn_every_n_layers = arch.global_attn_every_n_layers
    config.global_rope_theta = None if arch.global_rope_scaling else arch.global_rope_theta
    config.local_rope_theta = arch.local_rope_theta
    return config


def _set_window(values: dict[str, Any], config: Mapping[str, Any], *, decoder: bool) -> None:
    """The sliding window, which decoders of transformers 4 write as its half. Raises ValueError if the keys disagree."""
    half = config.get("sliding_window")
    if half is not None and (decoder or "local_attention" in config):  # transformers 4 reads no such key of an encoder
        if values.setdefault("local_attention", 2 * half) // 2 != half:
            raise ValueError(f"sliding_window is {half}, expected half of local_attention, {values['local_attention']}")
    elif half is not None:
        raise ValueError(
            f"sliding_window is {half} and local_attention is missing; versions of transformers differ here"
        )
    if decoder:
        values["causal_left_window"] = values.get("local_attention", 128) // 2 - 1


def _every(config: Mapping[str, Any]) -> int:
    """Which layers are global, from their list. Raises ValueError if it is not every n-th from the first on."""
    kinds, stated = config["layer_types"], config.get("global_attn_every_n_layers")
    for every in (stated or 3, *([] if stated else range(1, len(kinds) + 1))):
        if kinds == [
            "sliding_attention" if i % every else "full_attention" for i in range(config["num_hidden_layers"])
        ]:
            return every
    wanted = f"every {stated} layers (global_attn_every_n_layers)" if stated else "every n-th layer"
    raise ValueError(f"layer_types is {kinds}, expected full_attention in {wanted} from the first on")


def _thetas(config: Mapping[str, Any], *, decoder: bool) -> tuple[float, float]:
    """Rotary bases of global and local layers, as transformers 4 and 5 write them.

    Raises:
        ValueError: Local layers are scaled (YaRN, linear, ...), or two places state different bases.
    """
    if config.get("rope_scaling") is not None:  # of transformers 4, which scales all layers by it
        _plain_rope(config["rope_scaling"], "rope_scaling")
    if "rope_parameters" in config:  # transformers >= 5: one record a layer type
        thetas = []
        for kind, old in (("full_attention", "global_rope_theta"), ("sliding_attention", "local_rope_theta")):
            record = (config["rope_parameters"] or {}).get(kind)
            where = f"rope_parameters.{kind}"
            plain = _plain_rope(record, where) if kind == "sliding_attention" else _mapping(record, where)
            theta = number(plain.get("rope_theta"), f"{where}.rope_theta")
            if config.get(old) not in (None, theta):
                raise ValueError(f"{old} is {config[old]}, and {where}.rope_theta is {theta}")
            thetas.append(theta)
        return thetas[0], thetas[1]
    global_theta = number(config.get("global_rope_theta", 160_000.0), "global_rope_theta")
    local_theta = config.get("local_rope_theta", 10_000.0)
    if decoder or local_theta is None:  # transformers 4's decoder rotates all layers alike, whatever its config says
        return global_theta, global_theta
    return global_theta, number(local_theta, "local_rope_theta")


def _scaling(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The scaling of the global layers, which only transformers 5 writes. Raises ValueError if it contradicts itself."""
    record = (config.get("rope_parameters") or {}).get("full_attention") or {}
    longest = config.get("max_position_embeddings", ModernBertArchitecture.max_position_embeddings)
    return scaling_in(record, "rope_parameters.full_attention", longest=longest)


def _mapping(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{where} is {record!r}, expected a mapping with rope_type and rope_theta")
    return record


def _plain_rope(record: Any, where: str) -> dict[str, Any]:
    """The record, if it describes the original rotary embedding and nothing more; else raises ValueError."""
    record = _mapping(record, where)
    for key in ("rope_type", "type"):  # "type" in older files
        if record.get(key, "default") != "default":
            raise ValueError(
                f"{where}: {key} is {record[key]!r}; only 'default' is implemented in layers with a window"
            )
    plain = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
    for key, value in record.items():
        if key != "rope_theta" and value is not None and value != plain.get(key):
            raise ValueError(f"{where}: {key} is {value!r}, which the default rope_type does not have")
    if where == "rope_scaling" and record.get("rope_theta") is not None:
        raise ValueError(f"{where}: rope_theta is {record['rope_theta']!r}; only global_rope_theta is read")
    return record
