"""What differs between the versions of torch and transformers under which the tests run (docs/install.md), in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from packaging.version import Version
from torch import Tensor, nn

TRANSFORMERS_5 = Version(transformers.__version__).major >= 5


def save_as_4(config: Any, folder: Path, **changes: Any) -> Path:
    """Saves a config with the keys that transformers 4 writes, and those of ``changes``; `...` removes one."""
    config.save_pretrained(folder)
    return edit_as_4(folder, **changes)


def edit_as_4(folder: Path, **changes: Any) -> Path:
    """Gives the config.json of a folder the keys that transformers 4 writes, and those of ``changes``; `...` removes one."""
    path = folder / "config.json"
    values = as_4(json.loads(path.read_text())) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
    return folder


def as_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that transformers 4 writes for what either version has written."""
    values = dict(config)
    rope = values.pop("rope_parameters", None)
    kinds = values.pop("layer_types", None)
    if rope is None:
        return values | ({} if kinds is None else {"layer_types": kinds})
    if "full_attention" in rope:  # ModernBERT, whose version 4 knows no list of layers
        values["global_rope_theta"] = rope["full_attention"]["rope_theta"]
        values["local_rope_theta"] = rope["sliding_attention"]["rope_theta"]
        every = next((i for i, kind in enumerate(kinds) if i and kind == "full_attention"), len(kinds))
        return values | {"global_attn_every_n_layers": every}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    values["rope_theta"] = rope["rope_theta"]
    values["rope_scaling"] = None if scaling == {"rope_type": "default"} else scaling
    return values


def parameters_of(model: Any) -> dict[str, nn.Parameter]:
    """A Hugging Face model's parameters by name, a tied projection under the name of the embedding."""
    embedding = model.get_input_embeddings().weight
    every: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    name_of_embedding = next(name for name, p in every.items() if p is embedding and "embed" in name)
    return {name_of_embedding if p is embedding else name: p for name, p in model.named_parameters()}
