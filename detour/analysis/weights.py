"""Relative weight change ||B - A|| / ||A|| (Frobenius norm), per layer and module, from one folder to the next."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from detour.errors import ConfigError, ModelError
from detour.evaluation.models import Model
from detour.models.hf import read_architecture, read_weights

MODULES = ("attention_qkv", "attention_out", "mlp_in", "mlp_out", "norms", "embeddings", "head")
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(?:weight|bias)$")
_IN_LAYER = {"attn.Wqkv": "attention_qkv", "attn.Wo": "attention_out", "mlp.Wi": "mlp_in", "mlp.Wo": "mlp_out",
             "attn_norm": "norms", "mlp_norm": "norms", "attn.q_norm": "norms", "attn.k_norm": "norms"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """Weight change of a group of parameters.

    Attributes:
        phase: Names of the folders before and after.
        layer: Index of the layer; None for the entire model, parameters outside the layers included.
        module: One of MODULES, or "all" for all of them together.
        parameters: Number of parameters.
        absolute: ||B - A||_F over all of the group's parameters.
        norm: ||A||_F.
    """

    phase: tuple[str, str]
    layer: int | None
    module: str
    parameters: int
    absolute: float
    norm: float

    @property
    def relative(self) -> float:
        """||B - A||_F / ||A||_F; 0 if nothing changed, NaN if parameters that were all zero have changed."""
        if not self.absolute:
            return 0.0
        return self.absolute / self.norm if self.norm else math.nan

    def row(self) -> dict[str, Any]:
        """The change as a row of CSV and JSON."""
        return {
            "before": self.phase[0],
            "after": self.phase[1],
            "layer": self.layer,
            "module": self.module,
            "relative_change": self.relative,
            "absolute_change": self.absolute,
            "norm_before": self.norm,
            "parameters": self.parameters,
        }


def place_of(name: str) -> tuple[int | None, str]:
    """Layer and module of a parameter, by its name in the encoder. Raises ModelError for an unknown name."""
    if found := _LAYER.match(name):
        return int(found[1]), _IN_LAYER[found[2]]
    if name.startswith(("model.embeddings.norm.", "model.final_norm.")):
        return None, "norms"
    if name.startswith("model.embeddings."):
        return None, "embeddings"
    if name.startswith(("head.", "decoder.")):
        return None, "head"
    raise ModelError(f"parameter {name}: not one of an encoder")


def read_folder(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder under the encoder's names, in fp32. Raises ModelError (`read_weights`)."""
    return read_weights(folder, read_architecture(folder))


def weight_changes(phase: tuple[str, str], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[Change]:
    """Changes of each module of each layer, of each layer, of each module over the entire model, and of all parameters.

    Args:
        phase: Names of the two folders.
        before: Parameter name -> tensor (A).
        after: The same parameters (B).

    Raises:
        ModelError: The two have different parameters or shapes.

    Sums are in float64.
    """
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise ModelError(
            f"{phase[0]} and {phase[1]}: {odd[0]} and {len(odd) - 1} other parameters are in one of them only"
        )
    sums: dict[tuple[int | None, str], list[float]] = {}
    for name, a in before.items():
        b = after[name]
        if a.shape != b.shape:
            raise ModelError(f"{phase[0]} and {phase[1]}: {name} has shapes {tuple(a.shape)} and {tuple(b.shape)}")
        a, b = a.double(), b.double()
        layer, module = place_of(name)
        for key in dict.fromkeys([(layer, module), (layer, "all"), (None, module), (None, "all")]):
            entry = sums.setdefault(key, [0, 0.0, 0.0])
            entry[0] += a.numel()
            entry[1] += float((b - a).square().sum())
            entry[2] += float(a.square().sum())
    return [
        Change(
            phase=phase,
            layer=layer,
            module=module,
            parameters=int(count),
            absolute=math.sqrt(moved),
            norm=math.sqrt(norm),
        )
        for (layer, module), (count, moved, norm) in sorted(sums.items(), key=_order)
    ]


def _order(item: tuple[tuple[int | None, str], Any]) -> tuple[float, int]:
    (layer, module), _ = item
    return (math.inf if layer is None else layer, len(MODULES) if module == "all" else MODULES.index(module))


def phase_changes(models: Sequence[Model]) -> list[Change]:
    """Changes from each folder to the next, and, with more than two folders, from the first to the last.

    Raises:
        ConfigError: Fewer than two folders.
        ModelError: A folder cannot be read, or two of them have different parameters.
    """
    if len(models) < 2:
        raise ConfigError(f"weights: {len(models)} folder, expected two or more in order")
    first = before = read_folder(models[0].folder)
    changes: list[Change] = []
    for earlier, later in pairwise(models):
        after = read_folder(later.folder)
        changes += weight_changes((earlier.name, later.name), before, after)
        before = after
    if len(models) > 2:
        changes += weight_changes((models[0].name, models[-1].name), first, before)
    return changes
