"""FLOPs of training, counted from the document lengths.

A multiply-add of a matrix product counts as two FLOPs, and the backward pass as twice the forward pass. Elementwise
operations, norms and softmax are left out, as usual (arXiv 2001.08361, appendix B). Attention is counted by the number of
visible query-key pairs: the FLOPs that the model needs, not those that a kernel spends.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike

from detour.attention_rule import Rule
from detour.models.architecture import Architecture


def visible_keys(lengths: ArrayLike, *, left: int | None, right: int | None) -> np.ndarray:
    """Number of visible query-key pairs in each document.

    Args:
        lengths: Tokens of each document.
        left: Keys that a token sees to its left; None is unlimited.
        right: Keys that a token sees to its right; None is unlimited.

    Returns:
        int64, of the shape of ``lengths``.
    """
    n = np.asarray(lengths, dtype=np.int64)

    def one_side(window: int | None) -> np.ndarray:
        w = n if window is None else np.minimum(window, n)
        return w * (2 * n - w - 1) // 2  # sum over positions i of min(i, w)

    return n + one_side(left) + one_side(right)


def training_flops(
    arch: Architecture, lengths: ArrayLike, *, attention: str, supervised: float, reach_BT: np.ndarray | None = None
) -> float:
    """FLOPs of the forward and backward pass.

    Args:
        arch: Architecture of the model.
        lengths: Tokens of each document; [B, D] if ``reach_BT`` is given.
        attention: As `detour.attention_rule.Rule.of` reads it.
        supervised: Number of tokens that carry loss; only these pass through the head and the vocabulary projection.
        reach_BT: Number of tokens to its right that each token sees, if attention is "reach". If it is not known, as in a
            plan, all of them count: an upper bound.
    """
    tokens = float(np.sum(np.asarray(lengths, dtype=np.int64)))
    linear = arch.num_hidden_layers * arch.layer_weights * tokens
    layers = Counter(rule.attention for rule in arch.layer_rules(attention))
    keys = sum(count * float(_visible_keys(lengths, rule, reach_BT)) for rule, count in layers.items())
    scores = 2 * arch.num_attention_heads * arch.head_dim * keys
    return 3 * 2 * (linear + scores) + head_flops(arch) * supervised


def head_flops(arch: Architecture) -> float:
    """FLOPs per supervised token of the head and the vocabulary projection, forward and backward."""
    return 3 * 2 * (arch.head_weights + arch.hidden_size * arch.vocab_size)


def _visible_keys(lengths: ArrayLike, rule: Rule, reach_BT: np.ndarray | None) -> int:
    """Number of visible query-key pairs under a rule, over all documents."""
    left, right = (None if side < 0 else side for side in rule.sides)
    if not rule.reach or reach_BT is None:
        return visible_keys(lengths, left=left, right=right).sum()
    n = np.asarray(lengths, dtype=np.int64)
    keys_of = visible_keys(n, left=left, right=0).sum()
    for reach_T, lengths_D in zip(reach_BT, n, strict=True):
        ends_T = np.repeat(lengths_D.cumsum(), lengths_D)  # first position after each token's document
        behind_T = ends_T - 1 - np.arange(len(ends_T))
        visible_T = np.minimum(behind_T, reach_T[: len(ends_T)])
        keys_of += (visible_T if right is None else np.minimum(visible_T, right)).sum()
    return keys_of
