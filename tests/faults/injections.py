"""Faults that a child process of `zygote.py` injects into itself before it trains."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pathlib
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

import torch
from streaming.base.shared import prefix

from detour.data.stream import RowDataset
from detour.training.callbacks.step_guard import StepGuard
from detour.training.checkpoints import files
from detour.training.composer_model import DetourModel
from detour.training.loggers import wandb as wandb_logger
from detour.training.phase_switch import PhaseSwitch


def none() -> None:
    """A healthy process."""


def _here(rank: int) -> bool:
    return int(os.environ.get("RANK", "0")) == rank


def _wrap(owner: Any, name: str, wrapper: Callable) -> None:
    """Replaces a function by ``wrapper(original, *arguments, **options)``."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **options: wrapper(original, *arguments, **options))


def _follow_batches() -> dict[str, int]:
    """Tells the number of the batch that trains, and that of its micro-batch from 1 on."""
    at = {"batch": -1, "micro": 0}

    def begin(original: Callable, switch: Any, state: Any, *rest: Any) -> None:
        at.update(batch=state.timestamp.batch.value, micro=0)
        original(switch, state, *rest)

    def forward(original: Callable, model: Any, *rest: Any) -> Any:
        at["micro"] += model.training
        return original(model, *rest)

    _wrap(PhaseSwitch, "_begin_batch", begin)
    _wrap(DetourModel, "forward", forward)
    return at


def signal_at(batch: int, number: int, rank: int) -> None:
    """The process of this rank gets a signal in the middle of a batch."""

    def after_loss(original: Callable, guard: Any, state: Any, logger: Any) -> None:
        original(guard, state, logger)
        if state.timestamp.batch.value == batch and _here(rank):
            os.kill(os.getpid(), number)

    _wrap(StepGuard, "after_loss", after_loss)


def signal_workers(batch: int, number: int, itself: bool = False) -> None:
    """The loader's processes get a signal: SIGKILL ends them, SIGSTOP makes them silent. Then this one, if it is to."""

    def after_loss(original: Callable, guard: Any, state: Any, logger: Any) -> None:
        original(guard, state, logger)
        if state.timestamp.batch.value == batch:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, number)
            if itself:
                time.sleep(0.3)
                os.kill(os.getpid(), number)

    _wrap(StepGuard, "after_loss", after_loss)


def another_number(rank: int) -> None:
    """This process finds another free number in shared memory, as if a run had ended since the first process searched."""
    if _here(rank):
        _wrap(prefix, "_check_and_find_retrying", lambda original, *arguments, **options: 987_650)


def kill_all(batch: int) -> None:
    """SIGKILL to the whole process group, as a scheduler's: nothing is left that could tidy up shared memory."""

    def after_loss(original: Callable, guard: Any, state: Any, logger: Any) -> None:
        original(guard, state, logger)
        if state.timestamp.batch.value == batch:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGKILL)
            tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
            if tracker:
                os.kill(tracker, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap(StepGuard, "after_loss", after_loss)


def kill_in_save(nth: int) -> None:
    """SIGKILL at the nth of the calls that saves make to the file system."""
    left = [nth]

    def count(original: Callable, *arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    for owner, name in [(files, "save_file"), (files, "flush"), (files, "_hide"), (os, "replace")]:
        _wrap(owner, name, count)


def save_for_ever(folder: str) -> None:
    """Does not train: saves and prunes without end, and prints the tokens of each checkpoint once it is written."""
    at = max((found.tokens for found in files.listing(pathlib.Path(folder))), default=0)
    while True:
        at += 1
        tensors = {name: {"w": torch.full((64, 1024), float(at))} for name in ("model", "optimizer", "rng")}
        files.write(pathlib.Path(folder), tokens=at, tensors=tensors, state={"at": at})
        print(at, flush=True)
        files.prune(pathlib.Path(folder), keep=2, boundaries=[], newest=at)


def kill_while_replacing(folder: str, nth: int) -> None:
    """Does not train: saves at 1 and 2 tokens, damages the second, saves it again, and is killed at the nth call by which
    the one takes the other's place."""
    root, named = pathlib.Path(folder), {name: {"w": torch.ones(8)} for name in ("model", "optimizer", "rng")}
    for tokens in (1, 2):
        saved = files.write(root, tokens=tokens, tensors=named, state={"at": "first"})
    (saved.path / "model.safetensors").write_bytes(b"damaged")
    left = [nth]

    def count(original: Callable, *arguments: Any, **options: Any) -> Any:
        if not list(root.glob(".writing-*/manifest.json")) and left[0] == nth:
            return original(*arguments, **options)  # not yet written
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    for owner, name in [(os, "replace"), (files.shutil, "rmtree"), (files, "flush")]:
        _wrap(owner, name, count)
    files.write(root, tokens=2, tensors=named, state={"at": "second"})
    print("finished", flush=True)


def spoil_gradient(batch: int, value: str, rank: int) -> None:
    """On one rank gradients become inf or nan in the backward pass, before they are exchanged; the loss stays good."""
    at = _follow_batches()

    def init(original: Callable, switch: Any, **options: Any) -> None:
        original(switch, **options)

        def spoil(module: Any, inputs: tuple[torch.Tensor | None, ...], outputs: Any) -> Any:
            if at["batch"] == batch and _here(rank):
                return tuple(gradient if gradient is None else gradient * float(value) for gradient in inputs)
            return None

        switch.gate.encoder.head.dense.register_full_backward_hook(spoil)

    _wrap(PhaseSwitch, "__init__", init)


def scale_loss(batches: list[int], factor: str, rank: int) -> None:
    """On one rank the loss of these batches, and so its gradient, is multiplied; by nan too."""
    at = _follow_batches()

    def forward(original: Callable, model: Any, *rest: Any) -> Any:
        outputs = original(model, *rest)
        if at["batch"] in batches and model.training and _here(rank):
            outputs = outputs._replace(total=outputs.total * float(factor))
        return outputs

    _wrap(DetourModel, "forward", forward)


def out_of_memory(batch: int, micro_batch: int, rank: int) -> None:
    """On one rank a micro-batch does not fit."""
    at = _follow_batches()

    def forward(original: Callable, model: Any, *rest: Any) -> Any:
        outputs = original(model, *rest)
        if at == {"batch": batch, "micro": micro_batch} and model.training and _here(rank):
            raise torch.OutOfMemoryError("Tried to allocate 20.00 MiB.")
        return outputs

    _wrap(DetourModel, "forward", forward)


def file_size_limit(limit: int) -> None:
    """No file may grow past so many bytes: writes fail in the system, as they do on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def failing_flush(nth: int, number: int) -> None:
    """A device fails when the nth file or folder of a checkpoint is to be put on it."""
    left = [nth]

    def flush(original: Callable, path: pathlib.Path) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(number, os.strerror(number), str(path))
        original(path)

    _wrap(files, "flush", flush)


def failing_metrics(nth: int, number: int) -> None:
    """The nth line of the metrics reaches the disk by half."""
    left = [nth]

    def opened(original: Callable, path: pathlib.Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = original(path, mode, *rest, **options)
        if path.name == "metrics.jsonl" and mode == "a":
            left[0] -= 1
            if not left[0]:
                with file:
                    file.write('{"batch": 1, "tok')
                raise OSError(number, os.strerror(number))
        return file

    _wrap(pathlib.Path, "open", opened)


def silent_rows(after: int, loaders: bool = True) -> None:
    """Reading stops for good, as from a network that is gone, once a process has read so many rows; in loader processes
    too, or in the training process only, which reads the held-out rows.
    """
    left = [after]

    def get_item(original: Callable, *arguments: Any) -> Any:
        left[0] -= loaders or multiprocessing.parent_process() is None
        if left[0] < 0:
            time.sleep(10**6)
        return original(*arguments)

    _wrap(RowDataset, "get_item", get_item)


def lose_shards(batch: int, folder: str) -> None:
    """All shards of a folder are emptied in mid-run."""

    def after_loss(original: Callable, guard: Any, state: Any, logger: Any) -> None:
        original(guard, state, logger)
        if state.timestamp.batch.value == batch:
            for shard in pathlib.Path(folder).glob("*.mds"):
                shard.write_bytes(b"")

    _wrap(StepGuard, "after_loss", after_loss)


def failing_locks(folder: str, number: int) -> None:
    """Files under a folder cannot be locked, as on a network disk without locks."""

    def flock(original: Callable, file: Any, how: int) -> None:
        name = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        if name.startswith(folder):
            raise OSError(number, os.strerror(number))
        original(file, how)

    _wrap(fcntl, "flock", flock)


def impatient_wandb(reach_seconds: float, init_seconds: float) -> None:
    """Weights & Biases is waited for only so long."""
    wandb_logger.REACH_SECONDS, wandb_logger.INIT_SECONDS = reach_seconds, init_seconds


def few_descriptors(limit: int) -> None:
    """So many files may be open, beside those that are."""
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
