"""Reads the config.json of a Hugging Face ModernBERT. Every key is used, known to have no effect, or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detour.errors import ConfigError, ModelError
from detour.models.modernbert.architecture import Architecture

log = logging.getLogger(__name__)

TYPES = ("modernbert", "modernbert-decoder")
NAMES = (  # fields of Architecture with the same name in the config
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "global_attn_every_n_layers", "local_attention", "max_position_embeddings", "norm_eps", "norm_bias",
    "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias", "embedding_dropout", "attention_dropout",
    "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
)  # fmt: skip
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_ROPE = ("global_rope_theta", "local_rope_theta", "rope_parameters", "rope_scaling")
_ALSO_READ = ("model_type", "layer_types", "sliding_window", *_ROPE)
_ONLY = {  # keys that change the function, with the only value that this model implements
    "hidden_activation": "gelu", "classifier_activation": "gelu", "tie_word_embeddings": True,
    "is_encoder_decoder": False, "add_cross_attention": False, "tie_encoder_decoder": False,
    "chunk_size_feed_forward": 0, "pruned_heads": {}, "partial_rotary_factor": 1.0,
}  # fmt: skip
_ONLY_OF_ENCODERS = {"is_decoder": False, "is_causal": False, "causal_mask": False}
_ONLY_OF_DECODERS = {"is_causal": True, "causal_mask": True}
TOKEN_IDS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id", "mask_token_id",
             "unk_token_id")  # fmt: skip
_OF_THE_FILE = (  # about the folder itself; set by each export
    "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "_commit_hash", "name_or_path",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
)  # fmt: skip
_NO_EFFECT = {  # on the encoder and its language-modeling head: not read by the modeling code of transformers 4.57 and 5
    # heads of fine-tuned models, and their labels
    "classifier_pooling", "classifier_dropout", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "task_specific_params", "sentence_transformers",
    # form of the computation and of the output
    "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "gradient_checkpointing", "use_cache",
    "return_dict", "output_hidden_states", "output_attentions", "torchscript", "use_bfloat16", "tf_legacy_loss",
    "sparse_prediction", "sparse_pred_ignore_index",
    # in published configs, but unused by ModernBERT, which reads norm_eps and has rotary positions
    "layer_norm_eps", "position_embedding_type", "cross_attention_hidden_size",
    # tokenizers and text generation
    "tokenizer_class", "prefix", "decoder_start_token_id", "max_length", "min_length", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
}  # fmt: skip
_NEVER_CARRIED = (
    "auto_map",
    "quantization_config",
)  # point to files, or to a form of the weights, that an export has not


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelError if it is missing, damaged or of another type of model."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    if config.get("model_type") not in TYPES:
        raise ModelError(f"{path}: model_type is {config.get('model_type')!r}, expected one of {', '.join(TYPES)}")
    return config


def read_architecture(folder: Path, *, ignore: Collection[str] = ()) -> Architecture:
    """The architecture described by a folder's config.json.

    A decoder folder (`ModernBertDecoder`) is read too; its causal window is one narrower and is kept so, and all its
    layers have one rotary base unless transformers 5 wrote it.

    Args:
        folder: A folder of a Hugging Face model.
        ignore: Unknown keys of the config that, according to the user, have no effect.

    Raises:
        ModelError: Missing or damaged file, another model type, a feature that this model does not have (scaled rotary
            embeddings among them), or a key whose effect is unknown.
    """
    path, config = folder / "config.json", read_config(folder)
    decoder = config["model_type"] == "modernbert-decoder"
    _refuse_unknown(path, config, decoder=decoder, ignore=ignore)
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise ModelError(f"{path}: {', '.join(missing)} missing")
    values = {key: config[key] for key in NAMES if key in config}
    try:
        _set_window(values, config, decoder=decoder)
        if "layer_types" in config:
            values["global_attn_every_n_layers"] = _every(config)
        global_theta, local_theta = _thetas(config, decoder=decoder)
        arch = Architecture(**values, global_rope_theta=global_theta, local_rope_theta=local_theta)
    except (TypeError, KeyError, AttributeError, ValueError, ConfigError) as error:
        raise ModelError(f"{path}: {type(error).__name__}: {error}") from error
    if decoder and config.get("local_rope_theta", local_theta) != local_theta:
        log.warning(
            "%s: local_rope_theta is not used: transformers 4 rotates all layers of a decoder by %g", path, local_theta
        )
    return arch


def carried_keys(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of a start config that neither training nor export sets, which an export carries over."""
    ours = {*NAMES, *_ALSO_READ, *_OF_THE_FILE, *TOKEN_IDS, *_NEVER_CARRIED, *_ONLY, *_ONLY_OF_ENCODERS}
    return {key: value for key, value in config.items() if key not in ours}


def _refuse_unknown(path: Path, config: dict[str, Any], *, decoder: bool, ignore: Collection[str]) -> None:
    """Raises ModelError if a key has a value that is not implemented, or an unknown effect."""
    only = _ONLY | (_ONLY_OF_DECODERS if decoder else _ONLY_OF_ENCODERS)
    for key, value in only.items():
        if config.get(key, value) != value:
            raise ModelError(f"{path}: {key} is {config[key]!r}, expected {value!r}")
    known = {*NAMES, *_ALSO_READ, *_OF_THE_FILE, *TOKEN_IDS, *_NO_EFFECT, *_ONLY, *_ONLY_OF_ENCODERS, *ignore}
    unknown = [f"{key}: {config[key]!r}"[:80] for key in sorted(config) if key not in known and config[key] is not None]
    if unknown:
        raise ModelError(
            f"{path}: {'; '.join(unknown)}: not known to leave what the model computes unchanged. If it does, list the "
            "key under model.ignore_config_keys"
        )


def _set_window(values: dict[str, Any], config: dict[str, Any], *, decoder: bool) -> None:
    """The sliding window, of which decoders of transformers 4 store half. Raises ValueError if the keys disagree."""
    half = config.get("sliding_window")
    if half is not None and (decoder or "local_attention" in config):  # transformers 4 ignores it for encoders
        if values.setdefault("local_attention", 2 * half) // 2 != half:
            raise ValueError(f"sliding_window is {half}, expected half of local_attention, {values['local_attention']}")
    elif half is not None:
        raise ValueError(
            f"sliding_window is {half} and local_attention is missing; versions of transformers differ here"
        )
    if decoder:
        values["causal_left_window"] = values.get("local_attention", 128) // 2 - 1


def _every(config: dict[str, Any]) -> int:
    """The n of "every n-th layer is global", from the list of layer types. Raises ValueError for any other pattern."""
    kinds, stated = config["layer_types"], config.get("global_attn_every_n_layers")
    for every in (stated or 3, *([] if stated else range(1, len(kinds) + 1))):
        if kinds == [
            "sliding_attention" if i % every else "full_attention" for i in range(config["num_hidden_layers"])
        ]:
            return every
    wanted = f"every {stated} layers (global_attn_every_n_layers)" if stated else "every n-th layer"
    raise ValueError(f"layer_types is {kinds}, expected full_attention in {wanted} from the first on")


def _thetas(config: dict[str, Any], *, decoder: bool) -> tuple[float, float]:
    """Rotary bases of global and local layers, from the keys of transformers 4 or 5.

    Raises:
        ValueError: The embeddings are scaled (YaRN, linear, ...), or two keys state different bases.
    """
    if config.get("rope_scaling") is not None:
        _plain_rope(config["rope_scaling"], "rope_scaling")
    if "rope_parameters" in config:  # transformers >= 5: one record a layer type
        thetas = []
        for kind, old in (("full_attention", "global_rope_theta"), ("sliding_attention", "local_rope_theta")):
            record = (config["rope_parameters"] or {}).get(kind)
            where = f"rope_parameters.{kind}"
            theta = _number(_plain_rope(record, where).get("rope_theta"), f"{where}.rope_theta")
            if config.get(old) not in (None, theta):
                raise ValueError(f"{old} is {config[old]}, and {where}.rope_theta is {theta}")
            thetas.append(theta)
        return thetas[0], thetas[1]
    global_theta = _number(config.get("global_rope_theta", 160_000.0), "global_rope_theta")
    local_theta = config.get("local_rope_theta", 10_000.0)
    if decoder or local_theta is None:  # the decoder of transformers 4 has one base for all layers
        return global_theta, global_theta
    return global_theta, _number(local_theta, "local_rope_theta")


def _plain_rope(record: Any, where: str) -> dict[str, Any]:
    """Returns the record if it describes the original rotary embedding only; otherwise raises ValueError."""
    if not isinstance(record, dict):
        raise ValueError(f"{where} is {record!r}, expected a mapping with rope_type and rope_theta")
    for key in ("rope_type", "type"):  # "type" in older files
        if record.get(key, "default") != "default":
            raise ValueError(f"{where}: {key} is {record[key]!r}; only 'default' is implemented")
    plain = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
    for key, value in record.items():
        if key != "rope_theta" and value is not None and value != plain.get(key):
            raise ValueError(f"{where}: {key} is {value!r}, which the default rope_type does not have")
    if where == "rope_scaling" and record.get("rope_theta") is not None:
        raise ValueError(f"{where}: rope_theta is {record['rope_theta']!r}; only global_rope_theta is read")
    return record


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{where} is {value!r}, expected a number above 0")
    return value
