"""The models under evaluation: Hugging Face folders, identified by a hash of their files."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError, ModelError, first_line
from detour.files import reason, sha256_of
from detour.hub import check_hub
from detour.names import fault_of_name

READ = ["*.json", "*.safetensors", "*.txt", "*.model"]  # configuration, weights, tokenizer; nothing that is unpickled
CARDS = ("README.md", "trainer_state.json")  # do not affect scores


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model under evaluation.

    Attributes:
        name: Name in tables and records.
        folder: Folder of its files.
        sha256: Hash of its configuration, weights, and tokenizer (`folder_hash`).
    """

    name: str
    folder: Path
    sha256: str


def resolve(given: Sequence[str]) -> list[Model]:
    """Resolves model arguments: ``FOLDER``, ``hub/name``, or either with a name, ``NAME=FOLDER``. Downloads hub models.

    The default name is that of the folder, or the last part of the hub name.

    Raises:
        ConfigError: Two models have the same name, or a name cannot be part of a path.
        ModelError: A folder or hub model does not exist, or its configuration, safetensors, or tokenizer is missing or
            damaged.
    """
    models: dict[str, Model] = {}
    for text in given:
        name, equals, location = text.partition("=")
        location = location if equals else text
        if not equals:
            local = Path(location).expanduser()
            name = local.resolve().name if local.is_dir() else location.rsplit("/", 1)[-1]
        if fault := fault_of_name(name):
            raise ConfigError(f"model '{text}': the name {name[:80]!r} {fault}; give another as name={location}")
        if name in models:
            raise ConfigError(f"model '{text}': '{name}' is another one's name too; tell them apart as name={location}")
        folder = _fetch(location)
        _check(folder)
        models[name] = Model(name=name, folder=folder, sha256=folder_hash(folder))
    return list(models.values())


def quiet_transformers() -> None:
    """Silences transformers' warning about newly initialized heads, which every fine-tuning has."""
    from transformers.utils import logging

    logging.set_verbosity_error()


def folder_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the files that a model is loaded from, excluding its model card."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in READ for path in folder.glob(pattern) if path.name not in CARDS):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def load_pretrained(auto: Any, folder: Path, **config: Any) -> tuple[PreTrainedModel, list[str]]:
    """Loads a model in fp32. Returns it with the names of the weights that are missing from the folder.

    Only safetensors are read, and no code of the folder is run.

    Args:
        auto: One of transformers' AutoModel classes.
        folder: Hugging Face folder.
        config: Values that replace those of config.json.

    Raises:
        ModelError: The model cannot be loaded.
    """
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
        if hasattr(settings, "reference_compile"):
            settings.reference_compile = False  # compiling takes minutes, as long as a fine-tuning
        model, info = auto.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            dtype="float32",
        )
    except Exception as error:  # of many types in transformers and safetensors
        raise ModelError(f"{folder}: cannot be loaded as an encoder: {first_line(error)}") from error
    return model, sorted(info["missing_keys"])


def load_complete(auto: Any, folder: Path) -> PreTrainedModel:
    """Loads a model in fp32 and evaluation mode, of which no weight but those of a pooler may be missing.

    Args:
        auto: One of transformers' AutoModel classes.
        folder: Hugging Face folder.

    Raises:
        ModelError: The model cannot be loaded, or weights are missing.
    """
    model, missing = load_pretrained(auto, folder)
    if lost := [key for key in missing if "pooler." not in key]:
        raise ModelError(f"{folder}: {len(lost)} weights are missing, the first is {lost[0]}")
    return model.eval()


def load_masked_lm(folder: Path) -> PreTrainedModel:
    """Loads an encoder with its masked-LM head (`load_complete`), of any architecture of transformers."""
    return load_complete(AutoModelForMaskedLM, folder)


def takes_types(model: nn.Module) -> bool:
    """Whether the model has an input ``token_type_ids``, which distinguishes the two texts of a pair."""
    return "token_type_ids" in inspect.signature(model.forward).parameters


def _fetch(location: str) -> Path:
    if (folder := Path(location).expanduser()).is_dir():  # shells do not expand the ~ in name=~/folder
        return folder
    try:
        check_hub()
        return Path(snapshot_download(location, allow_patterns=READ))
    except Exception as error:  # of many types in the hub's client
        raise ModelError(f"model '{location}': no such folder, and the hub gave: {first_line(error)}") from error


def _check(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vocabulary = config.get("vocab_size")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'config.json'}: cannot be read ({reason(error) if isinstance(error, OSError) else error})"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: no .safetensors file (pickled weights are not read)")
    tokenizer = load_tokenizer(folder)
    largest = max(tokenizer.get_vocab().values())
    if not isinstance(vocabulary, int) or largest >= vocabulary:
        raise ModelError(f"{folder}: the tokenizer's ids reach {largest}, the model's vocab_size is {vocabulary}")
