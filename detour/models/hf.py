"""Hugging Face folders of every family: reading models, writing encoders. Strict in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from detour.errors import ModelError, first_line
from detour.hub import check_hub
from detour.models.architecture import Architecture
from detour.models.encoder import EMBEDDING, PROJECTION, Encoder
from detour.models.families import family_of, family_of_type
from detour.models.hf_config import carried_keys, read_config
from detour.models.hf_format import Format

__all__ = ["carried_keys", "expected_shapes", "fetch", "of_head", "read_architecture", "read_config", "read_weights",
           "save_weights", "write_folder"]  # fmt: skip


def fetch(name_or_folder: str) -> Path:
    """The folder itself, or a hub repository's configuration and safetensors, downloaded into the hub's cache."""
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    try:
        check_hub()
        return Path(snapshot_download(name_or_folder, allow_patterns=["config.json", "*.safetensors", "*.index.json"]))
    except Exception as error:  # the hub client raises many kinds, all of which mean the same here
        raise ModelError(f"model '{name_or_folder}': no such folder, and the hub gave: {first_line(error)}") from error


def read_architecture(folder: Path, *, ignore: Collection[str] = ()) -> Architecture:
    """The architecture that a folder's config.json describes.

    Args:
        folder: Of a Hugging Face model.
        ignore: Unknown keys of the config that the user vouches for.

    Raises:
        ModelError: Missing or damaged file, a model type of no family, a feature that its family does not compute, or a
            key whose effect is unknown.
    """
    config = read_config(folder)
    family = family_of_type(config["model_type"])
    assert family is not None  # read_config has refused others
    return family.format.read(folder / "config.json", config, ignore=ignore)


def read_weights(
    folder: Path, arch: Architecture, *, load: Callable[[Path], dict[str, Tensor]] = load_file
) -> dict[str, Tensor]:
    """The folder's weights under the encoder's names, on the CPU in fp32; a tied projection is left out.

    A folder of the trunk alone, as sentence-embedding models are, gives the trunk's weights only. Only safetensors are
    read; nothing is unpickled.

    Args:
        folder: The folder.
        arch: The architecture that they must fit.
        load: Reads one safetensors file.

    Raises:
        ModelError: A weight is missing, unknown, stored twice or of another shape, or the projection is not tied.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no .safetensors file (pickled weights are not read)")
    stored: dict[str, Tensor] = {}
    for file in files:
        try:
            part = load(file)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: cannot be read ({error})") from error
        if twice := stored.keys() & part.keys():
            raise ModelError(f"{file}: {min(twice)} is in another .safetensors file of this folder too")
        stored.update(part)
    try:
        weights = family_of(arch).format.to_encoder(stored)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    projection = weights.pop(PROJECTION, None) if arch.tied else None
    problems = _misfits(weights, expected_shapes(arch))
    if not problems and projection is not None and not torch.equal(projection, weights[EMBEDDING]):
        problems.append(f"{PROJECTION} differs from the embedding it should be tied to")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ModelError(f"{folder}: weights do not fit the model: {shown}")
    return {name: tensor.float() for name, tensor in weights.items()}


def _misfits(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """How weights differ from the expected names and shapes, one line each; without a head, the trunk alone counts."""
    if not any(of_head(name) for name in weights):
        expected = {name: shape for name, shape in expected.items() if not of_head(name)}
    problems = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    return problems + [
        f"{name} has shape {tuple(weights[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]


def of_head(name: str) -> bool:
    """Whether a weight of an encoder belongs to its language-modeling head."""
    return name.startswith(("head.", "decoder."))


def expected_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored weight of an architecture."""
    with torch.device("meta"):
        encoder = Encoder(arch)
    return {name: tuple(tensor.shape) for name, tensor in encoder.weights().items()}


def folder_weights(weights: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """An encoder's weights under the names of its family's Hugging Face folders."""
    return family_of(arch).format.to_folder(weights, arch)


def save_weights(file: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes weights as safetensors under the names given."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file, metadata={"format": "pt"})


def write_folder(
    out: Path,
    *,
    arch: Architecture,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    card: str,
    start: Mapping[str, Any] | None = None,
    form: Format | None = None,
) -> None:
    """Writes a folder that plain transformers loads: config, safetensors, tokenizer, model card.

    Args:
        out: The folder.
        arch: The architecture.
        weights: Under the encoder's names, without a tied projection.
        tokenizer: The run's.
        card: Text of the model card.
        start: config.json of the start model; its keys that are not the architecture's are carried over.
        form: The layout; None for that of the family.

    Raises:
        ModelError: The folder exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: exists and is not empty")
    out.mkdir(parents=True, exist_ok=True)
    form = form or family_of(arch).format
    form.config(arch, tokenizer, start).save_pretrained(out)
    config = out / "config.json"
    # as text: a key from a file must not become an attribute of the library's object
    values = json.loads(config.read_text(encoding="utf-8")) | carried_keys(start or {})
    config.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    save_weights(out / "model.safetensors", form.to_folder(weights, arch))
    tokenizer.model_max_length = arch.longest_document
    # the library's default names token_type_ids too, which some forward passes refuse
    inputs = form.model_inputs(arch)
    tokenizer.model_input_names = inputs
    tokenizer.init_kwargs["model_input_names"] = inputs
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(card, encoding="utf-8")
