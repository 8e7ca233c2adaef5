"""Where a process finds itself: its device, its rank, and its share of a batch."""

from __future__ import annotations

import os

import torch
from composer.utils import dist

from detour.config.schema import RunConfig
from detour.errors import ConfigError

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def check_launch() -> None:
    """Refuses a launcher's environment variables that do not fit together.

    Raises:
        ConfigError: One of ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE`` is missing, no whole number, or out of range, or
            several processes are to meet and no ``MASTER_ADDR`` and ``MASTER_PORT`` say where.
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


def device_of(run: RunConfig) -> str:
    """Either "cpu" or "gpu". Raises ConfigError if a GPU is asked for and there is none."""
    if run.system.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("system.device: gpu, and torch sees none here")
    return run.system.device if run.system.device != "auto" else "gpu" if torch.cuda.is_available() else "cpu"


def device_rows_of(run: RunConfig) -> int:
    """Rows of a global batch that each process takes. Raises ConfigError if they cannot be shared out evenly."""
    rows, world = run.data.global_batch_size, dist.get_world_size()
    if rows % world:
        raise ConfigError(f"data.global_batch_size: {rows} is not divisible by {world} processes")
    return rows // world
