"""Prefix language modeling (UniLM, arXiv 1905.03197; T5, arXiv 1910.10683, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.objectives.base import Objective, register
from detour.objectives.clm import next_tokens
from detour.objectives.random import RowRandom
from detour.vocab import Vocab


@register("prefix_lm")
@dataclass(frozen=True, kw_only=True)
class PrefixLM(Objective):
    """Next-token prediction after a prefix of each document, within which attention is bidirectional.

    The length of the prefix is drawn for each document, uniformly from 1 to its length less 1. The last token of the prefix
    predicts the first one after it. A document of one token has no target.
    """

    attention: ClassVar[str] = "reach"

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        import torch

        doc_BT, T = doc_ids_of(batch), batch["input_ids"].shape[1]
        lengths_BD = batch["doc_lengths"]
        starts_BD = (lengths_BD.cumsum(1) - lengths_BD).clamp(max=T - 1)
        # drawn at the first token, so that the draw does not depend on how many documents other rows have
        draw_BD = rng.uniform(T).gather(1, starts_BD).double()
        prefix_BD = torch.minimum(1 + (draw_BD * (lengths_BD - 1)).long(), lengths_BD - 1).clamp(min=0)
        last_BT = (starts_BD + prefix_BD - 1).gather(1, doc_BT.clamp(min=0))  # last position of the prefix
        at_T = torch.arange(T)
        reach_BT = (last_BT - at_T).clamp(min=0).where(doc_BT >= 0, 0)
        labels_BT = next_tokens(batch["input_ids"], doc_BT).where(at_T >= last_BT, IGNORE)
        return {**batch, "labels": labels_BT, "reach": reach_BT}

    def target_fraction(self, mean_document_tokens: float) -> float:
        return 0.5
