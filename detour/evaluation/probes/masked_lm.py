"""Masked-LM probes on held-out text: accuracy and loss at masked tokens, and pseudo-perplexity.

Shapes: N rows of one forward pass, T positions, K masked positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detour.data.tokenizer import vocab_of
from detour.errors import DataError
from detour.evaluation.probes.frozen import Frozen

BATCH = 16
SHORTEST_WINDOW = 8  # tokens


@dataclass(frozen=True, kw_only=True)
class MaskedLMScores:
    """Masked-LM scores on held-out text. Comparable only between models with the same tokenizer.

    Attributes:
        accuracy: Fraction of masked tokens for which the most probable token is correct.
        loss: Mean negative log-probability of the masked tokens, in nats.
        masked: Number of masked tokens behind `accuracy` and `loss`.
        pseudo_perplexity: exp of the mean negative log-probability of tokens that are masked one at a time.
        single: Number of tokens behind `pseudo_perplexity`.
        windows: Number of text windows.
        tokens: Number of ordinary tokens in the windows.
    """

    accuracy: float
    loss: float
    masked: int
    pseudo_perplexity: float
    single: int
    windows: int
    tokens: int


def held_out_probe(
    encoder: Frozen,
    texts: Iterable[str],
    *,
    window: int = 512,
    mask_fraction: float = 0.15,
    single: int = 512,
    max_tokens: int = 200_000,
    seed: int = 0,
) -> MaskedLMScores:
    """Scores a masked language model on held-out text, cut into windows.

    Accuracy and loss are measured with ``mask_fraction`` of the ordinary tokens masked at once. Pseudo-perplexity
    (Salazar et al. 2020) masks one token at a time and needs one forward pass per token; it is estimated from ``single``
    positions sampled uniformly.

    Args:
        encoder: The model, loaded with its masked-LM head.
        texts: Documents. A document longer than a window is cut into several; a remainder under 8 tokens is dropped.
        window: Tokens per window, including special tokens; at most the maximum input length of the model.
        mask_fraction: Probability with which an ordinary token is replaced by the mask token.
        single: Number of positions that are masked one at a time.
        max_tokens: Documents are read until this many tokens are reached.
        seed: Seed of the masks, which are the same for all models with the same tokenizer.

    Raises:
        DataError: The texts contain no window of at least 8 tokens.

    Cost: one forward pass per window, and ``single`` passes in batches of 16.
    """
    vocab = vocab_of(encoder.tokenizer)
    rows = _windows(encoder, texts, min(window, encoder.longest), max_tokens)
    if not rows:
        raise DataError(f"held-out text: no window of at least {SHORTEST_WINDOW} tokens")
    rng = np.random.default_rng(seed)
    ordinary_V = torch.zeros(vocab.size, dtype=torch.bool)
    ordinary_V[vocab.ordinary_ids] = True
    maskable = [np.flatnonzero(ordinary_V[row].numpy()) for row in rows]
    hits, losses = 0, []
    for row_T, positions in zip(rows, maskable, strict=True):
        masked_T = torch.zeros(len(row_T), dtype=torch.bool)
        masked_T[positions[rng.random(len(positions)) < mask_fraction]] = True
        if masked_T.any():
            log_p_KV = encoder.log_probabilities(row_T.masked_fill(masked_T, vocab.mask_id)[None], masked_T[None])
            hits += int((log_p_KV.argmax(-1) == row_T[masked_T]).sum())
            losses.append(-log_p_KV.gather(-1, row_T[masked_T][:, None])[:, 0])
    loss_K = torch.cat(losses)
    candidates = [(i, t) for i, positions in enumerate(maskable) for t in positions]
    drawn = sorted(rng.choice(len(candidates), size=min(single, len(candidates)), replace=False))
    single_K = _single_losses(encoder, rows, [candidates[i] for i in drawn], vocab.mask_id)
    return MaskedLMScores(
        accuracy=hits / len(loss_K),
        loss=float(loss_K.mean()),
        masked=len(loss_K),
        pseudo_perplexity=math.exp(single_K.mean()),
        single=len(single_K),
        windows=len(rows),
        tokens=sum(map(len, maskable)),
    )


def _single_losses(
    encoder: Frozen, rows: Sequence[Tensor], positions: Sequence[tuple[int, int]], mask_id: int
) -> Tensor:
    """float32 [K]: negative log-probability of each (row, position), masked alone; ordered by row."""
    losses: list[Tensor] = []
    for i in sorted({row for row, _ in positions}):
        row_T, at_K = rows[i], torch.tensor([t for row, t in positions if row == i])
        for at_N in at_K.split(BATCH):
            masked_NT = torch.zeros(len(at_N), len(row_T), dtype=torch.bool)
            masked_NT[torch.arange(len(at_N)), at_N] = True
            ids_NT = row_T.expand(len(at_N), -1).masked_fill(masked_NT, mask_id)
            log_p_NV = encoder.log_probabilities(ids_NT, masked_NT)
            losses.append(-log_p_NV.gather(-1, row_T[at_N][:, None])[:, 0])
    return torch.cat(losses)


def _windows(encoder: Frozen, texts: Iterable[str], window: int, max_tokens: int) -> list[Tensor]:
    """int64 [T] per window: at most ``window`` tokens of one document, the template's special tokens included."""
    rows: list[Tensor] = []
    tokens = 0
    for text in texts:
        encoded = encoder.tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids: list[int] = encoded["input_ids"]  # type: ignore[assignment]
        special: list[int] = encoded["special_tokens_mask"]  # type: ignore[assignment]
        inner = [id for id, is_special in zip(ids, special, strict=True) if not is_special]
        before = special.index(0) if inner else 0
        inner_window = window - (len(ids) - len(inner))
        for begin in range(0, len(inner), inner_window):
            part = inner[begin : begin + inner_window]
            if len(part) >= SHORTEST_WINDOW:
                rows.append(torch.tensor([*ids[:before], *part, *ids[before + len(inner) :]]))
                tokens += len(part)
        if tokens >= max_tokens:
            break
    return rows
