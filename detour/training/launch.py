"""The launch environment of a process: its ranks, its device, and its part of the global batch."""

from __future__ import annotations

import os
import tempfile

import torch
from composer.utils import dist

from detour.config.schema import DataConfig, RunConfig
from detour.errors import ConfigError

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
SOCKET_BYTES = 107  # of the path of a Unix socket on Linux: 108 in sockaddr_un, the last of them zero
SOCKET_NAME = "/pymp-xxxxxxxx/listener-xxxxxxxx"  # what multiprocessing appends to the folder for temporary files


def check_launch() -> None:
    """Checks the environment variables set by the launcher.

    Raises:
        ConfigError: ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE`` are incomplete, not integers or out of range; or there are
            several processes and ``MASTER_ADDR`` or ``MASTER_PORT`` is missing.
    """
    found = {key: os.environ[key] for key in RANKS if key in os.environ}
    numbers = {key: int(value) for key, value in found.items() if value.isdecimal()}
    world = numbers.get("WORLD_SIZE", 1)
    in_range = len(numbers) == len(found) and world > max(numbers.get("RANK", 0), numbers.get("LOCAL_RANK", 0))
    if not in_range or (world > 1 and "RANK" not in numbers):
        raise ConfigError(
            f"environment: {', '.join(f'{key}={value}' for key, value in found.items())}, expected RANK and LOCAL_RANK "
            "below WORLD_SIZE, as a launcher sets them, or none of the three"
        )
    if world > 1 and (missing := [key for key in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(key)]):
        raise ConfigError(
            f"environment: WORLD_SIZE={world}, and {' and '.join(missing)} missing, as a launcher sets them"
        )


def check_temporary_folder(workers: int) -> None:
    """Checks that loader processes can create their sockets in the folder for temporary files.

    They pass batches through Unix sockets. If the path is too long they die without a message, and the run would wait
    for `data.timeout_seconds`.

    Args:
        workers: Loader processes; nothing is checked without any.

    Raises:
        ConfigError: The path of the folder is too long.
    """
    folder, most = tempfile.gettempdir(), SOCKET_BYTES - len(SOCKET_NAME)
    if workers and (found := len(os.fsencode(folder))) > most:
        raise ConfigError(
            f"environment: TMPDIR: {folder} has {found} bytes, expected at most {most}, because loader processes create "
            "sockets in it; set TMPDIR to a shorter path, or data.workers to 0"
        )


def device_of(run: RunConfig) -> str:
    """The device of the run, "cpu" or "gpu". Raises ConfigError if a GPU is requested and torch finds none."""
    if run.system.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("system.device: gpu, but torch finds no GPU")
    return run.system.device if run.system.device != "auto" else "gpu" if torch.cuda.is_available() else "cpu"


def device_rows_of(data: DataConfig, *, where: str = "data") -> int:
    """Rows of the global batch per process. Raises ConfigError if the processes do not divide it evenly.

    Args:
        data: The data of a phase.
        where: Key of the section that gives the batch size, for the message.
    """
    rows, world = data.global_batch_size, dist.get_world_size()
    if rows % world:
        raise ConfigError(f"{where}.global_batch_size: {rows} is not divisible by {world} processes")
    return rows // world
