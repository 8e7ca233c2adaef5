"""Whether what a checkpoint holds is complete and fits the run: checked before any of it is used. Pure.

A whole checkpoint, with the right hashes, may still be another program's, or edited. Taken as it comes, moments of another
shape are read past their end by fused kernels, and moments that are missing are begun anew without a word. Problems are
plain ValueErrors: `Checkpoint.translate_errors` turns them into CheckpointErrors that name the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

POSITION = ("epoch", "sample_in_epoch", "num_canonical_nodes", "shuffle_seed", "initial_physical_nodes")
Optimizer = tuple[Mapping[str, Tensor], list[dict[str, Any]]]


def check_plain(plain: Mapping[str, Any], callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks the plain values' keys and the place in the data.

    Args:
        plain: The checkpoint's.
        callbacks: What each callback of this run would store, for the keys.

    Raises:
        ValueError: A callback's state or a key is missing or unknown, or the place in the data is not the clock's.
    """
    same_keys("callbacks", plain["callbacks"], callbacks)
    for name, expected in callbacks.items():
        same_keys(f"callbacks: {name}", plain["callbacks"][name], expected)
    position, clock = plain["dataset"], plain["timestamp"]
    same_keys("dataset", position, POSITION)
    for key in POSITION:
        whole(f"dataset: {key}", position[key])
    for key in ("epoch", "sample_in_epoch"):
        if position[key] != clock[key]:
            raise ValueError(f"dataset: {key} is {position[key]!r}, and the clock's is {clock[key]!r}")
    for key, value in clock.items():
        number(f"timestamp: {key}", value)


def check_counts(plain: Mapping[str, Any]) -> None:
    """Checks that ledger and fingerprint are of as many tokens and batches as the clock. Raises ValueError."""
    ledger, clock = plain["callbacks"]["Ledger"], plain["timestamp"]
    tokens = sum(entry["tokens"] for entry in ledger["entries"])
    if tokens != clock["token"]:
        raise ValueError(f"callbacks: Ledger: counts {tokens:,} tokens, and the clock {clock['token']:,}")
    if ledger["fingerprint"]["batches"] != clock["batch"]:
        raise ValueError(
            f"callbacks: Ledger: the fingerprint is of {ledger['fingerprint']['batches']} batches, and the clock at "
            f"{clock['batch']}"
        )


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Checks that all are fp32: torch would convert others without a word. Names and shapes are `load_state_dict`'s.

    Raises:
        ValueError: One is of another type.
    """
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {_kind(tensor)}, expected float32")


def misfits(found: Optimizer, expected: Optimizer) -> list[str]:
    """A line for each difference between the optimizer's state that was read and what this optimizer holds.

    Args:
        found: Tensors by name, and the groups' plain values, as they were read.
        expected: The same of the run's own optimizer after a step. Values of tensors and the learning rate, which the
            schedule sets, are not compared.
    """
    tensors, groups = found
    own, own_groups = expected[0], json.loads(json.dumps(expected[1]))
    lines = [f"{name} is missing" for name in sorted(own.keys() - tensors.keys())]
    lines += [f"{name} is unknown" for name in sorted(tensors.keys() - own.keys())]
    for name in sorted(own.keys() & tensors.keys()):
        if (tensors[name].shape, tensors[name].dtype) != (own[name].shape, own[name].dtype):
            lines.append(f"{name} is {_kind(tensors[name])}, expected {_kind(own[name])}")
    if len(groups) != len(own_groups):
        return [*lines, f"param_groups: {len(groups)}, expected {len(own_groups)}"]
    for index, (group, own_group) in enumerate(zip(groups, own_groups, strict=True)):
        if not isinstance(group, Mapping):
            lines.append(f"param_groups[{index}] is {group!r}, expected a mapping")
            continue
        for key in sorted((group.keys() | own_group.keys()) - {"lr"}):
            if group.get(key) != own_group.get(key):
                lines.append(f"param_groups[{index}]: {key} is {group.get(key)!r}, expected {own_group.get(key)!r}")
    return [line if len(line) < 300 else f"{line[:300]}..." for line in lines]


def same_keys(where: str, found: Any, expected: Any) -> None:
    """Raises ValueError unless ``found`` is a mapping of just these keys."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} is {found!r}, expected a mapping")
    if missing := sorted(set(expected) - found.keys()):
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    if unknown := sorted(found.keys() - set(expected)):
        raise ValueError(f"{where}: {', '.join(unknown)} unknown")


def whole(where: str, value: Any) -> None:
    """Raises ValueError unless it is a whole number of at least 0, no boolean."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{where} is {value!r}, expected a whole number")


def number(where: str, value: Any) -> None:
    """Raises ValueError unless it is a finite number of at least 0, no boolean."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{where} is {value!r}, expected a number")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
