"""A recipe of a merge, and the merged weights of parents that are in memory."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from detour.analysis.transplant import parse_layers
from detour.errors import ConfigError
from detour.merging import arithmetic

Method = Literal["linear", "slerp", "ties", "dare_ties"]
METHODS: tuple[Method, ...] = ("linear", "slerp", "ties", "dare_ties")
TASK_VECTORS: tuple[Method, ...] = ("ties", "dare_ties")  # need a base
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_EMBEDDINGS = re.compile(r"(?:^|\.)embeddings\.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How parents are merged.

    Attributes:
        method: "linear", "slerp" (two parents), "ties", or "dare_ties".
        weights: One per parent, at least 0, with sum 1.
        groups: Group of parameters -> the weights of the parents there. A group is "embeddings", "head" (all that is outside
            the layers and the embeddings), or layers as `parse_layers` reads them ("low", "0-7").
        density: "ties": fraction of each task vector that is kept, the largest in magnitude. "dare_ties": probability with
            which a number of it is kept.
        scale: Factor of the merged task vector ("ties", "dare_ties").
        seed: Seed of the draws of "dare_ties".
    """

    method: Method = "linear"
    weights: tuple[float, ...]
    groups: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    density: float = 0.2
    scale: float = 1.0
    seed: int = 0

    def validate(self, parents: int, *, base: bool) -> None:
        """Checks the recipe against the number of parents, and whether there is a base.

        Raises:
            ConfigError: Naming the value, what was found, and what was expected.
        """
        if self.method not in METHODS:
            raise ConfigError(f"method: '{self.method}', expected one of {', '.join(METHODS)}")
        if parents < 2:
            raise ConfigError(f"merge: {parents} model, expected two or more")
        if self.method == "slerp" and parents != 2:
            raise ConfigError(f"method 'slerp': {parents} models, expected two")
        if base != (self.method in TASK_VECTORS):
            needs = "needs a base model" if self.method in TASK_VECTORS else "takes no base model"
            raise ConfigError(f"method '{self.method}': {needs}")
        for where, weights in {"weights": self.weights, **{f"group {k}": w for k, w in self.groups.items()}}.items():
            if len(weights) != parents:
                raise ConfigError(f"{where}: {len(weights)} weights for {parents} models")
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
                raise ConfigError(f"{where}: {list(weights)}, expected weights of at least 0")
            if not math.isclose(sum(weights), 1, abs_tol=1e-9):
                raise ConfigError(f"{where}: the sum is {sum(weights):g}, expected 1")
        if not 0 < self.density <= 1:
            raise ConfigError(f"density: {self.density}, expected more than 0 and at most 1")
        if not math.isfinite(self.scale):
            raise ConfigError(f"scale: {self.scale}, expected a finite number")


def merged(
    parents: Sequence[Mapping[str, Tensor]], recipe: Recipe, *, base: Mapping[str, Tensor] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yields name and merged tensor of every parameter.

    Args:
        parents: Parameter name -> tensor of each parent; the same names and shapes.
        recipe: A recipe that was validated.
        base: The model that task vectors are differences from, for "ties" and "dare_ties".

    Raises:
        ConfigError: A group names layers that do not exist, or overlaps another.

    Cost: "ties" holds one task vector of magnitudes more; the rest, one tensor at a time.
    """
    weights_of = _weights_by_name(list(parents[0]), recipe)
    if base is None:
        combine = arithmetic.slerp if recipe.method == "slerp" else arithmetic.linear
        for name in parents[0]:
            yield name, combine([parent[name] for parent in parents], weights_of[name])
        return
    trims = [_threshold(parent, base, recipe) for parent in parents]
    for name, start in base.items():
        deltas = []
        for index, (parent, trim) in enumerate(zip(parents, trims, strict=True)):
            delta = parent[name].double() - start.double()
            if recipe.method == "ties":
                deltas.append(torch.where(delta.abs() >= trim, delta, torch.zeros_like(delta)))
            else:
                deltas.append(arithmetic.drop(delta, recipe.density, _seed(recipe.seed, index, name)))
        change = recipe.scale * arithmetic.elect(deltas, weights_of[name])
        yield name, (start.double() + change).to(start.dtype)


def group_of(name: str) -> int | str:
    """The layer of a parameter, or "embeddings" or "head", by its name in transformers."""
    if found := _LAYER.search(name):
        return int(found[1])
    return "embeddings" if _EMBEDDINGS.search(name) else "head"


def _threshold(parent: Mapping[str, Tensor], base: Mapping[str, Tensor], recipe: Recipe) -> float:
    if recipe.method != "ties" or recipe.density == 1:
        return 0.0
    deltas = {name: parent[name].double() - start.double() for name, start in base.items()}
    return arithmetic.threshold(deltas, recipe.density)


def _weights_by_name(names: Sequence[str], recipe: Recipe) -> dict[str, tuple[float, ...]]:
    """The parents' weights for each parameter."""
    groups = {name: group_of(name) for name in names}
    layers = 1 + max((group for group in groups.values() if isinstance(group, int)), default=-1)
    owner: dict[int | str, str] = {}
    for spec in recipe.groups:
        places: list[int | str] = [spec] if spec in ("embeddings", "head") else [*parse_layers(spec, layers)]
        for place in places:
            if place in owner:
                what = f"layer {place}" if isinstance(place, int) else place
                raise ConfigError(f"group {spec}: {what} is in the group {owner[place]} too")
            owner[place] = spec
    return {name: recipe.groups[owner[at]] if at in owner else recipe.weights for name, at in groups.items()}


def _seed(seed: int, parent: int, name: str) -> int:
    """A seed that differs by parent and parameter, and does not depend on the order of parameters."""
    return int.from_bytes(hashlib.sha256(f"{seed} {parent} {name}".encode()).digest()[:7], "big")
