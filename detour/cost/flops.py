"""FLOPs of a training step from the true lengths of its documents.

Counts multiply-adds of matrix products as two operations, forward and twice that backward; elementwise work, norms and
softmax are left out, as is usual (arXiv 2001.08361, appendix B). Attention is counted by the keys that a token may see,
so the figure is the work that the method needs, not the work of a kernel that wastes some.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from detour.models.modernbert.architecture import Architecture


def keys_seen(lengths: ArrayLike, *, left: int | None, right: int | None) -> np.ndarray:
    """Sum over a document's tokens of the keys that each may see, for each document length; None is without limit."""
    n = np.asarray(lengths, dtype=np.int64)

    def side(window: int | None) -> np.ndarray:
        w = n if window is None else np.minimum(window, n)
        return w * (2 * n - w - 1) // 2  # sum over positions i of min(i, w)

    return n + side(left) + side(right)


def training_flops(arch: Architecture, lengths: ArrayLike, *, attention: str, supervised: float) -> float:
    """FLOPs of forward and backward over documents of the given lengths.

    Args:
        arch: The model.
        lengths: Tokens of each document.
        attention: "bidirectional" or "causal".
        supervised: Number of tokens that carry loss; only they pass the head and the vocabulary projection.
    """
    tokens = float(np.sum(np.asarray(lengths, dtype=np.int64)))
    hidden, L = arch.hidden_size, arch.num_hidden_layers
    linear = L * (4 * hidden * hidden + 3 * hidden * arch.intermediate_size) * tokens
    right = None if attention == "bidirectional" else 0
    window = arch.side_window if attention == "bidirectional" else arch.causal_left
    global_keys = keys_seen(lengths, left=None, right=right).sum()
    local_keys = keys_seen(lengths, left=window, right=0 if right == 0 else window).sum()
    scores = 2 * hidden * (arch.global_layers * float(global_keys) + (L - arch.global_layers) * float(local_keys))
    return 3 * 2 * (linear + scores) + head_flops(arch) * supervised


def head_flops(arch: Architecture) -> float:
    """FLOPs, forward and backward, that a supervised token adds: the head and the vocabulary projection."""
    return 3 * 2 * (arch.hidden_size * arch.hidden_size + arch.hidden_size * arch.vocab_size)
