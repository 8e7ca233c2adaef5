"""What a Hugging Face config.json says of a model. Every key is read, known to have no effect, or refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.errors import ModelError
from detour.files import reason
from detour.models.families import family_of_type, model_types
from detour.registry import suggestion

TOKEN_IDS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id", "mask_token_id",
             "unk_token_id")  # fmt: skip
_OF_THE_FILE = (  # about the folder itself; written anew by an export
    "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "_commit_hash", "name_or_path",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
)  # fmt: skip
_NO_EFFECT = {  # on the trunk and its language-modeling head, in any family
    # the heads of fine-tuned models, and their labels
    "classifier_pooling", "classifier_dropout", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "task_specific_params", "sentence_transformers",
    # how it is computed or returned
    "gradient_checkpointing", "use_cache", "return_dict", "output_hidden_states", "output_attentions", "torchscript",
    "use_bfloat16", "tf_legacy_loss",
    # of tokenizers and text generation
    "tokenizer_class", "prefix", "decoder_start_token_id", "max_length", "min_length", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
}  # fmt: skip
_ONLY = {  # keys that change the function of any model, each with the one value that is implemented
    "is_encoder_decoder": False, "add_cross_attention": False, "tie_encoder_decoder": False,
    "chunk_size_feed_forward": 0, "pruned_heads": {},
}  # fmt: skip
_NEVER_CARRIED = (
    "auto_map",
    "quantization_config",
)  # point to files, or to a form of the weights, that an export has not


@dataclass(frozen=True, kw_only=True)
class ConfigKeys:
    """The keys of a family's config.json, besides those that mean the same in every family.

    Attributes:
        names: Fields of the architecture that the config calls the same.
        needed: Those of them without which the shapes are unknown.
        also_read: Keys that are read by code of the family.
        only: Keys that change the function, each with the one value that is implemented.
        no_effect: Keys that change nothing that the trunk and its language-modeling head compute.
    """

    names: tuple[str, ...]
    needed: tuple[str, ...] = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    also_read: frozenset[str] = frozenset()
    only: Mapping[str, Any] = field(default_factory=dict)
    no_effect: frozenset[str] = frozenset()

    def refuse(self, path: Path, config: Mapping[str, Any], ignore: Collection[str]) -> None:
        """Raises ModelError if a key has a value that is not implemented, an effect that is unknown, or is missing."""
        for key, value in {**_ONLY, **self.only}.items():
            if config.get(key, value) != value:
                raise ModelError(f"{path}: {key} is {config[key]!r}, expected {value!r}")
        known = {*self.names, *self.also_read, *self.only, *self.without_effect, *ignore}
        known |= {"model_type", *_OF_THE_FILE, *TOKEN_IDS, *_ONLY}
        unknown = [
            f"{key}: {config[key]!r}"[:80] for key in sorted(config) if key not in known and config[key] is not None
        ]
        if unknown:
            raise ModelError(
                f"{path}: {'; '.join(unknown)}: not known to leave what the model computes unchanged. If it does, list "
                "the key under model.ignore_config_keys"
            )
        if missing := [key for key in self.needed if key not in config]:
            raise ModelError(f"{path}: {', '.join(missing)} missing")

    @property
    def without_effect(self) -> frozenset[str]:
        """Keys that change nothing that the trunk and its language-modeling head compute."""
        return self.no_effect | _NO_EFFECT

    def values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the architecture that the config states."""
        return {key: config[key] for key in self.names if key in config}

    def carried(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The keys that an export hands on unchanged: those that neither training nor export decides."""
        ours = {"model_type", *self.names, *self.also_read, *self.only}
        ours |= {*_OF_THE_FILE, *TOKEN_IDS, *_NEVER_CARRIED, *_ONLY}
        return {key: value for key, value in config.items() if key not in ours}


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelError if it is missing, damaged or of another type of model."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read ({reason(error) if isinstance(error, OSError) else error})"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    found, known = config.get("model_type"), model_types()
    if family_of_type(found) is None:
        hint = suggestion(found, known) if isinstance(found, str) else ""
        raise ModelError(f"{path}: model_type is {found!r}{hint}; expected one of {', '.join(known)}")
    return config


def carried_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an export must hand on unchanged of the config.json of a start model (`ConfigKeys.carried`)."""
    family = family_of_type(config.get("model_type"))
    return {} if family is None else family.format.keys.carried(config)


def number(value: Any, where: str) -> float:
    """The value if it is a finite number above 0. Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{where} is {value!r}, expected a number above 0")
    return value
