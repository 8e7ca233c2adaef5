"""Masked diffusion (MDLM, arXiv 2406.07524; LLaDA, arXiv 2502.09992, equation 3)."""

from __future__ import annotations

from dataclasses import dataclass

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.objectives.base import Objective, register
from detour.objectives.mlm import choose_below
from detour.objectives.random import RowRandom
from detour.vocab import Vocab


@register("masked_diffusion")
@dataclass(frozen=True, kw_only=True)
class MaskedDiffusion(Objective):
    """Predict masked tokens at a mask rate t drawn for each row, with weight 1 / t; the mean is over all eligible tokens.

    The expected loss bounds the negative log-likelihood of the text per token. t is uniform in [min_rate, 1). In a row of which
    no token is selected, one is, with weight 0.

    Attributes:
        min_rate: Least mask rate; it bounds the weights.
        block: Attention is causal between blocks of this many tokens and bidirectional within them; null for bidirectional.
            Blocks begin with the document.
    """

    min_rate: float = 0.001
    block: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_rate < 1:
            raise ValueError(f"min_rate is {self.min_rate}, expected a number in (0, 1)")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block is {self.block}, expected at least 1 token, or null")

    @property
    def attention(self) -> str:  # type: ignore[override]
        return "bidirectional" if self.block is None else "reach"

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        import torch

        ids_BT, doc_BT = batch["input_ids"], doc_ids_of(batch)
        eligible_BT = (doc_BT >= 0) & ~vocab.is_special_V[ids_BT]
        t_B1 = self.min_rate + (1 - self.min_rate) * rng.uniform(1)
        draw_BT = rng.uniform(ids_BT.shape[1])
        chosen_BT = choose_below(draw_BT, eligible_BT, t_B1)
        out: Batch = {
            **batch,
            "input_ids": torch.where(chosen_BT, vocab.mask_id, ids_BT),
            "labels": ids_BT.where(chosen_BT, IGNORE),
            "weights": torch.where(draw_BT < t_B1, 1 / t_B1, 0.0),
            "loss_tokens": eligible_BT.sum(1),
        }
        if self.block is not None:
            lengths_BD = batch["doc_lengths"]
            start_BT = (lengths_BD.cumsum(1) - lengths_BD).gather(1, doc_BT.clamp(min=0))
            position_BT = (torch.arange(ids_BT.shape[1]) - start_BT).where(doc_BT >= 0, 0)
            out["reach"] = self.block - 1 - position_BT % self.block
        return out

    def target_fraction(self, mean_document_tokens: float) -> float:
        return (1 + self.min_rate) / 2
