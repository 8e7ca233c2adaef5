"""CKA against the Gram form of its papers, written here on its own, and against values known beforehand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from detour.analysis.cka import MinibatchCKA, cka, divergence, hsic1, minibatch_cka, outlier_dimensions
from detour.errors import DataError


def gram_biased(x, y):
    n = len(x)
    h = np.eye(n) - 1 / n
    k, l = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h
    return np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l))


def gram_hsic1(x, y):
    n, one = len(x), np.ones(len(x))
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    sums = (one @ k @ one) * (one @ l @ one) / (n - 1) / (n - 2)
    return (np.trace(k @ l) + sums - 2 / (n - 2) * one @ k @ l @ one) / n / (n - 3)


def gram_unbiased(x, y):
    return gram_hsic1(x, y) / np.sqrt(gram_hsic1(x, x) * gram_hsic1(y, y))


GRAM = {"biased": gram_biased, "unbiased": gram_unbiased}


def related(n, p, q, seed, shift=3.0):
    """States that share a part, of means other than 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    return x + shift, x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) - shift


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@given(n=st.integers(8, 40), p=st.integers(2, 30), q=st.integers(2, 30), seed=st.integers(0, 1000))
def test_both_estimators_equal_the_kernel_form(estimator, n, p, q, seed):
    x, y = related(n, p, q, seed)
    assert cka(x, y, estimator=estimator) == pytest.approx(GRAM[estimator](x, y), abs=1e-10)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_a_rotation_a_scale_and_a_shift_leave_one(estimator, seed, scale):
    x, _ = related(30, 12, 2, seed)
    turned = scale * x @ ortho_group.rvs(12, random_state=seed) + 5
    assert cka(x, turned, estimator=estimator) == pytest.approx(1, abs=1e-9)
    assert divergence(cka(x, turned, estimator=estimator)) == pytest.approx(0, abs=1e-7)


def test_another_linear_map_is_no_invariance():
    x, _ = related(200, 4, 2, 0)
    assert cka(x, x * [10, 1, 1, 1], estimator="unbiased") < 0.9


def test_of_independent_states_with_fewer_texts_than_dimensions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500, 768))
    assert cka(x, y, estimator="biased") == pytest.approx(768 / (768 + 500), abs=0.005)  # 0.606
    assert cka(x, y, estimator="unbiased") == pytest.approx(0, abs=0.01)


def test_half_precision_input_is_computed_in_float64():
    x, y = (np.float16(states) for states in related(64, 8, 8, 1))
    expected = gram_unbiased(x.astype(np.float64), y.astype(np.float64))
    assert cka(x, y, estimator="unbiased") == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("x", "y", "estimator", "says"),
    [
        (np.ones((9, 3)), np.eye(9), "biased", "alike"),
        (np.full((9, 3), 0.1), np.eye(9), "unbiased", "alike"),
        (np.eye(9), np.eye(8), "biased", "9 and of 8 texts"),
        (np.eye(3), np.eye(3), "unbiased", "4 texts or more"),
        (np.full((9, 3), np.nan), np.eye(9), "biased", "not finite"),
    ],
)
def test_states_that_have_no_similarity_are_one_error(x, y, estimator, says):
    with pytest.raises(DataError, match=says):
        cka(x, y, estimator=estimator)


def test_an_outlier_dimension_is_found_and_decides_the_similarity():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 400, 20))
    huge = 50 * rng.normal(size=400)
    x[:, 7], y[:, 2] = huge, huge
    assert outlier_dimensions(x).tolist() == [7]
    assert outlier_dimensions(x, factor=1e4).tolist() == []
    assert cka(x, y, estimator="unbiased") > 0.99
    kept = cka(np.delete(x, 7, 1), np.delete(y, 2, 1), estimator="unbiased")
    assert abs(kept) < 0.05
    assert outlier_dimensions(np.zeros((9, 3))).tolist() == []


def test_one_minibatch_is_the_unbiased_estimator():
    x, y = related(40, 6, 9, 4)
    assert minibatch_cka([(x, y)]) == pytest.approx(gram_unbiased(x, y), abs=1e-10)


def test_minibatches_average_the_three_hsic_before_the_ratio():
    x, y = related(48, 6, 9, 5)
    parts = [(x[i : i + 12], y[i : i + 12]) for i in range(0, 48, 12)]
    both, own_x, own_y = (
        np.mean([gram_hsic1(*pair) for pair in pairs])
        for pairs in (parts, [(a, a) for a, _ in parts], [(b, b) for _, b in parts])
    )
    assert minibatch_cka(parts) == pytest.approx(both / np.sqrt(own_x * own_y), abs=1e-10)


def test_the_hsic_of_minibatches_has_the_expectation_of_the_whole():
    """Averaged over all splits into two halves; HSIC_1 is a U-statistic, so the mean over many random splits tends to it."""
    x, y = related(16, 3, 3, 6)
    rng = np.random.default_rng(7)
    halves = []
    for _ in range(4000):
        order = rng.permutation(16)
        halves += [hsic1(x[order[:8]], y[order[:8]]), hsic1(x[order[8:]], y[order[8:]])]
    error = np.std(halves) / np.sqrt(len(halves))
    assert abs(np.mean(halves) - gram_hsic1(x, y)) < 5 * error


def test_memory_does_not_grow_with_the_number_of_texts():
    def peak(batches):
        rng = np.random.default_rng(8)
        tracemalloc.start()
        total = MinibatchCKA()
        for _ in range(batches):
            x = rng.normal(size=(32, 64))
            total.add(x, x + rng.normal(size=(32, 64)))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total.texts == 32 * batches
        return size

    peak(2)  # what numpy allocates once
    assert peak(64) < 1.1 * peak(4)


def test_no_batches_are_an_error():
    with pytest.raises(DataError, match="no batches"):
        minibatch_cka([])
