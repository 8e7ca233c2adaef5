"""Loads tokenizer folders written by transformers 5, whose classes transformers 4 does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from detour.errors import DataError

ONLY_IN_5 = ("TokenizersBackend",)
TAKEN = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_input_names")
FILES = ("*token*", "*vocab*", "*.model", "merges*")
ROLE_KEYS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def config_of(name_or_folder: Path) -> dict[str, Any]:
    """tokenizer_config.json of a folder or of a model on the hub; empty if there is none.

    Raises:
        DataError: The folder has no file of a tokenizer.
    """
    if name_or_folder.is_dir():
        if not any(path for pattern in FILES for path in name_or_folder.glob(pattern)):
            raise DataError("no file of a tokenizer in this folder, expected tokenizer.json")
        file = name_or_folder / "tokenizer_config.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    return get_tokenizer_config(name_or_folder.as_posix())


def needs_build(config: Mapping[str, Any]) -> bool:
    """Whether transformers 4 cannot load a tokenizer with this tokenizer_config.json."""
    return config.get("tokenizer_class") in ONLY_IN_5 or isinstance(config.get("extra_special_tokens"), list)


def build(name_or_folder: str, config: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Builds the tokenizer from tokenizer.json and the special tokens that its config declares.

    Normalization and pre-tokenization are those of tokenizer.json, as in transformers 5.

    Args:
        name_or_folder: Name on the hub, or a folder.
        config: Its tokenizer_config.json.

    Raises:
        DataError: There is no tokenizer.json, or a special token is declared in an unknown form.
    """
    folder = Path(name_or_folder)
    file = folder / "tokenizer.json" if folder.is_dir() else Path(hf_hub_download(name_or_folder, "tokenizer.json"))
    if not file.is_file():
        raise DataError(f"no tokenizer.json, from which a tokenizer of class {config.get('tokenizer_class')} is built")
    splitter = json.loads(file.read_text(encoding="utf-8")).get("pre_tokenizer") or {}
    further = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    further = [*further.values()] if isinstance(further, Mapping) else further
    named = (config.get("model_specific_special_tokens") or {}).values()
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        name_or_path=name_or_folder,
        add_prefix_space=splitter.get("add_prefix_space", False),  # otherwise the class sets it to False
        additional_special_tokens=[_token("extra_special_tokens", token) for token in [*further, *named]],
        **{role: _token(role, config[role]) for role in ROLE_KEYS if config.get(role) is not None},
        **{key: config[key] for key in TAKEN if key in config},
    )


def rebuild(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with another backend and the roles of its special tokens, which the backend must have, unchanged.

    Its class is the general one: a family's own class would write its vocabulary in older formats as well.
    """
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    roles = {role: getattr(tokenizer, role) for role in ROLE_KEYS if getattr(tokenizer, role) is not None}
    others = [token for token in tokenizer.all_special_tokens if token not in roles.values()]
    splitter = json.loads(backend.to_str()).get("pre_tokenizer") or {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=tokenizer.name_or_path,
        add_prefix_space=splitter.get("add_prefix_space", False),
        additional_special_tokens=[known.get(token, token) for token in others],
        **{role: known.get(token, token) for role, token in roles.items()},
        **{key: getattr(tokenizer, key) for key in TAKEN},
    )


def _token(key: str, value: Any) -> str | AddedToken:
    """A special token from its config entry: its text, or a mapping with its text and options."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise DataError(f"tokenizer_config.json: {key} is {value!r}, expected a token's text")
    options = {name: bool(value[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in value}
    return AddedToken(value["content"], special=True, **options)
