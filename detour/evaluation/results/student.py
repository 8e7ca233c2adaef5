"""Student's t: intervals, tests and their power.

From scipy.special alone: importing scipy.stats takes longer than writing all tables.
"""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.95
POWER = 0.8
_CERTAIN = 100.0  # noncentrality above which the power exceeds 1 - 1e-14 for any number of pairs


def t_interval(mean: float, error: float, df: float, level: float = LEVEL) -> tuple[float, float]:
    """Ends of the two-sided t interval of a mean; nan where its standard error is unknown.

    Args:
        mean: The mean.
        error: Its standard error.
        df: Degrees of freedom of the standard error.
        level: Confidence level.
    """
    from scipy.special import stdtrit

    half = float(stdtrit(df, (1 + level) / 2)) * error if math.isfinite(error) else math.nan
    return mean - half, mean + half


def t_test_p(mean: float, error: float, df: float) -> float:
    """Two-sided p of the hypothesis that a mean is 0; nan where its standard error is unknown.

    A standard error of 0 means that all values are equal: p is then 1 if the mean is 0, else 0.
    """
    from scipy.special import stdtr

    if math.isnan(error):
        return math.nan
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(df, -abs(mean) / error))


def power(difference: float, sd: float, n: int) -> float:
    """Power of the two-sided paired t test at 0.05.

    The square of the test statistic has a noncentral F distribution, summed here as its series of beta distributions
    (Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2, chapter 30).

    Args:
        difference: True mean difference.
        sd: True standard deviation of the differences.
        n: Number of pairs, at least 2.
    """
    from scipy.special import betaincc, gammaln, stdtrit

    shift = min(abs(difference) / sd * math.sqrt(n), _CERTAIN)
    critical, half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) ** 2, shift**2 / 2
    if half == 0:
        return 1 - LEVEL
    reach = 10 * math.sqrt(half) + 20  # Poisson weights beyond are below 1e-16
    j_J = np.arange(max(0, math.floor(half - reach)), half + reach)
    weights_J = np.exp(j_J * math.log(half) - half - gammaln(j_J + 1))
    return float(weights_J @ betaincc(j_J + 0.5, (n - 1) / 2, critical / (critical + n - 1)))


def seeds_needed(difference: float, sd: float, *, most: int = 1000) -> int | None:
    """Least number of seeds that shows the difference with a power of 0.8.

    Returns:
        None if ``most`` seeds are not enough, or the standard deviation of the differences is unknown.
    """
    if not sd > 0 or not difference:
        return None
    low, high = 1, 2  # power rises with n
    while power(difference, sd, high) < POWER:
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle) >= POWER else (middle, high)
    return high


def minimum_detectable_effect(sd: float, n: int) -> float:
    """Least true mean difference that n seeds show with a power of 0.8; nan where the spread is unknown."""
    if n < 2 or not sd > 0:
        return math.nan
    low, high = 0.0, 1.0  # in standard deviations; power rises with the difference
    while power(high, 1.0, n) < POWER:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, n) >= POWER else (middle, high)
    return high * sd
