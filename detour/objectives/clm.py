"""Causal language modeling: each token predicts the next one of its own document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.objectives.base import Objective, register
from detour.objectives.random import RowRandom
from detour.vocab import Vocab

if TYPE_CHECKING:
    from torch import Tensor


@register("clm")
@dataclass(frozen=True, kw_only=True)
class CLM(Objective):
    """Next-token prediction within each document, deterministic and without corruption of the inputs.

    The last token of a document has no target, so the fraction of supervised tokens is 1 - documents / tokens.
    """

    attention: ClassVar[str] = "causal"

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        return {**batch, "labels": next_tokens(batch["input_ids"], doc_ids_of(batch))}

    def target_fraction(self, mean_document_tokens: float) -> float:
        return 1.0 - 1.0 / mean_document_tokens


def next_tokens(ids_BT: Tensor, doc_BT: Tensor) -> Tensor:
    """The next token of each token's own document, int64 [B, T]; IGNORE at its last token and at padding."""
    import torch

    labels_BT = torch.full_like(ids_BT, IGNORE)
    same_document = (doc_BT[:, :-1] == doc_BT[:, 1:]) & (doc_BT[:, 1:] >= 0)
    labels_BT[:, :-1] = ids_BT[:, 1:].where(same_document, IGNORE)
    return labels_BT
