"""Hugging Face folders of ModernBERT: strict reading of encoders and decoders, and writing of encoders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ModernBertConfig, PreTrainedTokenizerFast

from detour.data.tokenizer import MODEL_INPUTS
from detour.errors import ModelError, first_line
from detour.models.modernbert.architecture import Architecture
from detour.models.modernbert.encoder import TIED, Encoder
from detour.models.modernbert.hf_config import NAMES, TOKEN_IDS, carried_keys, read_architecture, read_config
from detour.models.modernbert.reload import reload_difference

__all__ = ["expected_shapes", "fetch", "hf_config", "read_architecture", "read_config", "read_weights",
           "reload_difference", "write_folder"]  # fmt: skip


def fetch(name_or_folder: str) -> Path:
    """The path of a local folder, or of a hub repository's configuration and safetensors, downloaded into the hub's cache."""
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    try:
        return Path(snapshot_download(name_or_folder, allow_patterns=["config.json", "*.safetensors", "*.index.json"]))
    except Exception as error:  # the hub client raises many types of errors
        raise ModelError(f"model '{name_or_folder}': no such folder, and the hub gave: {first_line(error)}") from error


def read_weights(
    folder: Path, arch: Architecture, *, load: Callable[[Path], dict[str, Tensor]] = load_file
) -> dict[str, Tensor]:
    """The folder's weights under the encoder's names, on the CPU in fp32, without the tied projection.

    A folder of the trunk alone (`ModernBertModel`, as sentence-embedding models are), with names that begin with
    ``model.`` or without that prefix, gives the trunk's weights only. Only safetensors are read; nothing is unpickled.

    Args:
        folder: The folder.
        arch: The expected architecture.
        load: Reads one safetensors file.

    Raises:
        ModelError: A weight is missing, unknown, stored twice or of another shape, or the projection is not tied.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no .safetensors file (pickled weights are not read)")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            stored = load(file)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: cannot be read ({error})") from error
        if twice := weights.keys() & stored.keys():
            raise ModelError(f"{file}: {min(twice)} is in another .safetensors file of this folder too")
        weights.update(stored)
    weights = _as_encoder(weights)
    tied = weights.pop(TIED, None)
    expected = expected_shapes(arch)
    if not any(_of_head(name) for name in weights):
        expected = {name: shape for name, shape in expected.items() if not _of_head(name)}
    problems = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(weights[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if not problems and tied is not None and not torch.equal(tied, weights["model.embeddings.tok_embeddings.weight"]):
        problems.append(f"{TIED} differs from the embedding it should be tied to")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ModelError(f"{folder}: weights do not fit the model: {shown}")
    return {name: tensor.float() for name, tensor in weights.items()}


def _of_head(name: str) -> bool:
    return name.startswith(("head.", "decoder."))


def _as_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of other classes to the encoder's names; those of the encoder are unchanged.

    A trunk alone gets the prefix ``model.``; of decoders q, k and v are joined, and lm_head is called head.
    """
    prefix = "" if any(name.startswith("model.") for name in weights) else "model."
    trunk = ("embeddings.", "layers.", "final_norm.")
    renamed = {
        prefix + name if name.startswith(trunk) else name.replace("lm_head.", "head.", 1): tensor
        for name, tensor in weights.items()
    }
    for name in [name for name in renamed if name.endswith(("attn.q_proj.weight", "attn.q_proj.bias"))]:
        stem, kind = name.rsplit("q_proj.", 1)
        parts = [renamed.pop(f"{stem}{part}_proj.{kind}", None) for part in "qkv"]
        if any(part is None for part in parts):
            raise ModelError(f"{stem}: q_proj without its k_proj and v_proj")
        renamed[f"{stem}Wqkv.{kind}"] = torch.cat(parts)  # type: ignore[arg-type]
    return renamed


def expected_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored weight of an architecture."""
    with torch.device("meta"):
        encoder = Encoder(arch)
    return {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items() if name != TIED}


def hf_config(
    arch: Architecture, tokenizer: PreTrainedTokenizerFast, *, start: Mapping[str, Any] | None = None
) -> ModernBertConfig:
    """The `ModernBertConfig` of an architecture, with the tokenizer's special ids.

    Args:
        arch: The architecture.
        tokenizer: Its ids take precedence; [CLS] and [SEP] are bos and eos if neither it nor ``start`` defines these.
        start: config.json of the start model, for special ids that the tokenizer does not define.
    """
    start = start or {}
    special: dict[str, Any] = {}
    for key in TOKEN_IDS:
        id = getattr(tokenizer, key, None)
        special[key] = start.get(key) if id is None else id
    special["bos_token_id"] = tokenizer.cls_token_id if special["bos_token_id"] is None else special["bos_token_id"]
    special["eos_token_id"] = tokenizer.sep_token_id if special["eos_token_id"] is None else special["eos_token_id"]
    for key in ("mask_token_id", "unk_token_id"):  # not keys of ModernBertConfig
        if key not in start:
            del special[key]
    return ModernBertConfig(
        **{key: getattr(arch, key) for key in NAMES},
        **special,
        global_rope_theta=arch.global_rope_theta,
        local_rope_theta=arch.local_rope_theta,
        architectures=["ModernBertForMaskedLM"],
        torch_dtype="float32",
    )


def write_folder(
    out: Path,
    *,
    arch: Architecture,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    card: str,
    start: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that `AutoModelForMaskedLM.from_pretrained` loads: config, safetensors, tokenizer, model card.

    Args:
        out: The folder.
        arch: The architecture.
        weights: Under the encoder's names, without the tied projection.
        tokenizer: The run's.
        card: Text of the model card.
        start: config.json of the start model; keys that do not describe the architecture are carried over.

    Raises:
        ModelError: The folder exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: exists and is not empty")
    out.mkdir(parents=True, exist_ok=True)
    hf_config(arch, tokenizer, start=start).save_pretrained(out)
    config = out / "config.json"
    # written as text, because a key from a file must not become an attribute of the config object
    values = json.loads(config.read_text(encoding="utf-8")) | carried_keys(dict(start or {}))
    config.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file({k: v.contiguous() for k, v in weights.items()}, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.model_max_length = arch.max_position_embeddings
    # the library's default includes token_type_ids, which ModernBERT's forward pass does not accept
    tokenizer.model_input_names = MODEL_INPUTS
    tokenizer.init_kwargs["model_input_names"] = MODEL_INPUTS
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(card, encoding="utf-8")
