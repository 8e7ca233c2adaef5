"""Masked-LM probes on held-out text: accuracy and loss at masked tokens, and pseudo-perplexity.

Shapes: N rows of one forward pass, R windows, T positions, K masked positions, V vocabulary.
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True, kw_only=True)
class RowLosses:
    """Losses at the masked tokens of each text window, of one model. Windows without a masked token are left out.

    Attributes:
        loss_R: float64 [R], sum of the negative log-probabilities in nats.
        hits_R: int64 [R], masked tokens for which the most probable token is correct.
        masked_R: int64 [R], masked tokens.
        document_R: int64 [R], index of the document that the window was cut from.
        tokens: Number of ordinary tokens in all windows.
        sha256: Hash of token ids and masks: losses with the same hash are about the same tokens.
    """

    loss_R: np.ndarray
    hits_R: np.ndarray
    masked_R: np.ndarray
    document_R: np.ndarray
    tokens: int
    sha256: str

    @property
    def loss(self) -> float:
        """Mean over masked tokens, in nats."""
        return float(self.loss_R.sum() / self.masked_R.sum())


def masked_losses(
    encoder: Frozen,
    texts: Iterable[str],
    *,
    window: int = 512,
    mask_fraction: float = 0.15,
    max_tokens: int = 200_000,
    seed: int = 0,
) -> RowLosses:
    """Masks a fraction of the ordinary tokens of held-out text at once, and measures the loss at each window.

    Models with the same tokenizer get the same windows and masks; arguments as in `held_out_probe`.

    Raises:
        DataError: The texts contain no window of at least 8 tokens, or no token was masked.

    Cost: one forward pass per window.
    """
    rows = _windows(encoder, texts, min(window, encoder.longest), max_tokens)
    return _masked_losses(encoder, rows, mask_fraction, np.random.default_rng(seed))


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
        DataError: The texts contain no window of at least 8 tokens, or no token was masked.

    Cost: one forward pass per window, and ``single`` passes in batches of 16.
    """
    rows = _windows(encoder, texts, min(window, encoder.longest), max_tokens)
    rng = np.random.default_rng(seed)
    found = _masked_losses(encoder, rows, mask_fraction, rng)
    maskable = _maskable(encoder, rows)
    candidates = [(i, t) for i, positions in enumerate(maskable) for t in positions]
    drawn = sorted(rng.choice(len(candidates), size=min(single, len(candidates)), replace=False))
    mask_id = vocab_of(encoder.tokenizer).mask_id
    single_K = _single_losses(encoder, [row for _, row in rows], [candidates[i] for i in drawn], mask_id)
    masked = int(found.masked_R.sum())
    return MaskedLMScores(
        accuracy=int(found.hits_R.sum()) / masked,
        loss=found.loss,
        masked=masked,
        pseudo_perplexity=math.exp(single_K.mean()),
        single=len(single_K),
        windows=len(rows),
        tokens=found.tokens,
    )


def _masked_losses(
    encoder: Frozen, rows: Sequence[tuple[int, Tensor]], mask_fraction: float, rng: np.random.Generator
) -> RowLosses:
    mask_id = vocab_of(encoder.tokenizer).mask_id
    maskable, digest = _maskable(encoder, rows), hashlib.sha256()
    values: list[tuple[float, int, int, int]] = []  # loss, hits, masked tokens, document
    for (document, row_T), positions in zip(rows, maskable, strict=True):
        masked_T = torch.zeros(len(row_T), dtype=torch.bool)
        masked_T[positions[rng.random(len(positions)) < mask_fraction]] = True
        digest.update(row_T.numpy().astype("<i8").tobytes() + masked_T.numpy().tobytes())
        if masked_T.any():
            log_p_KV = encoder.log_probabilities(row_T.masked_fill(masked_T, mask_id)[None], masked_T[None])
            target_K = row_T[masked_T]
            loss = -log_p_KV.gather(-1, target_K[:, None]).double().sum()
            hits = (log_p_KV.argmax(-1) == target_K).sum()
            values.append((float(loss), int(hits), len(target_K), document))
    if not values:
        raise DataError(f"held-out text: {sum(map(len, maskable))} tokens in {len(rows)} windows, none of them masked")
    loss_R, hits_R, masked_R, document_R = (np.array(column) for column in zip(*values, strict=True))
    return RowLosses(
        loss_R=loss_R,
        hits_R=hits_R,
        masked_R=masked_R,
        document_R=document_R,
        tokens=sum(map(len, maskable)),
        sha256=digest.hexdigest(),
    )


def _maskable(encoder: Frozen, rows: Sequence[tuple[int, Tensor]]) -> list[np.ndarray]:
    """int64 [K] per window: positions of the ordinary tokens."""
    vocab = vocab_of(encoder.tokenizer)
    ordinary_V = torch.zeros(vocab.size, dtype=torch.bool)
    ordinary_V[vocab.ordinary_ids] = True
    return [np.flatnonzero(ordinary_V[row].numpy()) for _, row in rows]


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


def _windows(encoder: Frozen, texts: Iterable[str], window: int, max_tokens: int) -> list[tuple[int, Tensor]]:
    """Document and int64 [T] of each window: at most ``window`` tokens of one document, with the template's special tokens.

    Raises:
        DataError: There is none of at least 8 tokens.
    """
    rows: list[tuple[int, Tensor]] = []
    tokens = 0
    for document, text in enumerate(texts):
        encoded = encoder.tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids: list[int] = encoded["input_ids"]  # type: ignore[assignment]
        special: list[int] = encoded["special_tokens_mask"]  # type: ignore[assignment]
        inner = [id for id, is_special in zip(ids, special, strict=True) if not is_special]
        before = special.index(0) if inner else 0
        inner_window = window - (len(ids) - len(inner))
        for begin in range(0, len(inner), inner_window):
            part = inner[begin : begin + inner_window]
            if len(part) >= SHORTEST_WINDOW:
                rows.append((document, torch.tensor([*ids[:before], *part, *ids[before + len(inner) :]])))
                tokens += len(part)
        if tokens >= max_tokens:
            break
    if not rows:
        raise DataError(f"held-out text: no window of at least {SHORTEST_WINDOW} tokens")
    return rows
