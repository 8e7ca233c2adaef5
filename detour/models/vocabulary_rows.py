"""The rows of the vocabulary in an encoder's weights, rearranged for another tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detour.models.encoder import EMBEDDING, PROJECTION

OF_VOCABULARY = (EMBEDDING, PROJECTION, "decoder.bias")  # those of them that are stored have a row for each token


def take_rows(weights: Mapping[str, Tensor], sources: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Weights whose row i of the vocabulary is the mean of the rows ``sources[i]``; of all rows, where there are none.

    The mean of one row is a copy, bit for bit. Other weights are handed on.

    Args:
        weights: Under the encoder's names.
        sources: For each row of the new vocabulary, rows of the old one.
    """
    flat = torch.tensor([id for ids in sources for id in ids], dtype=torch.int64)
    counts = torch.tensor([len(ids) for ids in sources], dtype=torch.int64)
    starts = counts.cumsum(0) - counts
    taken = dict(weights)
    for name in OF_VOCABULARY:
        if name not in weights:
            continue
        table = weights[name] if weights[name].ndim == 2 else weights[name][:, None]
        rows = F.embedding_bag(flat, table, starts, mode="mean")
        rows[counts == 0] = table.mean(0)
        taken[name] = rows.reshape(len(sources), *weights[name].shape[1:])
    return taken
