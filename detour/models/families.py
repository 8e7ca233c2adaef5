"""The model families of this library, and the sizes that `model.size` names."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detour.errors import ConfigError
from detour.models.architecture import Architecture
from detour.models.bert.architecture import FAMILY as BERT
from detour.models.family import Family, registry
from detour.models.llama.architecture import FAMILY as LLAMA
from detour.models.modernbert.architecture import FAMILY as MODERNBERT
from detour.options import parse
from detour.registry import suggestion

for _family in (MODERNBERT, BERT, LLAMA):
    registry.register(_family.name)(_family)


def all_families() -> list[Family]:
    """Every registered family, by name."""
    return [registry.get(name) for name in registry.names()]


def family_of(arch: Architecture) -> Family:
    """The family of an architecture."""
    return registry.get(arch.family)


def family_of_type(model_type: object) -> Family | None:
    """The family that reads folders of a Hugging Face ``model_type``; None if there is none."""
    return next((family for family in all_families() if model_type in family.model_types), None)


def model_types() -> list[str]:
    """Every ``model_type`` that can be read."""
    return [model_type for family in all_families() for model_type in family.model_types]


def sizes() -> dict[str, Architecture]:
    """Every named size. Raises ConfigError if two families use the same name."""
    found: dict[str, Architecture] = {}
    for family in all_families():
        if twice := found.keys() & family.sizes.keys():
            raise ConfigError(f"families: the size '{min(twice)}' of {family.name} belongs to another family too")
        found |= family.sizes
    return found


def architecture(size: str, overrides: dict[str, Any] | None = None) -> Architecture:
    """The architecture of a named size, with some fields overridden.

    Raises:
        ConfigError: A size or field is unknown, or a value has the wrong type. The message suggests the nearest name.
    """
    known = sizes()
    if size not in known:
        raise ConfigError(f"model.size: no '{size}'{suggestion(size, known)}; known: {', '.join(known)}")
    values = {**asdict(known[size]), **(overrides or {})}
    return parse(type(known[size]), values, prefix="model.architecture")
