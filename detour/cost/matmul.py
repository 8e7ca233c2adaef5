"""Measured matmul throughput of a device: the reference for MFU."""

from __future__ import annotations

import time
from functools import cache

import torch


@cache
def matmul_throughput(device: str, dtype: torch.dtype, *, n: int | None = None, seconds: float = 0.1) -> float:
    """FLOP/s of an n x n matrix product, the best of several, measured once in a process.

    The matrices are random, because GPUs run faster on zeros. They come from a generator of their own, so the global
    random state is unchanged.

    Args:
        device: "cpu" or "cuda".
        dtype: Type of the matrices.
        n: Their size; by default 8,192 on a GPU and 1,024 on a CPU.
        seconds: Duration of the measurement; at least three products are timed.
    """
    n = n or (8192 if device == "cuda" else 1024)
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.rand(n, n, generator=generator, device=device).to(dtype) for _ in range(2))
    best, count, end = 0.0, 0, time.perf_counter() + seconds
    while count < 3 or time.perf_counter() < end:
        start = synchronized_time(device)
        torch.mm(a, b)
        best, count = max(best, 2 * n**3 / (synchronized_time(device) - start)), count + 1
    return best


def synchronized_time(device: str) -> float:
    """Seconds of a monotonic clock, read after all work queued on the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
