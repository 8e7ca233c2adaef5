"""Merges Hugging Face folders of encoders into a new one, of any architecture that transformers has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detour.data.tokenizer import load_tokenizer
from detour.data.tokenizer_differences import other_rules, vocabulary_differences
from detour.errors import ModelError
from detour.evaluation.derived import derived_card, identity, refuse_full, write_like
from detour.evaluation.models import Model, load_masked_lm
from detour.markup import markdown
from detour.merging.recipe import Recipe, merged

RECORD = "merge.json"
SHOWN = 5  # differences in an error
_OF_THE_FILE = (  # keys of config.json about the folder, or about how it is computed
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "reference_compile", "use_cache",
)  # fmt: skip


@dataclass(frozen=True)
class Parent:
    """A model to merge, in memory.

    Attributes:
        model: Its name, folder, and hash.
        weights: Parameter name in transformers -> tensor in fp32; tied parameters once.
        config: Its configuration with the library's defaults, without keys about the file.
    """

    model: Model
    weights: dict[str, Tensor]
    config: dict[str, Any]

    @classmethod
    def load(cls, model: Model) -> Parent:
        """Reads a folder with its masked-LM head. Raises ModelError if it cannot be loaded, or weights are missing."""
        loaded = load_masked_lm(model.folder)
        config = {key: value for key, value in loaded.config.to_dict().items() if key not in _OF_THE_FILE}
        return cls(model, {name: parameter.detach() for name, parameter in loaded.named_parameters()}, config)


def load_parents(models: Sequence[Model]) -> list[Parent]:
    """Reads the folders and checks that they can be merged.

    Raises:
        ModelError: A folder cannot be loaded, or tokenizers, configurations, or parameters differ; all differences between
            the first model and another are listed.
    """
    parents = [Parent.load(model) for model in models]
    for other in parents[1:]:
        if found := _differences(parents[0], other):
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise ModelError(
                f"{parents[0].model.name} and {other.model.name} cannot be merged: {'; '.join(found[:SHOWN])}{more}"
            )
    return parents


def merge_models(models: Sequence[Model], out: Path, recipe: Recipe, *, base: Model | None = None) -> Path:
    """Writes a Hugging Face folder with the merged weights in float32, and the first model's configuration and tokenizer.

    The folder has its origin in ``merge.json`` and in its model card. transformers reloads it before it appears under its
    name. With weights of 1 and 0, linear and SLERP return a parent bitwise.

    Args:
        models: The parents.
        out: The new folder; must not exist, or be empty.
        recipe: How to merge.
        base: For "ties" and "dare_ties": the model that the parents were trained from.

    Raises:
        ConfigError: The recipe does not fit the models.
        ModelError: The models differ in more than their weights, or a folder cannot be read or written.

    Cost: all parents in memory in fp32.
    """
    recipe.validate(len(models), base=base is not None)
    out = refuse_full(out)
    parents = load_parents([*models, *([base] if base else [])])
    write_merged(out, parents[: len(models)], recipe, base=parents[-1] if base else None)
    return out


def write_merged(out: Path, parents: Sequence[Parent], recipe: Recipe, *, base: Parent | None = None) -> None:
    """Writes the folder of a merge of parents in memory; see `merge_models`."""
    weights = dict(merged([parent.weights for parent in parents], recipe, base=base.weights if base else None))
    record = {
        "parents": [identity(parent.model) for parent in parents],
        "base": identity(base.model) if base else None,
        "recipe": _used(recipe),
    }
    write_like(
        out,
        parents[0].model.folder,
        weights,
        record_name=RECORD,
        record=record,
        card=_card(parents, base, recipe),
        check=lambda folder: _check(folder, weights),
    )


def _check(folder: Path, weights: Mapping[str, Tensor]) -> None:
    reread = dict(load_masked_lm(folder).named_parameters())
    if reread.keys() != weights.keys() or not all(torch.equal(reread[name], weights[name]) for name in weights):
        raise ModelError(f"{folder}: the weights that transformers loads are not those that were written")


def _used(recipe: Recipe) -> dict[str, Any]:
    """The options that this method reads."""
    read = {"linear": (), "slerp": (), "ties": ("density", "scale"), "dare_ties": ("density", "scale", "seed")}
    return {
        key: value
        for key, value in asdict(recipe).items()
        if key in ("method", "weights", "groups", *read[recipe.method])
    }


def _card(parents: Sequence[Parent], base: Parent | None, recipe: Recipe) -> str:
    options = {key: value for key, value in _used(recipe).items() if key not in ("method", "weights", "groups")}
    what = f"Method: {recipe.method}" + "".join(f"; {key} {value:g}" for key, value in options.items())
    groups = "; ".join(f"{name}: {', '.join(f'{w:g}' for w in weights)}" for name, weights in recipe.groups.items())
    text = f"Merged from the models below. {markdown(what)}."
    text += f" Other weights by group: {markdown(groups)}." if groups else ""
    rows = [
        (f"weight {weight:g}", parent.model.name, parent.model.sha256)
        for weight, parent in zip(recipe.weights, parents, strict=True)
    ]
    rows += [("base", base.model.name, base.model.sha256)] if base else []
    return derived_card("Merge", tags=["merge"], text=f"{text} See `{RECORD}`; made by `detour merge`.", parents=rows)


def _differences(a: Parent, b: Parent) -> list[str]:
    """Why two models cannot be merged, one line each."""
    found = [
        f"config.json: {key} is {a.config.get(key)!r} and {b.config.get(key)!r}"[:200]
        for key in sorted(a.config.keys() | b.config.keys())
        if a.config.get(key) != b.config.get(key)
    ]
    tokenizers = [load_tokenizer(parent.model.folder) for parent in (a, b)]
    if lines := vocabulary_differences(*tokenizers):
        found += [f"tokenizers: {line}" for line in lines]
    elif other_rules(*tokenizers):
        found.append("tokenizers: merges, normalization, or template differ")
    if odd := sorted(a.weights.keys() ^ b.weights.keys()):
        found.append(f"parameters: {odd[0]} is in one of them only")
    found += [
        f"{name}: shapes {tuple(a.weights[name].shape)} and {tuple(b.weights[name].shape)}"
        for name in a.weights
        if name in b.weights and a.weights[name].shape != b.weights[name].shape
    ]
    return found
