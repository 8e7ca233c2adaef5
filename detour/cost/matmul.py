"""How fast a device multiplies matrices: what a step's counted FLOPs are held against."""

from __future__ import annotations

import time

import torch


def matmul_throughput(device: str, dtype: torch.dtype, *, n: int | None = None, seconds: float = 0.1) -> float:
    """FLOPs a second of n x n matrix products, the best of many.

    Draws no random number of the run's, and the matrices hold random ones: a GPU is faster on zeros.

    Args:
        device: "cpu" or "cuda".
        dtype: Of the matrices.
        n: Their size; left out, 8,192 on a GPU and 1,024 on a CPU.
        seconds: How long to go on, but at least three products.
    """
    n = n or (8192 if device == "cuda" else 1024)
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.rand(n, n, generator=generator, device=device).to(dtype) for _ in range(2))
    best, count, end = 0.0, 0, time.perf_counter() + seconds
    while count < 3 or time.perf_counter() < end:
        start = settled(device)
        torch.mm(a, b)
        best, count = max(best, 2 * n**3 / (settled(device) - start)), count + 1
    return best


def settled(device: str) -> float:
    """Seconds of a clock that only grows, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
