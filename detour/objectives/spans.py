"""Spans to mask, with geometric lengths (SpanBERT, arXiv 1907.10529, section 3.1)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def check_lengths(mean: float, most: int) -> None:
    """Raises ValueError unless a geometric distribution cut at ``most`` can have this mean."""
    if most < 1 or most > 1000:
        raise ValueError(f"max_span is {most}, expected 1 to 1000")
    if not 1 <= mean <= (1 + most) / 2:
        raise ValueError(
            f"mean_span is {mean}, expected 1 to {(1 + most) / 2:g}: lengths are geometric, and max_span is {most}"
        )


@lru_cache
def length_probabilities(mean: float, most: int) -> np.ndarray:
    """Probabilities of the lengths 1 to ``most``: geometric, cut there and scaled to sum to 1, float64 [most].

    SpanBERT's Geo(0.2) cut at 10 has a mean of 3.8.
    """
    lengths = np.arange(1, most + 1)

    def of(p: float) -> np.ndarray:
        weights = (1 - p) ** (lengths - 1.0)
        return weights / weights.sum()

    low, high = 0.0, 1.0  # the mean falls from (1 + most) / 2 to 1
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if of(p) @ lengths > mean else (low, p)
    return of(high)


def choose(
    doc_BT: Tensor,
    eligible_BT: Tensor,
    unit_BT: Tensor | None,
    order_BT: Tensor,
    length_BT: Tensor,
    *,
    rate: float,
    mean: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Selects spans in each document until a share of its eligible tokens is selected.

    Spans begin at random units and do not overlap; the last one is cut where the share is reached. A fractional number of
    tokens is rounded at random, so that the expected share is the rate in short documents too.

    Args:
        doc_BT: Index of each token's document; -1 is padding.
        eligible_BT: Which tokens may be selected.
        unit_BT: Position of the first token of each token's word; None if units are tokens.
        order_BT: Uniform draws: spans begin at units in the order of their first token's draw.
        length_BT: Uniform draws: the length of a span that begins there, and the rounding.
        rate: Share of the eligible tokens to select.
        mean: Mean number of units of a span.
        most: Greatest number of units of a span.

    Returns:
        The selected tokens, bool [B, T]; and the first position of each selected token's span, int64 [B, T].
    """
    import torch

    B, T = doc_BT.shape
    chosen = np.zeros((B, T), bool)
    first = np.tile(np.arange(T), (B, 1))
    ends = np.cumsum(length_probabilities(mean, most))
    eligible, doc, order, draw = (x.numpy() for x in (eligible_BT, doc_BT, order_BT, length_BT))
    unit = first if unit_BT is None else unit_BT.numpy()
    for b in range(B):
        lengths = 1 + np.searchsorted(ends, draw[b], side="right").clip(max=most - 1)
        at = np.flatnonzero(eligible[b])
        bounds = np.flatnonzero(np.diff(doc[b][at])) + 1
        for tokens in np.split(at, bounds):
            if len(tokens):
                wanted = rate * len(tokens)
                budget = math.floor(wanted) + int(draw[b, tokens[0]] < wanted % 1)
                _choose_in_document(tokens, unit[b], order[b], lengths, budget, chosen[b], first[b])
        if len(at) and not chosen[b].any():
            chosen[b, at[order[b, at].argmin()]] = True
    return torch.from_numpy(chosen), torch.from_numpy(first)


def _choose_in_document(
    tokens: np.ndarray,
    unit: np.ndarray,
    order: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    chosen: np.ndarray,
    first: np.ndarray,
) -> None:
    """Writes the spans of one document into ``chosen`` and ``first``, both [T]."""
    starts = np.unique(unit[tokens])  # first tokens of the units, in order
    number = np.searchsorted(starts, unit[tokens])  # unit of each token
    free = np.ones(len(starts), bool)
    for i in order[starts].argsort(kind="stable"):
        if budget <= 0:
            return
        if not free[i]:
            continue
        taken = np.flatnonzero(~free[i : i + lengths[starts[i]]])
        end = i + (taken[0] if len(taken) else lengths[starts[i]])
        inside = tokens[(number >= i) & (number < end)]
        run = inside[: np.flatnonzero(np.diff(inside) > 1)[0] + 1] if (np.diff(inside) > 1).any() else inside
        run = run[:budget]
        free[number[np.searchsorted(tokens, run)]] = False
        chosen[run], first[run] = True, run[0]
        budget -= len(run)
