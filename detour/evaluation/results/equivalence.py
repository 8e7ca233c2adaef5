"""Equivalence of two means by two one-sided t tests (TOST; Schuirmann 1987), its power, and the seeds it takes."""

from __future__ import annotations

import math

from detour.evaluation.results.student import LEVEL, POWER, seeds_needed

TOO_MANY = 1001  # more seeds than the search covers


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
    from scipy.special import stdtr

    if math.isnan(error):
        return math.nan
    if error == 0:
        return float(abs(mean) >= margin)
    return float(stdtr(df, (abs(mean) - margin) / error))


def equivalence_power(difference: float, sd: float, n: int, margin: float) -> float:
    """Probability that n differences are declared equivalent by the TOST at 0.05.

    Exact for normal differences: given the sample variance, the mean has to fall between the two critical values; the
    probability of that is integrated over the distribution of the sample variance.

    Args:
        difference: True mean difference.
        sd: True standard deviation of the differences.
        n: Number of differences, at least 2.
        margin: As of `equivalence_p`.

    Cost: one numerical integral, less than a millisecond.
    """
    from scipy.integrate import quad
    from scipy.special import gammaln, ndtr, stdtrit

    df, error = n - 1, sd / math.sqrt(n)
    critical = float(stdtrit(df, LEVEL)) / math.sqrt(df)
    log_constant = (1 - df / 2) * math.log(2) - float(gammaln(df / 2))

    def integrand(y: float) -> float:  # y: root of (sum of squares / sd**2), of the chi distribution
        half = margin - critical * y * error
        inside = ndtr((half - difference) / error) - ndtr((-half - difference) / error)
        return float(inside) * math.exp(log_constant + (df - 1) * math.log(y) - y * y / 2) if y > 0 else 0.0

    middle, reach = math.sqrt(df), 8.0  # the standard deviation of the chi distribution is below 1
    low, high = max(0.0, middle - reach), min(middle + reach, margin / (critical * error))
    return float(quad(integrand, low, high, limit=200)[0]) if low < high else 0.0


def seeds_for_equivalence(sd: float, margin: float, *, most: int = 1000) -> int | None:
    """Least number of seeds with which a true difference of 0 is declared equivalent with a power of 0.8.

    Returns:
        None if ``most`` seeds are not enough, or the standard deviation is unknown.
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
        1001 if 1000 are not enough; None if the standard deviation is unknown.
    """
    if not sd > 0:
        return None
    if margin is None:
        return seeds_needed(mean, sd) or TOO_MANY
    return max(seeds_needed(margin, sd) or TOO_MANY, seeds_for_equivalence(sd, margin) or TOO_MANY)
