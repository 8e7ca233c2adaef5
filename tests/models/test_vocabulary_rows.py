"""Rows of the vocabulary taken from others: by a computation by hand."""

import torch

from detour.models.encoder import EMBEDDING, PROJECTION
from detour.models.vocabulary_rows import take_rows


def test_rows_are_copies_means_and_the_mean_of_all():
    weights = {
        EMBEDDING: torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 2.0]]),
        PROJECTION: torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.9]]),
        "decoder.bias": torch.tensor([1.0, -1.0, 3.0]),
        "head.dense.weight": torch.eye(2),
    }
    taken = take_rows(weights, [(2,), (0,), (0, 1), (1, 2, 2), ()])
    torch.testing.assert_close(taken[EMBEDDING], torch.tensor([[8.0, 2], [1, 2], [2, 3.5], [19 / 3, 3], [4, 3]]))
    torch.testing.assert_close(
        taken[PROJECTION], torch.tensor([[0.5, 0.9], [0.1, 0.2], [0.2, 0.3], [1.3 / 3, 2.2 / 3], [0.3, 0.5]])
    )
    torch.testing.assert_close(taken["decoder.bias"], torch.tensor([3.0, 1, 0, 5 / 3, 1]))
    assert torch.equal(taken[PROJECTION][:2], weights[PROJECTION][[2, 0]])  # copies, bit for bit
    assert taken["head.dense.weight"] is weights["head.dense.weight"]
