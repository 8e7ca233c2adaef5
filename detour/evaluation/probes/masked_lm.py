"""What an encoder knows of held-out text: accuracy at masked tokens, and pseudo-perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from detour.data.tokenizer import vocab_of
from detour.errors import DataError
from detour.evaluation.probes.frozen import Frozen

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class MaskedLMScores:
    """Scores on held-out text. Comparable between models that share a tokenizer, and between no others.

    Attributes:
        accuracy: Share of masked tokens whose most probable token is the right one.
        loss: Mean negative log-probability of the masked tokens, nats.
        masked: Tokens that both are of.
        pseudo_perplexity: exp of the mean negative log-probability of a token, masked alone, all others seen.
        single: Tokens that it is of.
        windows: Pieces of text.
        tokens: In them, without special ones.
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
    rate: float = 0.15,
    single: int = 512,
    most_tokens: int = 200_000,
    seed: int = 0,
) -> MaskedLMScores:
    """Masks ordinary tokens of windows of text: a share of them at once, and single ones alone.

    Pseudo-perplexity (Salazar et al. 2020) masks each token alone, which takes as many passes as there are tokens;
    here it is estimated from ``single`` positions drawn evenly over all of them.

    Args:
        texts: Documents, in order; a longer one becomes several windows, a rest shorter than 8 tokens is left out.
        window: Tokens of a window, special ones included; at most what the model takes.
        rate: Share of the ordinary tokens masked at once, all by the mask token.
        single: Positions masked alone.
        most_tokens: Documents are taken until there are so many.
        seed: Of the draws; they do not depend on the model, but on the tokenizer.

    Raises:
        DataError: The texts hold no window.
    """
    vocab = vocab_of(encoder.tokenizer)
    rows = _windows(encoder, texts, min(window, encoder.longest), most_tokens)
    if not rows:
        raise DataError("held-out text: no window of at least 8 tokens")
    rng = np.random.default_rng(seed)
    ordinary_V = torch.zeros(vocab.size, dtype=torch.bool)
    ordinary_V[vocab.ordinary_ids] = True
    places = [np.flatnonzero(ordinary_V[row].numpy()) for row in rows]
    hits, losses = 0, []
    for row, place in zip(rows, places, strict=True):
        at_T = torch.zeros(len(row), dtype=torch.bool)
        at_T[place[rng.random(len(place)) < rate]] = True
        if not at_T.any():
            continue
        log_p_KV = encoder.log_probabilities(row.masked_fill(at_T, vocab.mask_id)[None], at_T[None])
        hits += int((log_p_KV.argmax(-1) == row[at_T]).sum())
        losses.append(-log_p_KV.gather(-1, row[at_T][:, None])[:, 0])
    loss_K = torch.cat(losses)
    every = [(i, t) for i, place in enumerate(places) for t in place]
    drawn = [every[i] for i in sorted(rng.choice(len(every), size=min(single, len(every)), replace=False))]
    alone = []
    for i in sorted({i for i, _ in drawn}):
        positions = torch.tensor([t for j, t in drawn if j == i])
        for some in positions.split(BATCH):
            at_NT = torch.zeros(len(some), len(rows[i]), dtype=torch.bool)
            at_NT[torch.arange(len(some)), some] = True
            ids_NT = rows[i].expand(len(some), -1).masked_fill(at_NT, vocab.mask_id)
            log_p_NV = encoder.log_probabilities(ids_NT, at_NT)
            alone.append(-log_p_NV.gather(-1, rows[i][some][:, None])[:, 0])
    alone_K = torch.cat(alone)
    return MaskedLMScores(
        accuracy=hits / len(loss_K),
        loss=float(loss_K.mean()),
        masked=len(loss_K),
        pseudo_perplexity=math.exp(alone_K.mean()),
        single=len(alone_K),
        windows=len(rows),
        tokens=sum(map(len, places)),
    )


def _windows(encoder: Frozen, texts: Iterable[str], window: int, most_tokens: int) -> list[torch.Tensor]:
    """int64 [T] each: the special tokens of the template around at most so many of a document."""
    rows: list[torch.Tensor] = []
    tokens = 0
    for text in texts:
        encoded = encoder.tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids: list[int] = encoded["input_ids"]  # type: ignore[assignment]
        special: list[int] = encoded["special_tokens_mask"]  # type: ignore[assignment]
        inner = [id for id, mark in zip(ids, special, strict=True) if not mark]
        before = special.index(0) if inner else 0
        room = window - (len(ids) - len(inner))
        for begin in range(0, len(inner), room):
            part = inner[begin : begin + room]
            if len(part) >= 8:
                rows.append(torch.tensor([*ids[:before], *part, *ids[before + len(inner) :]]))
                tokens += len(part)
        if tokens >= most_tokens:
            break
    return rows
