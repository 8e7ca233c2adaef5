"""Masked language modeling (BERT, arXiv 1810.04805, section 3.1), by token, whole word, or span (arXiv 1907.10529)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.errors import ConfigError
from detour.objectives import spans
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
        mean_span: Mean length of spans, as SpanBERT draws them (`detour.objectives.spans`); null selects tokens one by one. It
            counts words if `whole_word`, else tokens. Of each span all tokens meet the same fate.
        max_span: Greatest length of a span.
        lookahead: Number of tokens to its right that a token may attend to; null for all of them. A schedule from 0 anneals the
            attention from causal to bidirectional.
    """

    rate: float = 0.3
    mask_fraction: float = 0.8
    random_fraction: float = 0.1
    whole_word: bool = False
    mean_span: float | None = None
    max_span: int = 10
    lookahead: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}, expected a number in (0, 1)")
        if not (
            min(self.mask_fraction, self.random_fraction) >= 0 and self.mask_fraction + self.random_fraction <= 1
        ):  # NaN too
            raise ValueError(
                f"mask_fraction {self.mask_fraction} and random_fraction {self.random_fraction} must be >= 0 and sum to <= 1"
            )
        if self.mean_span is not None:
            spans.check_lengths(self.mean_span, self.max_span)
        if self.lookahead is not None and self.lookahead < 0:
            raise ValueError(f"lookahead is {self.lookahead}, expected at least 0 tokens, or null for all")

    @property
    def attention(self) -> str:  # type: ignore[override]
        return "bidirectional" if self.lookahead is None else f"lookahead:{self.lookahead}"

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        ids_BT, doc_BT = batch["input_ids"], doc_ids_of(batch)
        T = ids_BT.shape[1]
        eligible_BT = self._eligible(doc_BT, ~vocab.is_special_V[ids_BT])

        # all draws are always made, so that the random stream does not depend on the outcome
        select_BT, fate_BT = rng.uniform(T), rng.uniform(T)
        substitute_BT = vocab.ordinary_ids[rng.integers(len(vocab.ordinary_ids), T)]
        unit_BT = _first_token_of_word(ids_BT, doc_BT, eligible_BT, vocab) if self.whole_word else None
        if self.mean_span is not None:
            chosen_BT, unit_BT = spans.choose(
                doc_BT,
                eligible_BT,
                unit_BT,
                select_BT,
                rng.uniform(T),
                rate=self.rate,
                mean=self.mean_span,
                most=self.max_span,
            )
            fate_BT = fate_BT.gather(1, unit_BT)
        else:
            select_BT = select_BT if unit_BT is None else select_BT.gather(1, unit_BT)
            chosen_BT = choose_below(select_BT, eligible_BT, self.rate)

        corrupted_BT = ids_BT.clone()
        corrupted_BT[chosen_BT & (fate_BT < self.mask_fraction)] = vocab.mask_id
        swapped_BT = chosen_BT & (fate_BT >= self.mask_fraction) & (fate_BT < self.mask_fraction + self.random_fraction)
        corrupted_BT[swapped_BT] = substitute_BT[swapped_BT]
        return {**batch, "input_ids": corrupted_BT, "labels": self._labels(ids_BT.where(chosen_BT, IGNORE))}

    def _eligible(self, doc_BT: Tensor, ordinary_BT: Tensor) -> Tensor:
        """Which tokens may be selected."""
        return (doc_BT >= 0) & ordinary_BT

    def _labels(self, chosen_BT: Tensor) -> Tensor:
        """Labels from the selected tokens, IGNORE elsewhere."""
        return chosen_BT

    def target_fraction(self, mean_document_tokens: float) -> float:
        return self.rate


def choose_below(draw_BT: Tensor, eligible_BT: Tensor, rate: float | Tensor) -> Tensor:
    """Selects the eligible tokens whose draw is below the rate, and at least the one with the smallest draw, in each row.

    Args:
        draw_BT: Uniform in [0, 1).
        eligible_BT: Which tokens may be selected.
        rate: Rate of selection; a number, or one per row [B, 1].
    """
    draw_BT = draw_BT.masked_fill(~eligible_BT, 2.0)  # 2 is above any draw: never selected
    least_B1 = draw_BT.min(1, keepdim=True).values
    return (draw_BT < rate) | ((draw_BT == least_B1) & (least_B1 >= rate) & eligible_BT)


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
