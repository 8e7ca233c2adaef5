"""Weights of a larger model from those of a smaller one, as ModernBERT-large started (arXiv 2412.13663, appendix A.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from detour.errors import ModelError
from detour.models.architecture import Architecture
from detour.models.encoder import Encoder

TILED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def tiled_indices(small: int, large: int) -> Tensor:
    """For each of ``large`` positions, which of ``small`` it copies: these at the center, wrapped around beyond them.

    Three of eight give 1 2 | 0 1 2 | 0 1 2: the left margin is (large - small) // 2.
    """
    return (torch.arange(large) - (large - small) // 2) % small


def layer_sources(small: int, large: int) -> list[int]:
    """For each layer of the larger model, the layer that it copies: round(i * small / large) (Gopher, arXiv 2112.11446)."""
    return [min(round(index * small / large), small - 1) for index in range(large)]


def tile(weights: Mapping[str, Tensor], small: Architecture, large: Architecture) -> dict[str, Tensor]:
    """The weights of a larger model of the same family: each matrix at the center, and wrapped around beyond.

    Attention heads are kept whole and tiled as units; the two halves of a gated feed-forward layer are tiled each by
    itself. Layers are repeated (`layer_sources`), whether they are local or global. Rows of the vocabulary stay as they are.

    Args:
        weights: Under the encoder's names; without the head, if that is to be drawn.
        small: Their architecture.
        large: The architecture to fill, with heads of the same width.

    Raises:
        ModelError: A size shrinks, the heads have another width, or the numbers of key and value heads per head differ.
    """
    check_tiling(small, large)
    sources = layer_sources(small.num_hidden_layers, large.num_hidden_layers)
    wide = tiled_indices(small.hidden_size, large.hidden_size)
    tiled: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
        if not found:
            tiled[name] = _outside_layers(name, tensor, wide)
            continue
        made = _in_layer(found[2], tensor, small, large, wide)
        for index, source in enumerate(sources):
            if source == int(found[1]):
                tiled[f"model.layers.{index}.{found[2]}"] = made.clone()
    with torch.device("meta"):
        wanted = Encoder(large).weights()
    for name in wanted.keys() - tiled.keys():
        if re.fullmatch(r"model\.layers\.\d+\.attn_norm\.(weight|bias)", name):
            # ModernBERT's first layer has none; where another layer copies it, it is the identity as at initialization
            tiled[name] = torch.full(wanted[name].shape, float(name.endswith("weight")))
    return tiled


def check_tiling(small: Architecture, large: Architecture) -> None:
    """Raises ModelError unless every size is at least that of the smaller model and the heads fit (`tile`)."""
    before, after = asdict(small), asdict(large)
    lines = [
        f"{key} is {before[key]} there and {after[key]} here, expected at least as many"
        for key in TILED
        if key in before and after[key] < before[key]
    ]
    if small.head_dim != large.head_dim:
        lines.append(f"heads are {small.head_dim} wide there and {large.head_dim} here, expected the same")
    if _key_value_heads(small) * large.num_attention_heads != _key_value_heads(large) * small.num_attention_heads:
        lines.append("the number of query heads per key and value head differs")
    if lines:
        raise ModelError(f"model.tile: {'; '.join(lines)}")


def _key_value_heads(arch: Architecture) -> int:
    return getattr(arch, "num_key_value_heads", arch.num_attention_heads)


def _heads(small: int, large: int, head_dim: int) -> Tensor:
    """Indices of the components of heads, each head as a unit."""
    return (tiled_indices(small, large)[:, None] * head_dim + torch.arange(head_dim)).flatten()


def _outside_layers(name: str, tensor: Tensor, wide: Tensor) -> Tensor:
    if name == "decoder.bias":
        return tensor.clone()
    if name.startswith("head.dense.") and tensor.ndim == 2:
        return tensor[wide][:, wide]
    return tensor[..., wide]  # embeddings, whose rows stay, and norms


def _in_layer(part: str, tensor: Tensor, small: Architecture, large: Architecture, wide: Tensor) -> Tensor:
    module = part.rsplit(".", 1)[0]
    inner = tiled_indices(small.intermediate_size, large.intermediate_size)
    query = _heads(small.num_attention_heads, large.num_attention_heads, small.head_dim)
    keys = _heads(_key_value_heads(small), _key_value_heads(large), small.head_dim)
    rows, columns = wide, wide
    if module == "attn.Wqkv":
        ends = [0, small.num_attention_heads * small.head_dim, _key_value_heads(small) * small.head_dim]
        rows = torch.cat([query, ends[1] + keys, ends[1] + ends[2] + keys])
    elif module == "attn.Wo":
        columns = query
    elif module in ("attn.q_norm", "attn.k_norm"):
        return tensor
    elif module == "mlp.Wi":
        parts = len(tensor) // small.intermediate_size  # two if it is gated
        rows = torch.cat([half * small.intermediate_size + inner for half in range(parts)])
    elif module == "mlp.Wo":
        columns = inner
    return tensor[rows][:, columns] if tensor.ndim == 2 else tensor[rows]
