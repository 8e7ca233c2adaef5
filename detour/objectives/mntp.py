"""Masked next-token prediction (LLM2Vec, arXiv 2404.05961): a masked token is predicted one position before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detour.batch import IGNORE
from detour.objectives.base import register
from detour.objectives.mlm import MLM

if TYPE_CHECKING:
    from torch import Tensor


@register("mntp")
@dataclass(frozen=True, kw_only=True)
class MNTP(MLM):
    """Predict randomly selected tokens from their bidirectional context, each at the position before it.

    A decoder keeps the alignment that it was trained with. The first token of a document is never selected, because there is
    no position before it. Options as `MLM`.
    """

    rate: float = 0.2

    def _eligible(self, doc_BT: Tensor, ordinary_BT: Tensor) -> Tensor:
        eligible_BT = super()._eligible(doc_BT, ordinary_BT)
        eligible_BT[:, 0] = False
        eligible_BT[:, 1:] &= doc_BT[:, 1:] == doc_BT[:, :-1]
        return eligible_BT

    def _labels(self, chosen_BT: Tensor) -> Tensor:
        labels_BT = chosen_BT.roll(-1, 1)
        labels_BT[:, -1] = IGNORE
        return labels_BT

    def target_fraction(self, mean_document_tokens: float) -> float:
        return self.rate * (1 - 1 / mean_document_tokens)
