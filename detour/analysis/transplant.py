"""Transplants: a folder with some parameter groups of another one, to find where a difference resides."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detour.analysis.weights import place_of, read_folder
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256
from detour.errors import ConfigError, ModelError
from detour.evaluation.derived import derived_card, identity, refuse_full, write_like
from detour.evaluation.models import Model
from detour.markup import markdown
from detour.models.hf import carried_keys, folder_weights, read_architecture, read_config
from detour.models.hf_config import TOKEN_IDS

GROUPS = {  # what --modules takes -> modules of `detour.analysis.weights`
    "attention": {"attention_qkv", "attention_out"},
    "mlp": {"mlp_in", "mlp_out"},
    "norms": {"norms"},
    "embeddings": {"embeddings"},
    "head": {"head"},
}
THIRDS = ("low", "mid", "late")
RECORD = "transplant.json"


def parse_layers(text: str, layers: int) -> list[int]:
    """Indices of layers from "low", "mid", "late", "all", an index, a range "0-7", or several of them with commas.

    Low, mid, and late are the thirds of the layers in order. If the number of layers is not divisible by three, the first
    third, then the second, has one more: 0-7, 8-14, and 15-21 of 22 layers, as in the paper.

    Raises:
        ConfigError: Another form, a layer that does not exist, or thirds of fewer than three layers.
    """
    found: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        if part == "all":
            found |= set(range(layers))
        elif part in THIRDS:
            if layers < len(THIRDS):
                raise ConfigError(f"layers '{part}': the model has {layers}, expected at least {len(THIRDS)}")
            sizes = [(layers + 2 - third) // 3 for third in range(3)]
            begin = sum(sizes[: THIRDS.index(part)])
            found |= set(range(begin, begin + sizes[THIRDS.index(part)]))
        elif match := re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part):
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last < layers:
                raise ConfigError(f"layers '{part}': expected layers of 0-{layers - 1}, in ascending order")
            found |= set(range(first, last + 1))
        else:
            raise ConfigError(f"layers '{part[:40]}': expected low, mid, late, all, an index, or a range such as 0-7")
    return sorted(found)


def select_parameters(
    names: Iterable[str], *, layers: Collection[int] | None = None, modules: Collection[str] | None = None
) -> list[str]:
    """Names of the parameters in the given layers and modules.

    Args:
        names: All parameter names, as the encoder has them.
        layers: Layers; None for all layers and what lies outside of them (embeddings, final norm, head).
        modules: Names in GROUPS; None for all.

    Raises:
        ConfigError: An unknown module, or a module outside the layers ("embeddings", "head") together with ``layers``.
    """
    for module in modules or ():
        if module not in GROUPS:
            raise ConfigError(f"modules: '{module[:40]}', expected some of {', '.join(GROUPS)}")
        if layers is not None and module in ("embeddings", "head"):
            raise ConfigError(f"modules: '{module}' lies outside the layers; leave out --layers to transplant it")
    wanted = None if modules is None else set().union(*(GROUPS[module] for module in modules))
    chosen = []
    for name in names:
        layer, module = place_of(name)
        if (layers is None or layer in layers) and (wanted is None or module in wanted):
            chosen.append(name)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Transplant:
    """What a transplant did.

    Attributes:
        out: The new folder.
        parameters: Names of the parameters from the donor.
        numbers: Count of their numbers.
    """

    out: Path
    parameters: list[str]
    numbers: int


def transplant(
    donor: Model,
    receiver: Model,
    out: Path,
    *,
    layers: str | None = None,
    modules: Sequence[str] | None = None,
) -> Transplant:
    """Writes a Hugging Face folder: the receiver with the donor's parameters in the chosen layers and modules.

    Weights are copied bitwise and stored in float32; configuration and tokenizer are the receiver's files. The folder
    holds its origin as ``transplant.json`` and in its model card. It appears under its name once it is complete.

    Args:
        donor: Where the chosen parameters come from.
        receiver: Where everything else comes from.
        out: The new folder; must not exist, or be empty.
        layers: As `parse_layers` reads it; None for all, embeddings, final norm, and head included.
        modules: Names in GROUPS; None for all, and an empty list for none.

    Raises:
        ConfigError: An unknown layer or module.
        ModelError: Configurations, tokenizers, or parameters of the two differ, a folder cannot be read, or ``out`` is not
            empty or cannot be written.
    """
    out = refuse_full(out)
    refuse_differences(donor, receiver)
    theirs, ours = read_folder(donor.folder), read_folder(receiver.folder)
    if odd := sorted(theirs.keys() ^ ours.keys()):
        raise ModelError(f"{donor.name} and {receiver.name}: {odd[0]} is in one of them only")
    depth = read_architecture(receiver.folder).num_hidden_layers
    indices = None if layers is None else parse_layers(layers, depth)
    chosen = select_parameters(ours, layers=indices, modules=modules)
    weights = {**ours, **{name: theirs[name] for name in chosen}}
    record = {
        "donor": identity(donor),
        "receiver": identity(receiver),
        "layers": indices,
        "modules": None if modules is None else list(modules),
        "parameters": chosen,
    }
    write_like(
        out,
        receiver.folder,
        folder_weights(weights, read_architecture(receiver.folder)),
        record_name=RECORD,
        record=record,
        card=_card(record),
        check=lambda folder: _check(folder, weights),
    )
    return Transplant(out=out, parameters=chosen, numbers=sum(weights[name].numel() for name in chosen))


def refuse_differences(donor: Model, receiver: Model) -> None:
    """Raises ModelError, listing every difference, unless architecture, other config keys, and tokenizer are equal."""
    folders = (donor.folder, receiver.folder)
    archs = [vars(read_architecture(folder)) for folder in folders]
    configs = [read_config(folder) for folder in folders]
    rest = [{**carried_keys(config), **{key: config.get(key) for key in TOKEN_IDS}} for config in configs]
    found = [
        f"config.json: {key} is {a.get(key)!r} and {b.get(key)!r}"[:200]
        for a, b in (archs, rest)
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]
    if len({tokenizer_sha256(load_tokenizer(folder)) for folder in folders}) > 1:
        found.append("the tokenizers differ")
    if found:
        raise ModelError(f"{donor.name} and {receiver.name} do not agree: {'; '.join(found)}")


def recovery(receiver_score: float, donor_score: float, transplanted_score: float) -> float:
    """(transplanted - receiver) / (donor - receiver): 0 for the receiver's score, 1 for the donor's.

    It can lie outside [0, 1]. Where donor and receiver differ by no more than noise it has no meaning.

    Raises:
        ConfigError: Donor and receiver have the same score.
    """
    if donor_score == receiver_score:
        raise ConfigError(f"recovery: donor and receiver both score {donor_score}; there is nothing to recover")
    return (transplanted_score - receiver_score) / (donor_score - receiver_score)


def _check(folder: Path, weights: dict[str, Tensor]) -> None:
    reread = read_folder(folder)
    if not all(torch.equal(reread[name], weights[name]) for name in weights):
        raise ModelError(f"{folder}: the weights on disk are not those that were written")


def _card(record: dict[str, Any]) -> str:
    """The model card: what comes from where."""
    layers, modules = record["layers"], record["modules"]
    what = f"{len(record['parameters'])} tensors; layers: {'all' if layers is None else layers or 'none'}"
    what += f"; modules: {'all' if modules is None else ', '.join(modules) or 'none'}"
    return derived_card(
        "Transplant",
        tags=["modernbert", "transplant"],
        text="A model for analysis: the receiver's weights, with these from the "
        f"donor: {markdown(what)}. See `{RECORD}`; made by `detour analyze transplant`.",
        parents=[(role, record[role]["name"], record[role]["sha256"]) for role in ("donor", "receiver")],
    )
