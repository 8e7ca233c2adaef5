"""Equivalence of two means by two one-sided t tests (TOST; Schuirmann 1987), its power, and the seeds it takes."""

from __future__ import annotations

import math

import numpy as np

from detour.evaluation.results.statistics import LEVEL, POWER, seeds_needed

TOO_MANY = 1001  # for more seeds than are searched


def equivalence_p(mean: float, error: float, df: float, margin: float) -> float:
    """p of the TOST: the larger p of the two one-sided t tests against -margin and +margin.

    Below 0.05 exactly where the 90% interval of the mean lies inside the margin.

    Args:
        mean: Mean difference.
        error: Its standard error. 0 means that all differences are equal: p is then 0 inside the margin, else 1.
        df: Degrees of freedom of the standard error.
        margin: Half width of the region of equivalence, in the unit of the mean; above 0.

    Returns:
        p in [0, 1]; nan where the standard error is not known.
    """
    from scipy.stats import t

    if math.isnan(error):
        return math.nan
    if error == 0:
        return float(abs(mean) >= margin)
    return float(t.sf((margin - abs(mean)) / error, df))


def equivalence_power(difference: float, sd: float, n: int, margin: float) -> float:
    """Probability that n differences are declared equivalent by the TOST at 0.05.

    Exact for normal differences: given the sample variance, the mean has to fall between the two critical values; the
    probability of that is integrated over the distribution of the sample variance.

    Args:
        difference: True mean difference.
        sd: True standard deviation of the differences.
        n: Number of differences, at least 2.
        margin: As of `equivalence_p`.

    Cost: one numerical integral, about a millisecond.
    """
    from scipy.integrate import quad
    from scipy.stats import chi2, norm, t

    df, error = n - 1, sd / math.sqrt(n)
    critical = float(t.ppf(LEVEL, df)) / math.sqrt(df)

    def density(x: float) -> float:  # x: sum of squares / sd**2, chi-square with n - 1 degrees of freedom
        half = margin - critical * math.sqrt(x) * error
        inside = norm.cdf((half - difference) / error) - norm.cdf((-half - difference) / error)
        return float(inside * chi2.pdf(x, df))

    widest = min(
        (margin / (critical * error)) ** 2, float(chi2.isf(1e-12, df))
    )  # beyond it no mean is declared equivalent
    peaks = [x for x in chi2.ppf([1e-6, 0.5, 1 - 1e-6], df) if 0 < x < widest]
    return float(quad(density, 0, widest, points=peaks or None, limit=200)[0])


def seeds_for_equivalence(sd: float, margin: float, *, most: int = 1000) -> int | None:
    """Least number of seeds with which a true difference of 0 is declared equivalent with a power of 0.8.

    Returns:
        None where ``most`` seeds are not enough, or the spread is not known.
    """
    if not sd > 0 or equivalence_power(0.0, sd, most, margin) < POWER:
        return None
    low, high = 1, most  # power rises with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if equivalence_power(0.0, sd, middle, margin) >= POWER else (middle, high)
    return high


def seeds_to_decide(mean: float, sd: float, margin: float | None) -> int | None:
    """Seeds with which a difference as large as the margin is shown, and a difference of 0 declared equivalent.

    Each with a power of 0.8, if ``sd`` is the true standard deviation of the differences. Without a margin, seeds to show
    the mean difference.

    Returns:
        1001 where 1000 are not enough; None where the spread is not known.
    """
    if not sd > 0:
        return None
    if margin is None:
        return seeds_needed(mean, sd) or TOO_MANY
    return max(seeds_needed(margin, sd) or TOO_MANY, seeds_for_equivalence(sd, margin) or TOO_MANY)


def t_interval(mean: float, error: float, df: float, level: float = LEVEL) -> tuple[float, float]:
    """Ends of the two-sided t interval of a mean; nan where the standard error is not known."""
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, df)) * error if np.isfinite(error) else math.nan
    return mean - half, mean + half


def t_test_p(mean: float, error: float, df: float) -> float:
    """Two-sided p that a mean is 0; nan where the standard error is not known."""
    from scipy.stats import t

    if math.isnan(error):
        return math.nan
    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(abs(mean) / error, df))
