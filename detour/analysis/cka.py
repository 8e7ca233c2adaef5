"""Linear centered kernel alignment (CKA): how similar two sets of states of the same texts are, from 0 to 1.

Kornblith et al. 2019 (arXiv 1905.00414). CKA is invariant to rotations and to one common scale of all dimensions, and to
no other change. Shapes: n texts, p and q dimensions. All arithmetic is in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from detour.errors import DataError

Estimator = Literal["biased", "unbiased"]
ESTIMATORS: tuple[Estimator, ...] = ("biased", "unbiased")
FEWEST = {"biased": 2, "unbiased": 4}  # texts that each estimator needs
OUTLIER_FACTOR = 25.0  # a variance of 25 medians: five times the median standard deviation


def cka(x_np: np.ndarray, y_nq: np.ndarray, *, estimator: Estimator) -> float:
    """Linear CKA, HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)).

    The biased estimator is that of Kornblith et al. (2019). For independent data and n < p it is far from 0, near
    p / (p + n) for isotropic normal data with q = p. The unbiased estimator takes HSIC_1 (`hsic1`) for each HSIC; it may
    be slightly below 0.

    Args:
        x_np: States of n texts.
        y_nq: States of the same texts, in the same order, of another model or layer.
        estimator: "biased" or "unbiased".

    Raises:
        DataError: Different numbers of texts, too few of them (2, or 4 for the unbiased estimator), a value that is not
            finite, or states that do not vary.

    Cost: O(n (p + q)^2) operations, O((p + q)^2) memory beside the states.
    """
    x_np, y_nq = _centered(x_np, estimator), _centered(y_nq, estimator)
    if len(x_np) != len(y_nq):
        raise DataError(f"CKA: states of {len(x_np)} and of {len(y_nq)} texts, expected the same texts")
    hsic = hsic1 if estimator == "unbiased" else _hsic0
    return _ratio(hsic(x_np, y_nq), hsic(x_np, x_np), hsic(y_nq, y_nq))


def divergence(similarity: float) -> float:
    """100 (1 - CKA): 0 for states that agree up to rotation and scale."""
    return 100 * (1 - similarity)


def hsic1(x_np: np.ndarray, y_nq: np.ndarray) -> float:
    """The unbiased estimator of HSIC with linear kernels (Song et al. 2012, JMLR 13, equation 5).

    With K = XX' and L = YY' without their diagonals: (tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)) / (n(n-3)).
    Computed from the p x q products, without an n x n matrix. A shift of all states leaves it unchanged; centered states
    lose fewer digits.

    Raises:
        DataError: Fewer than 4 texts.
    """
    n = len(x_np)
    if n < FEWEST["unbiased"]:
        raise DataError(f"unbiased HSIC: {n} texts, expected at least {FEWEST['unbiased']}")
    x_np, y_nq = np.asarray(x_np, np.float64), np.asarray(y_nq, np.float64)
    own_x_n, own_y_n = (x_np**2).sum(1), (y_nq**2).sum(1)  # the diagonals of XX' and YY'
    rows_x_n, rows_y_n = x_np @ x_np.sum(0) - own_x_n, y_nq @ y_nq.sum(0) - own_y_n  # K1 and L1
    trace = ((x_np.T @ y_nq) ** 2).sum() - own_x_n @ own_y_n
    product = rows_x_n.sum() * rows_y_n.sum() / ((n - 1) * (n - 2))
    return float((trace + product - 2 * (rows_x_n @ rows_y_n) / (n - 2)) / (n * (n - 3)))


def outlier_dimensions(x_np: np.ndarray, factor: float = OUTLIER_FACTOR) -> np.ndarray:
    """int [k]: dimensions whose variance over the texts exceeds ``factor`` times the median over dimensions that vary.

    A few dimensions of very large variance can dominate CKA, which weighs principal components by their variance.
    """
    variance_p = np.asarray(x_np, np.float64).var(0)
    varying = variance_p[variance_p > 0]
    if not len(varying):
        return np.array([], np.int64)
    return np.flatnonzero(variance_p > factor * np.median(varying))


class MinibatchCKA:
    """CKA of a long text set, accumulated over minibatches (Nguyen et al. 2020, arXiv 2010.15327, equation 4).

    The three HSIC_1 are averaged over the batches before the ratio is taken. Each is unbiased for whatever batch size, so
    the result does not depend on it in expectation; small batches only add variance. Batches should be drawn at random,
    without replacement.

    Memory: three numbers, whatever the number of texts.
    """

    def __init__(self) -> None:
        self.sums_3 = np.zeros(3)  # of HSIC_1(X, Y), HSIC_1(X, X), HSIC_1(Y, Y), each weighted by the batch's texts
        self.texts = 0

    def add(self, x_np: np.ndarray, y_nq: np.ndarray) -> None:
        """Adds the states of one batch of at least 4 texts. Raises DataError as `cka` does; a constant batch is accepted."""
        x_np, y_nq = _finite(x_np, "unbiased"), _finite(y_nq, "unbiased")
        if len(x_np) != len(y_nq):
            raise DataError(f"CKA: states of {len(x_np)} and of {len(y_nq)} texts, expected the same texts")
        x_np, y_nq = x_np - x_np.mean(0), y_nq - y_nq.mean(0)
        self.sums_3 += len(x_np) * np.array([hsic1(x_np, y_nq), hsic1(x_np, x_np), hsic1(y_nq, y_nq)])
        self.texts += len(x_np)

    def value(self) -> float:
        """The similarity over all batches. Raises DataError if there is none, or if the states do not vary."""
        if not self.texts:
            raise DataError("CKA: no batches")
        both, x, y = self.sums_3 / self.texts
        return _ratio(both, x, y)


def minibatch_cka(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """`MinibatchCKA` over pairs of states [n, p] and [n, q], one pair per batch."""
    total = MinibatchCKA()
    for x_np, y_nq in batches:
        total.add(x_np, y_nq)
    return total.value()


def _hsic0(x_np: np.ndarray, y_nq: np.ndarray) -> float:
    """||X'Y||^2 of centered states; the factor (n - 1)^-2 cancels in CKA."""
    return float(((x_np.T @ y_nq) ** 2).sum())


def _ratio(both: float, x: float, y: float) -> float:
    if min(x, y) <= 0:
        raise DataError("CKA: the states of all texts are alike, or too few texts tell them apart")
    return float(both / np.sqrt(x) / np.sqrt(y))


def _finite(x_np: np.ndarray, estimator: Estimator) -> np.ndarray:
    x_np = np.asarray(x_np, np.float64)
    if x_np.ndim != 2 or len(x_np) < FEWEST[estimator]:
        raise DataError(
            f"CKA: states of shape {x_np.shape}, expected [texts, dimensions], {FEWEST[estimator]} texts or more"
        )
    if not np.isfinite(x_np).all():
        raise DataError("CKA: a state is not finite")
    return x_np


def _centered(x_np: np.ndarray, estimator: Estimator) -> np.ndarray:
    x_np = _finite(x_np, estimator)
    scale = np.abs(x_np).max(initial=0)
    x_np = x_np - x_np.mean(0)
    if np.abs(x_np).max(initial=0) <= 8 * np.finfo(np.float64).eps * scale:  # what is left is rounding
        raise DataError("CKA: the states of all texts are alike")
    return x_np
