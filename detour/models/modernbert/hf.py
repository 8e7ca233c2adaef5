"""ModernBERT folders of Hugging Face: reading encoders and decoders, writing encoders. Strict in both directions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ModernBertConfig, PreTrainedTokenizerFast

from detour.errors import ConfigError, ModelError
from detour.models.modernbert.architecture import Architecture
from detour.models.modernbert.encoder import TIED, Encoder

log = logging.getLogger(__name__)

_TYPES = ("modernbert", "modernbert-decoder")
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_NAMES = (  # fields of Architecture that the config calls the same
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "global_attn_every_n_layers", "local_attention", "max_position_embeddings", "norm_eps", "norm_bias",
    "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias", "embedding_dropout", "attention_dropout",
    "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
)  # fmt: skip


def fetch(name_or_folder: str) -> Path:
    """The folder itself, or a hub repository's configuration and safetensors, downloaded into the hub's cache."""
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    try:
        return Path(snapshot_download(name_or_folder, allow_patterns=["config.json", "*.safetensors", "*.index.json"]))
    except Exception as error:  # the hub client raises many kinds, all of which mean the same here
        raise ModelError(
            f"model '{name_or_folder}': no such folder, and the hub gave: {str(error).splitlines()[0]}"
        ) from error


def read_architecture(folder: Path) -> Architecture:
    """The architecture that a folder's config.json describes.

    A decoder folder (`ModernBertDecoder`) is read too; its causal window is one narrower and is kept so, and all its
    layers have one rotary base unless transformers 5 wrote it.

    Raises:
        ModelError: Missing or damaged file, another model type, or a feature this model does not have.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    if config.get("model_type") not in _TYPES:
        raise ModelError(f"{path}: model_type is {config.get('model_type')!r}, expected one of {', '.join(_TYPES)}")
    for key, only in {
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "tie_word_embeddings": True,
    }.items():
        if config.get(key, only) != only:
            raise ModelError(f"{path}: {key} is {config[key]!r}, expected {only!r}")
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise ModelError(f"{path}: {', '.join(missing)} missing")
    values = {key: config[key] for key in _NAMES if key in config}
    decoder = config["model_type"] == "modernbert-decoder"
    try:
        if decoder:
            if "sliding_window" in config:  # transformers 4 writes this one and not local_attention
                values.setdefault("local_attention", 2 * config["sliding_window"])
            values["causal_left_window"] = values.get("local_attention", 128) // 2 - 1
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


def _every(config: dict[str, Any]) -> int:
    """Which layers are global, from their list. Raises ValueError if it is not every n-th from the first on."""
    kinds = config["layer_types"]
    for every in (config.get("global_attn_every_n_layers", 3), *range(1, len(kinds) + 1)):
        if kinds == [
            "sliding_attention" if i % every else "full_attention" for i in range(config["num_hidden_layers"])
        ]:
            return every
    raise ValueError(f"layer_types is {kinds}, expected full_attention in every n-th layer from the first on")


def _thetas(config: dict[str, Any], *, decoder: bool) -> tuple[float, float]:
    """Rotary bases of global and local layers, as transformers 4 and 5 write them."""
    if "rope_parameters" in config:  # transformers >= 5: one record a layer type
        layers = config["rope_parameters"]
        return layers["full_attention"]["rope_theta"], layers["sliding_attention"]["rope_theta"]
    global_theta = config.get("global_rope_theta", 160_000.0)
    local_theta = config.get("local_rope_theta", 10_000.0)
    if decoder or local_theta is None:  # transformers 4's decoder rotates all layers alike, whatever its config says
        return global_theta, global_theta
    return global_theta, local_theta


def read_weights(folder: Path, arch: Architecture) -> dict[str, Tensor]:
    """The folder's weights under the encoder's names, on the CPU in fp32; the tied projection is left out.

    Only safetensors are read; nothing is unpickled.

    Raises:
        ModelError: A weight is missing, unknown or of another shape, or the projection is not tied.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no .safetensors file (pickled weights are not read)")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            weights.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: cannot be read ({error})") from error
    weights = _as_encoder(weights)
    tied = weights.pop(TIED, None)
    expected = expected_shapes(arch)
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


def _as_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Decoder names to encoder names: q, k and v joined, lm_head called head. Encoder names pass unchanged."""
    renamed = {name.replace("lm_head.", "head.", 1): tensor for name, tensor in weights.items()}
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


def hf_config(arch: Architecture, tokenizer: PreTrainedTokenizerFast) -> ModernBertConfig:
    """The `ModernBertConfig` of an architecture, with the tokenizer's special ids."""
    special: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    return ModernBertConfig(
        **{key: getattr(arch, key) for key in _NAMES},
        **special,
        global_rope_theta=arch.global_rope_theta,
        local_rope_theta=arch.local_rope_theta,
        architectures=["ModernBertForMaskedLM"],
        torch_dtype="float32",
    )


def write_folder(
    out: Path, *, arch: Architecture, weights: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast, card: str
) -> None:
    """Writes a folder that `AutoModelForMaskedLM.from_pretrained` loads: config, safetensors, tokenizer, model card.

    Raises:
        ModelError: The folder exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: exists and is not empty")
    out.mkdir(parents=True, exist_ok=True)
    hf_config(arch, tokenizer).save_pretrained(out)
    save_file({k: v.contiguous() for k, v in weights.items()}, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.model_max_length = arch.max_position_embeddings
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(card)


@torch.no_grad()
def reload_difference(out: Path, *, arch: Architecture, weights: dict[str, Tensor]) -> float:
    """Largest difference of logits between the exported folder in plain transformers and our own model, as a share of
    the largest logit (but never of less than 1).

    Two documents of different length, the shorter one padded for transformers: bidirectional attention, masking and
    the head are all exercised. Loading fails on any missing or unexpected weight.
    """
    from transformers import AutoModelForMaskedLM

    theirs, info = AutoModelForMaskedLM.from_pretrained(
        out, output_loading_info=True, attn_implementation="sdpa", dtype=torch.float32
    )
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ModelError(
            f"{out}: transformers misses {info['missing_keys']} or does not know {info['unexpected_keys']}"
        )
    theirs.config.reference_compile = False
    ours = Encoder(arch).eval()
    ours.load_state_dict({**weights, TIED: weights["model.embeddings.tok_embeddings.weight"]})
    long, short = min(2 * arch.local_attention + 5, arch.max_position_embeddings), 7
    ids_BT = torch.randint(0, arch.vocab_size, (2, long), generator=torch.Generator().manual_seed(0))
    real_BT = torch.arange(long) < torch.tensor([[long], [short]])
    expected = theirs.eval()(input_ids=ids_BT, attention_mask=real_BT.long()).logits
    got = ours.logits(ids_BT, torch.tensor([[long], [short]]), "bidirectional")
    return ((got - expected)[real_BT].abs().max() / expected[real_BT].abs().max().clamp(min=1)).item()
