"""State of the random number generators of a process, as tensors and plain values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def rng_state() -> dict[str, Any]:
    """State of the generators of Python, NumPy, torch and the current GPU: ``tensors`` and ``plain`` (JSON) values."""
    version, words, gauss = random.getstate()
    kind, keys, at, has_gauss, cached = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.astype(np.int64))}  # type: ignore[union-attr]
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return {
        "tensors": tensors,
        "plain": {"python": [version, list(words), gauss], "numpy": [kind, at, has_gauss, cached]},
    }


def set_rng_state(saved: dict[str, Any]) -> None:
    """Restores what `rng_state` returned; the GPU's state is ignored where there is no GPU."""
    version, words, gauss = saved["plain"]["python"]
    kind, at, has_gauss, cached = saved["plain"]["numpy"]
    tensors = saved["tensors"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), at, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
