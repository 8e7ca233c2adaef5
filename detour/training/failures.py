"""What torch raises when memory runs out or a loader process is lost, as errors that say what to change."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detour.config.schema import DataConfig
from detour.errors import DataError, TrainingError


@contextmanager
def explained(data: DataConfig) -> Iterator[None]:
    """For the time of training. The process that fails ends; the others fail at their next exchange with it.

    Raises:
        TrainingError: A micro-batch did not fit into memory. Micro-batches are not made smaller by themselves: that would
            have to happen on all processes at once, in the middle of their exchanges.
        DataError: A loader process died or fell silent.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"data.micro_batch_rows: {data.micro_batch_rows} rows of {data.row_tokens} tokens do not fit into memory; "
            f"lower it, or set model.gradient_checkpointing or system.parallelism: fsdp. {str(error).splitlines()[0]}"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader "):  # torch has no class of its own for these
            raise
        for worker in multiprocessing.active_children():
            worker.kill()  # one that hangs would ignore a gentler signal, and this process would wait for its end
        raise DataError(
            f"data.train: a loader process died, or brought nothing for {data.timeout_seconds} seconds "
            f"(data.timeout_seconds): {error}"
        ) from error
