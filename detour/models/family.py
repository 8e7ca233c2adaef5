"""What a model family is, and the registry of families. Adding one is described in docs/families.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from detour.models.architecture import Architecture
from detour.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from detour.models.hf_format import Format
    from detour.models.layers import BaseTrunk


class Modules(Protocol):
    """The modules of a family: a Python module with these names. ``Head`` maps [M, C] to [M, C]."""

    Trunk: Callable[[Any], BaseTrunk]
    Head: Callable[[Any], nn.Module]
    reset_parameters: Callable[[nn.Module, Any], None]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family. Python modules are named, and imported at their first use: this record is read without torch.

    Attributes:
        name: Registered name.
        architecture: Record of its hyperparameters; with the limits on positions and the attention rules.
        sizes: Architectures by name, for `model.size`.
        model_types: Values of ``model_type`` in a config.json that belong to it.
        modules_in: Python module that has the names of `Modules`.
        format_in: Python module whose ``FORMAT`` is its `detour.models.hf_format.Format`.
    """

    name: str
    architecture: type[Architecture]
    sizes: Mapping[str, Architecture]
    model_types: tuple[str, ...]
    modules_in: str
    format_in: str

    @property
    def modules(self) -> Modules:
        """The modules. Imports torch."""
        return import_module(self.modules_in)  # type: ignore[return-value]

    @property
    def format(self) -> Format:
        """How its Hugging Face folders are read and written. Imports transformers."""
        return import_module(self.format_in).FORMAT


registry: Registry[Family] = Registry("families")
