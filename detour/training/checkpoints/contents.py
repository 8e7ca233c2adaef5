"""Checks that the contents of a checkpoint are complete and fit the run, before any of them is used. Pure functions.

A checkpoint with valid hashes may still be edited or from another program. Fused optimizer kernels would read past the end of
moments of a wrong shape, and missing moments would silently start from zero. Problems are raised as ValueError, which
`Checkpoint.translate_errors` turns into a CheckpointError that names the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detour.cost.ledger import read_costs

POSITION = ("epoch", "sample_in_epoch", "num_canonical_nodes", "shuffle_seed", "initial_physical_nodes")
PHASED_POSITION = ("phase", "positions", "owed", "processes")
Optimizer = tuple[Mapping[str, Tensor], list[dict[str, Any]]]


def check_plain_values(plain: Mapping[str, Any], callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks the keys of the plain values, and that the position in the data agrees with the clock.

    Args:
        plain: Plain values of the checkpoint.
        callbacks: Current state of each callback of this run, whose keys are expected.

    Raises:
        ValueError: A callback or a key is missing or unknown, or the position in the data disagrees with the clock.
    """
    check_keys("callbacks", plain["callbacks"], callbacks)
    for name, expected in callbacks.items():
        check_keys(f"callbacks: {name}", plain["callbacks"][name], expected)
    position, clock = plain["dataset"], plain["timestamp"]
    if isinstance(position, Mapping) and "positions" in position:  # of phases that differ in their data
        check_keys("dataset", position, PHASED_POSITION)
        check_count("dataset: phase", position["phase"])
        if not isinstance(position["positions"], list) or not position["positions"]:
            raise ValueError(f"dataset: positions is {position['positions']!r}, expected a list of positions")
        if position["processes"] is not None:
            check_count("dataset: processes", position["processes"])
        if not isinstance(position["owed"], Mapping):
            raise ValueError(f"dataset: owed is {position['owed']!r}, expected a mapping")
        for name, owed in position["owed"].items():
            if not isinstance(owed, list):
                raise ValueError(f"dataset: owed: {name} is {owed!r}, expected a list of numbers")
            for number in owed:
                check_number(f"dataset: owed: {name}", abs(number))  # TypeError of what is no number is translated, too
        for index, each in enumerate(position["positions"]):
            if each is not None:  # not read yet
                _check_position(f"dataset: positions[{index}]", each)
    else:
        _check_position("dataset", position)
        for key in ("epoch", "sample_in_epoch"):
            if position[key] != clock[key]:
                raise ValueError(f"dataset: {key} is {position[key]!r}, but the clock has {clock[key]!r}")
    for key, value in clock.items():
        check_number(f"timestamp: {key}", value)


def _check_position(where: str, position: Any) -> None:
    check_keys(where, position, POSITION)
    for key in POSITION:
        check_count(f"{where}: {key}", position[key])


def check_counts(plain: Mapping[str, Any]) -> None:
    """Checks the tokens of the ledger and the batches of the fingerprint against the clock. Raises ValueError."""
    ledger, clock = plain["callbacks"]["Ledger"], plain["timestamp"]
    tokens = sum(cost.tokens for cost in read_costs(plain))
    if tokens != clock["token"]:
        raise ValueError(f"callbacks: Ledger: counts {tokens:,} tokens, but the clock has {clock['token']:,}")
    if ledger["fingerprint"]["batches"] != clock["batch"]:
        raise ValueError(
            f"callbacks: Ledger: the fingerprint has {ledger['fingerprint']['batches']} batches, but the clock has "
            f"{clock['batch']}"
        )


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Checks that all weights are fp32, since torch would convert silently. `load_state_dict` checks names and shapes.

    Raises:
        ValueError: A weight has another type.
    """
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {_kind(tensor)}, expected float32")


def optimizer_mismatches(found: Optimizer, expected: Optimizer) -> list[str]:
    """Compares an optimizer state that was read with the one expected, one line per difference.

    Names, shapes and types of tensors are compared, and the plain values of parameter groups except the learning rate, which
    the schedule sets.

    Args:
        found: Tensors by name and plain values of the parameter groups, as read from the checkpoint.
        expected: The same for the optimizer of this run after a step.
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


def check_keys(where: str, found: Any, expected: Any) -> None:
    """Raises ValueError unless ``found`` is a mapping with exactly the keys of ``expected``."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} is {found!r}, expected a mapping")
    if missing := sorted(set(expected) - found.keys()):
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    if unknown := sorted(found.keys() - set(expected)):
        raise ValueError(f"{where}: {', '.join(unknown)} unknown")


def check_count(where: str, value: Any) -> None:
    """Raises ValueError unless the value is a nonnegative int (not a bool)."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{where} is {value!r}, expected a nonnegative integer")


def check_number(where: str, value: Any) -> None:
    """Raises ValueError unless the value is a finite, nonnegative int or float (not a bool)."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{where} is {value!r}, expected a finite, nonnegative number")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
