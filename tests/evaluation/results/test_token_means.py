"""Intervals of losses per token, against scipy where the two agree by definition."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from detour.errors import DataError
from detour.evaluation.probes.masked_lm import RowLosses
from detour.evaluation.results.token_means import loss_change, loss_of, token_mean


def losses(values, tokens, documents, sha256="same"):
    return RowLosses(loss_R=np.array(values, float), hits_R=np.zeros(len(values), int), masked_R=np.array(tokens),
                     document_R=np.array(documents), tokens=sum(tokens), sha256=sha256)  # fmt: skip


def test_documents_of_equal_length_have_students_interval():
    sums = np.random.default_rng(0).normal(20, 3, size=12)
    found = token_mean(sums, np.full(12, 10), np.arange(12))
    expected = stats.ttest_1samp(sums / 10, 0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((sums.mean() / 10, expected.low, expected.high))
    assert (found.documents, found.tokens) == (12, 120)


def test_windows_of_a_document_count_as_one():
    found = token_mean(np.array([1.0, 3.0, 2.0, 6.0]), np.array([1, 1, 2, 2]), np.array([5, 5, 9, 9]))
    merged = token_mean(np.array([4.0, 8.0]), np.array([2, 4]), np.array([0, 1]))
    assert found == merged
    assert found.documents == 2


def test_the_variance_of_a_ratio_by_hand():
    """Sums 2, 6 over 1, 3 tokens: the mean is 2, no residual. Sums 2, 2 over 1, 3: mean 1, residuals 1 and -1."""
    assert token_mean(np.array([2.0, 6.0]), np.array([1, 3]), np.arange(2)).low == 2
    found = token_mean(np.array([2.0, 2.0]), np.array([1, 3]), np.arange(2))
    half = stats.t.ppf(0.975, 1) * math.sqrt(2 * (1 + 1)) / 4
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1 - half, 1 + half))


def test_a_change_is_paired():
    a = losses([10, 20, 30], [5, 10, 10], [0, 1, 2])
    b = losses([11, 22, 32], [5, 10, 10], [0, 1, 2])  # a fifth of a nat more at every token
    found = loss_change(a, b)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2), abs=1e-9)
    assert loss_of(b).high - loss_of(b).low > 1
    with pytest.raises(DataError, match="other tokens or masks"):
        loss_change(a, replace(b, sha256="other"))


def test_one_document_has_no_interval():
    assert math.isnan(token_mean(np.array([1.0]), np.array([2]), np.array([0])).low)
