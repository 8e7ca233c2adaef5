"""What a checkpoint holds of a Composer run, and how it is put back, bit for bit."""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from composer.core import Callback, State, Timestamp
from composer.loggers import Logger
from composer.utils import dist
from streaming import StreamingDataset
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from detour.errors import CheckpointError
from detour.models.modernbert.encoder import TIED
from detour.training.checkpoints import contents
from detour.training.checkpoints.files import Checkpoint

log = logging.getLogger(__name__)
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Stateful(Protocol):
    """A callback whose state belongs in a checkpoint, as plain values."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def capture(state: State, stateful: Sequence[Stateful]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Tensors and plain values of a running State; process 0 gets them, the others None. Collective."""
    model = get_model_state_dict(state.model, options=_FULL)
    optimizer = get_optimizer_state_dict(state.model, state.optimizers[0], options=_FULL)
    rng_states = dist.all_gather_object(_rng_state())
    if dist.get_global_rank() != 0:
        return None
    weights = {name.split("encoder.", 1)[1]: tensor for name, tensor in model.items() if "encoder." in name}
    del weights[TIED]
    moments, groups = _split_optimizer(optimizer)
    rng_tensors = {f"{rank}/{name}": t for rank, r in enumerate(rng_states) for name, t in r["tensors"].items()}
    assert state.previous_timestamp is not None
    plain = {
        "timestamp": _plain_timestamp(state.timestamp),
        "last_batch_began": state.previous_timestamp.token.value,
        "param_groups": groups,
        "rng": [r["plain"] for r in rng_states],
        "dataset": _dataset(state).state_dict(int(state.timestamp.sample_in_epoch), True),
        "callbacks": {type(item).__name__: item.state_dict() for item in stateful},
    }
    return {"model": weights, "optimizer": moments, "rng": rng_tensors}, plain


def restore(
    state: State,
    checkpoint: Checkpoint,
    stateful: Sequence[Stateful],
    *,
    touched: Callable[[], set[torch.nn.Parameter]],
) -> None:
    """Puts everything back but the weights (the encoder was built with them) and the RNG (see `RestoreRng`). Collective.

    Args:
        state: Composer's, with a model and an optimizer that have not trained yet.
        checkpoint: What to continue from.
        stateful: Callbacks, each of which takes its own state back.
        touched: Asked once these have: the parameters that an optimizer step has changed, which have moments.

    Raises:
        CheckpointError: It does not hold what is needed, or does not fit the model and optimizer in names, shapes, types
            or completeness.
    """
    with checkpoint.translate_errors():
        plain = checkpoint.state()
        known = {type(item).__name__: item for item in stateful}
        contents.check_plain(plain, {name: item.state_dict() for name, item in known.items()})
        for name, item in known.items():
            item.load_state_dict(plain["callbacks"][name])
        contents.check_counts(plain)
        _restore_optimizer(state, plain["param_groups"], checkpoint.tensors("optimizer"), touched())
        _restore_position(state, plain)


def _restore_optimizer(
    state: State, groups: list[dict[str, Any]], moments: dict[str, Tensor], touched: set[torch.nn.Parameter]
) -> None:
    """Compares with what the optimizer itself would hold of these parameters, and takes it only if that is the same."""
    untouched = [parameter for parameter in state.model.parameters() if parameter not in touched]
    for parameter in untouched:  # torch makes and asks for the moments of every parameter that takes gradients
        parameter.requires_grad_(False)
    try:
        expected = get_optimizer_state_dict(state.model, state.optimizers[0], options=_FULL)
        problems: list[str] = []
        if dist.get_global_rank() == 0:
            problems = contents.misfits((moments, groups), _split_optimizer(expected))
        problems = dist.all_gather_object(problems)[0]
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ValueError(f"the optimizer's state does not fit the model: {shown}")
        set_optimizer_state_dict(
            state.model,
            state.optimizers[0],
            _join_optimizer(moments, groups),
            options=StateDictOptions(full_state_dict=True),  # type: ignore[arg-type]
        )
    finally:
        for parameter in untouched:
            parameter.requires_grad_(True)


def _restore_position(state: State, plain: dict[str, Any]) -> None:
    dataset, position = _dataset(state), plain["dataset"]
    timestamp = _timestamp(plain["timestamp"])
    assert state.dataloader_len is not None
    if timestamp.batch_in_epoch >= state.dataloader_len:  # saved after an epoch's last batch: the next one begins
        timestamp = timestamp.to_next_epoch()
        position = {**position, "epoch": position["epoch"] + 1, "sample_in_epoch": 0}
    dataset.load_state_dict(position)
    state.timestamp = timestamp


class RestoreRng(Callback):
    """Restores the random number generators on the first resumed batch.

    Composer reseeds when it loads and streaming draws while it starts, so no earlier moment would do. Without this
    dropout differs from the unbroken run. Skipped, with a line in the log, if the number of processes changed.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint: Checkpoint | None = checkpoint

    def after_dataloader(self, state: State, logger: Logger) -> None:
        if self._checkpoint is None:
            return
        with self._checkpoint.translate_errors():
            plain, tensors = self._checkpoint.state()["rng"], self._checkpoint.tensors("rng")
            rank, processes = dist.get_global_rank(), dist.get_world_size()
            if len(plain) == processes:
                own = {key.split("/", 1)[1]: t for key, t in tensors.items() if key.startswith(f"{rank}/")}
                _set_rng_state({"plain": plain[rank], "tensors": own})
            else:
                log.warning("%d processes instead of %d: dropout draws other numbers", processes, len(plain))
        self._checkpoint = None


def _split_optimizer(optimizer: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by "parameter/name" or "#group/name", and the groups' plain values."""
    owners = {**optimizer["state"], **{f"#{i}": group for i, group in enumerate(optimizer["param_groups"])}}
    tensors = {
        f"{owner}/{k}": v for owner, values in owners.items() for k, v in values.items() if isinstance(v, Tensor)
    }
    groups = [{k: v for k, v in group.items() if not isinstance(v, Tensor)} for group in optimizer["param_groups"]]
    return tensors, groups


def _join_optimizer(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """What `_split_optimizer` took apart."""
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
        raise CheckpointError(f"the training loader's dataset is {type(dataset).__name__}, expected a StreamingDataset")
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


def _rng_state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    kind, keys, at, has_gauss, cached = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.astype(np.int64))}  # type: ignore[union-attr]
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return {
        "tensors": tensors,
        "plain": {"python": [version, list(words), gauss], "numpy": [kind, at, has_gauss, cached]},
    }


def _set_rng_state(saved: dict[str, Any]) -> None:
    version, words, gauss = saved["plain"]["python"]
    kind, at, has_gauss, cached = saved["plain"]["numpy"]
    tensors = saved["tensors"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), at, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
