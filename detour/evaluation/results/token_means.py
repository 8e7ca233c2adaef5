"""Mean losses per token with intervals over documents, of one model and of two models on the same tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detour.errors import DataError
from detour.evaluation.probes.masked_lm import RowLosses
from detour.evaluation.results.statistics import LEVEL


@dataclass(frozen=True, kw_only=True)
class TokenMean:
    """A mean over tokens, or a difference of two.

    Attributes:
        mean: Sum over all tokens / number of tokens, in nats.
        low: Lower end of the 95% interval; NaN for fewer than two documents.
        high: Its upper end.
        documents: Number of documents.
        tokens: Number of masked tokens.
    """

    mean: float
    low: float
    high: float
    documents: int
    tokens: int


def token_mean(sums_R: np.ndarray, tokens_R: np.ndarray, document_R: np.ndarray) -> TokenMean:
    """The ratio of two sums over text windows, with a t interval over documents.

    Windows of one document are not independent: they are summed first. The variance is that of a ratio estimator by
    linearization (Cochran 1977, section 6.4): with D documents, sums s and tokens n, and mean m,
    D / (D - 1) sum((s - m n)^2) / sum(n)^2; the quantile is that of t with D - 1 degrees of freedom.

    Args:
        sums_R: float [R], sum of each window.
        tokens_R: int [R], tokens of each window.
        document_R: int [R], document of each window.
    """
    from scipy.stats import t

    _, index_R = np.unique(document_R, return_inverse=True)
    sums_D, tokens_D = np.bincount(index_R, sums_R), np.bincount(index_R, tokens_R)
    documents, total = len(sums_D), tokens_D.sum()
    mean = float(sums_D.sum() / total)
    half = math.nan
    if documents > 1:
        spread = ((sums_D - mean * tokens_D) ** 2).sum() * documents / (documents - 1)
        half = float(t.ppf((1 + LEVEL) / 2, documents - 1) * math.sqrt(spread) / total)
    return TokenMean(mean=mean, low=mean - half, high=mean + half, documents=documents, tokens=int(total))


def loss_of(losses: RowLosses) -> TokenMean:
    """The loss of a model per masked token."""
    return token_mean(losses.loss_R, losses.masked_R, losses.document_R)


def loss_change(before: RowLosses, after: RowLosses) -> TokenMean:
    """The second model's loss minus the first's, per masked token, paired by token.

    Raises:
        DataError: The two are not about the same tokens and masks.
    """
    if before.sha256 != after.sha256:
        raise DataError("held-out losses: the two models have other tokens or masks; their tokenizers differ")
    return token_mean(after.loss_R - before.loss_R, before.masked_R, before.document_R)
