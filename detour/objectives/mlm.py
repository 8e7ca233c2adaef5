"""Masked language modeling (BERT, arXiv 1810.04805, section 3.1), by token or by whole word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.errors import ConfigError
from detour.objectives.base import Objective, register
from detour.objectives.random import RowRandom
from detour.vocab import Vocab

if TYPE_CHECKING:
    from torch import Tensor


@register("mlm")
@dataclass(frozen=True, kw_only=True)
class MLM(Objective):
    """Predict randomly selected tokens from their bidirectional context.

    Special tokens and padding are never selected. A selected token is replaced by the mask token, replaced by a random
    ordinary token, or kept. If no token of a row is selected, the one with the smallest draw is, so that every row with an
    eligible token has a target.

    Attributes:
        rate: Expected fraction of eligible tokens that are selected, in (0, 1).
        mask_fraction: Fraction of the selected tokens replaced by the mask token.
        random_fraction: Fraction of the selected tokens replaced by a random ordinary token.
        whole_word: Whether to select whole words; requires a tokenizer that marks word starts.
    """

    rate: float = 0.3
    mask_fraction: float = 0.8
    random_fraction: float = 0.1
    whole_word: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}, expected a number in (0, 1)")
        if not (
            min(self.mask_fraction, self.random_fraction) >= 0 and self.mask_fraction + self.random_fraction <= 1
        ):  # NaN too
            raise ValueError(
                f"mask_fraction {self.mask_fraction} and random_fraction {self.random_fraction} must be >= 0 and sum to <= 1"
            )

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        ids_BT, doc_BT = batch["input_ids"], doc_ids_of(batch)
        T = ids_BT.shape[1]
        eligible_BT = (doc_BT >= 0) & ~vocab.is_special_V[ids_BT]

        # all draws are always made, so that the random stream does not depend on the outcome
        select_BT, fate_BT = rng.uniform(T), rng.uniform(T)
        substitute_BT = vocab.ordinary_ids[rng.integers(len(vocab.ordinary_ids), T)]
        if self.whole_word:
            select_BT = select_BT.gather(1, _first_token_of_word(ids_BT, doc_BT, eligible_BT, vocab))
        select_BT = select_BT.masked_fill(~eligible_BT, 2.0)  # 2 is above any draw: never selected
        least_B1 = select_BT.min(1, keepdim=True).values
        chosen_BT = (select_BT < self.rate) | ((select_BT == least_B1) & (least_B1 >= self.rate) & eligible_BT)

        corrupted_BT = ids_BT.clone()
        corrupted_BT[chosen_BT & (fate_BT < self.mask_fraction)] = vocab.mask_id
        swapped_BT = chosen_BT & (fate_BT >= self.mask_fraction) & (fate_BT < self.mask_fraction + self.random_fraction)
        corrupted_BT[swapped_BT] = substitute_BT[swapped_BT]
        return {**batch, "input_ids": corrupted_BT, "labels": ids_BT.where(chosen_BT, IGNORE)}

    def target_fraction(self, mean_document_tokens: float) -> float:
        return self.rate


def _first_token_of_word(ids_BT: Tensor, doc_BT: Tensor, eligible_BT: Tensor, vocab: Vocab) -> Tensor:
    """Position of the first token of each token's word, int64 [B, T]. Words end at special tokens and document boundaries."""
    import torch

    if vocab.starts_word_V is None:
        raise ConfigError(
            "objective 'mlm': whole_word needs a tokenizer whose tokens tell where words begin; this one's do not"
        )
    starts_BT = vocab.starts_word_V[ids_BT] | ~eligible_BT
    starts_BT[:, 1:] |= (doc_BT[:, 1:] != doc_BT[:, :-1]) | ~eligible_BT[:, :-1]
    starts_BT[:, 0] = True
    position_T = torch.arange(ids_BT.shape[1])
    return torch.where(starts_BT, position_T, 0).cummax(1).values
