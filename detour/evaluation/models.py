"""The models that are compared: Hugging Face folders, told apart by a hash of their files."""

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
from transformers import AutoConfig, PreTrainedModel

from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError, ModelError, first_line
from detour.files import sha256_of
from detour.names import fault_of_name

READ = ["*.json", "*.safetensors", "*.txt", "*.model"]  # configuration, weights, tokenizer; nothing that is unpickled
CARDS = ("README.md", "trainer_state.json")  # of no effect on a score


@dataclass(frozen=True, kw_only=True)
class Model:
    """One of the models.

    Attributes:
        name: What tables call it.
        folder: Where its files lie.
        sha256: Of the files that matter.
    """

    name: str
    folder: Path
    sha256: str


def resolve(given: Sequence[str]) -> list[Model]:
    """Models from ``folder``, ``hub/name``, or ``name=`` before either; hub models are downloaded.

    Without a name, a model goes by its folder's, or by the last part of its hub name.

    Raises:
        ConfigError: Two models of one name.
        ModelError: No such folder or hub model, or its configuration, safetensors or tokenizer is missing or damaged.
    """
    models: dict[str, Model] = {}
    for text in given:
        name, equals, place = text.partition("=")
        place = place if equals else text
        if not equals:
            local = Path(place).expanduser()
            name = local.resolve().name if local.is_dir() else place.rsplit("/", 1)[-1]
        if fault := fault_of_name(name):
            raise ConfigError(f"model '{text}': the name {name[:80]!r} {fault}; give another as name={place}")
        if name in models:
            raise ConfigError(f"model '{text}': '{name}' is another one's name too; tell them apart as name={place}")
        folder = _fetch(place)
        _check(folder)
        models[name] = Model(name=name, folder=folder, sha256=folder_hash(folder))
    return list(models.values())


def quiet_transformers() -> None:
    """Silences transformers' warning about fresh heads, which every fine-tuning has."""
    from transformers.utils import logging

    logging.set_verbosity_error()


def folder_hash(folder: Path) -> str:
    """sha256 over names and contents of the files that a model is loaded from; its card does not count."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in READ for path in folder.glob(pattern) if path.name not in CARDS):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def load_pretrained(auto: Any, folder: Path, **config: Any) -> tuple[PreTrainedModel, list[str]]:
    """A model in fp32 and the names of its weights that the folder lacks. Only safetensors are read, no code is run.

    Args:
        auto: One of transformers' AutoModel classes.
        config: Values that replace those of config.json.

    Raises:
        ModelError: It cannot be loaded.
    """
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
        if hasattr(settings, "reference_compile"):
            settings.reference_compile = False  # ModernBERT compiles parts of itself for minutes, for runs of minutes
        model, info = auto.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            dtype="float32",
        )
    except Exception as error:  # transformers and safetensors raise many kinds, all of which mean the same here
        raise ModelError(f"{folder}: cannot be loaded as an encoder: {first_line(error)}") from error
    return model, sorted(info["missing_keys"])


def takes_types(model: nn.Module) -> bool:
    """Whether the model tells the texts of a pair apart by ``token_type_ids``."""
    return "token_type_ids" in inspect.signature(model.forward).parameters


def _fetch(place: str) -> Path:
    if (folder := Path(place).expanduser()).is_dir():  # shells leave the ~ of name=~/folder as it is
        return folder
    try:
        return Path(snapshot_download(place, allow_patterns=READ))
    except Exception as error:  # the hub's client raises many kinds, all of which mean the same here
        raise ModelError(f"model '{place}': no such folder, and the hub gave: {first_line(error)}") from error


def _check(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vocabulary = config.get("vocab_size")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'}: cannot be read ({error})") from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: no .safetensors file (pickled weights are not read)")
    tokenizer = load_tokenizer(folder)
    largest = max(tokenizer.get_vocab().values())
    if not isinstance(vocabulary, int) or largest >= vocabulary:
        raise ModelError(f"{folder}: the tokenizer's ids reach {largest}, the model's vocab_size is {vocabulary}")
