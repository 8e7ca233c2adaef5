"""From a Composer State to the contents of a checkpoint and back, bitwise."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from composer.core import State, Timestamp
from composer.utils import dist
from streaming import StreamingDataset
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from detour.data.phased_loader import PhasedLoader
from detour.errors import CheckpointError
from detour.models.encoder import Encoder, stored_weights
from detour.training.checkpoints import contents
from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.rng import rng_state
from detour.training.objective_modules import FILE as OBJECTIVES
from detour.training.objective_modules import own_state

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Stateful(Protocol):
    """A callback or algorithm whose state is stored in checkpoints, as JSON values."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def capture(state: State, stateful: Sequence[Stateful]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The tensors and plain values to store in a checkpoint. Collective.

    Args:
        state: Composer's state, between two batches.
        stateful: Callbacks and algorithms whose state is stored.

    Returns:
        On process 0, named tensors by file (``model``, ``optimizer``, ``rng``, and ``objectives`` if any has a module) and the
        plain values; None on the others.
    """
    model = get_model_state_dict(state.model, options=_FULL)
    optimizer = get_optimizer_state_dict(state.model, state.optimizers[0], options=_FULL)
    rng_states = dist.all_gather_object(rng_state())
    if dist.get_global_rank() != 0:
        return None
    named: dict[str, Any] = {
        name.split("encoder.", 1)[1]: tensor for name, tensor in model.items() if "encoder." in name
    }
    encoder = next(module for module in state.model.modules() if isinstance(module, Encoder))
    weights: dict[str, dict[str, Any]] = {"model": stored_weights(named, encoder.arch)}
    if len(encoder.objectives):
        weights[OBJECTIVES] = {name: named[f"objectives.{name}"] for name in own_state(encoder)}
    moments, groups = _split_optimizer(optimizer)
    rng_tensors = {f"{rank}/{name}": t for rank, r in enumerate(rng_states) for name, t in r["tensors"].items()}
    assert state.previous_timestamp is not None
    plain = {
        "timestamp": _plain_timestamp(state.timestamp),
        "last_batch_began": state.previous_timestamp.token.value,
        "param_groups": groups,
        "rng": [r["plain"] for r in rng_states],
        "dataset": _position(state),
        "callbacks": {type(item).__name__: item.state_dict() for item in stateful},
    }
    return {**weights, "optimizer": moments, "rng": rng_tensors}, plain


def snapshot(
    tensors: dict[str, dict[str, Tensor]], plain: dict[str, Any], *, on_cpu: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """A copy of what `capture` returned that the next step does not change.

    Args:
        tensors: Named tensors by file.
        plain: Plain values.
        on_cpu: Whether the run trains on the CPU. On a GPU the large tensors are copies already, and the counts of steps, of
            one element each, may lie on the CPU.
    """
    copied = {
        file: {name: tensor.clone() if on_cpu or tensor.numel() == 1 else tensor for name, tensor in named.items()}
        for file, named in tensors.items()
    }
    return copied, copy.deepcopy(plain)


def restore(
    state: State,
    checkpoint: Checkpoint,
    stateful: Sequence[Stateful],
    *,
    touched: Callable[[], set[torch.nn.Parameter]],
    set_groups: Callable[[Optimizer], None],
) -> None:
    """Restores all but the weights, with which the model was built, and the random states (`RestoreRng`). Collective.

    Args:
        state: Composer's state, with a model and an optimizer that have not been trained yet.
        checkpoint: The checkpoint from which the run resumes.
        stateful: Callbacks and algorithms to restore.
        touched: Returns the parameters that have optimizer moments; called after ``stateful`` are restored.
        set_groups: Sets the parameter groups as the last batch did, with which the checkpoint's are compared; called then, too.

    Raises:
        CheckpointError: Something is missing, or names, shapes or types do not fit the model and the optimizer.
    """
    with checkpoint.translate_errors():
        plain = checkpoint.state()
        known = {type(item).__name__: item for item in stateful}
        contents.check_plain_values(plain, {name: item.state_dict() for name, item in known.items()})
        for name, item in known.items():
            item.load_state_dict(plain["callbacks"][name])
        contents.check_counts(plain)
        set_groups(state.optimizers[0])
        _restore_optimizer(state, plain["param_groups"], checkpoint.tensors("optimizer"), touched())
        _restore_position(state, plain)


def _restore_optimizer(
    state: State, groups: list[dict[str, Any]], moments: dict[str, Tensor], touched: set[torch.nn.Parameter]
) -> None:
    """Loads the optimizer state if it matches the state that the optimizer would have for the touched parameters."""
    untouched = [parameter for parameter in state.model.parameters() if parameter not in touched]
    for parameter in untouched:  # torch creates and requires moments for every parameter with requires_grad
        parameter.requires_grad_(False)
    try:
        expected = get_optimizer_state_dict(state.model, state.optimizers[0], options=_FULL)
        problems: list[str] = []
        if dist.get_global_rank() == 0:
            problems = contents.optimizer_mismatches((moments, groups), _split_optimizer(expected))
        problems = dist.all_gather_object(problems)[0]
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ValueError(f"the optimizer state does not fit the model: {shown}")
        set_optimizer_state_dict(
            state.model,
            state.optimizers[0],
            _join_optimizer(moments, groups),
            options=StateDictOptions(full_state_dict=True),  # type: ignore[arg-type]
        )
    finally:
        for parameter in untouched:
            parameter.requires_grad_(True)


def _position(state: State) -> dict[str, Any]:
    """The position in the training data."""
    if isinstance(loader := state.train_dataloader, PhasedLoader):
        return loader.state_dict()
    return _dataset(state).state_dict(int(state.timestamp.sample_in_epoch), True)


def _restore_position(state: State, plain: dict[str, Any]) -> None:
    position, timestamp = plain["dataset"], _timestamp(plain["timestamp"])
    phased = isinstance(loader := state.train_dataloader, PhasedLoader)
    if phased != ("positions" in position):
        raise ValueError(
            "the phases that were trained read one stream of batches of one size, and those of this configuration do not"
            if phased
            else "the phases that were trained differ in their data, and those of this configuration do not"
        )
    if isinstance(loader, PhasedLoader):
        loader.load_state_dict(position)
    else:
        assert state.dataloader_len is not None
        if timestamp.batch_in_epoch >= state.dataloader_len:  # saved after the last batch of an epoch
            timestamp = timestamp.to_next_epoch()
            position = {**position, "epoch": position["epoch"] + 1, "sample_in_epoch": 0}
        _dataset(state).load_state_dict(position)
    state.timestamp = timestamp


def _split_optimizer(optimizer: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by "parameter/name" or "#group/name", and the plain values of the parameter groups."""
    owners = {**optimizer["state"], **{f"#{i}": group for i, group in enumerate(optimizer["param_groups"])}}
    tensors = {
        f"{owner}/{k}": v for owner, values in owners.items() for k, v in values.items() if isinstance(v, Tensor)
    }
    groups = [{k: v for k, v in group.items() if not isinstance(v, Tensor)} for group in optimizer["param_groups"]]
    return tensors, groups


def _join_optimizer(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The inverse of `_split_optimizer`."""
    optimizer: dict[str, Any] = {"state": {}, "param_groups": groups}
    for key, tensor in tensors.items():
        owner, name = key.rsplit("/", 1)
        if owner.startswith("#"):
            groups[int(owner[1:])][name] = tensor
        else:
            optimizer["state"].setdefault(owner, {})[name] = tensor
    return optimizer


def _dataset(state: State) -> StreamingDataset:
    dataset = getattr(state.train_dataloader, "dataset", None)
    if not isinstance(dataset, StreamingDataset):
        raise CheckpointError(
            f"the dataset of the training loader is {type(dataset).__name__}, expected a StreamingDataset"
        )
    return dataset


def _plain_timestamp(timestamp: Timestamp) -> dict[str, Any]:
    return {
        key: value.total_seconds() if isinstance(value, datetime.timedelta) else value
        for key, value in timestamp.state_dict().items()
    }


def _timestamp(plain: dict[str, Any]) -> Timestamp:
    counts = {key: value for key, value in plain.items() if not key.endswith("_wct")}
    times = {key: datetime.timedelta(seconds=value) for key, value in plain.items() if key.endswith("_wct")}
    return Timestamp(**counts, **times)  # type: ignore[arg-type]
