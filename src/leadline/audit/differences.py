"""Two independent sets of images compared: the interval of a difference and the p-value of none."""

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import fisher_exact
from scipy.stats import t as student_t

from leadline.audit.intervals import Interval, standard_error, wilson


def welch(
    values: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"], level: float
) -> tuple[Interval, float] | None:
    """Welch (1947): interval of the difference of two means, and the two-sided p of none.

    d ± t(ν) · s, s² = s₁²/n + s₂²/m, ν = s⁴ / ((s₁²/n)²/(n-1) + (s₂²/m)²/(m-1)). None where a set has one value, or
    where no set has two that differ.
    """
    if min(len(values), len(others)) < 2:
        return None
    squares = [standard_error(x) ** 2 for x in (values, others)]
    error = math.sqrt(sum(squares))
    if error == 0:
        return None
    freedom = error**4 / (squares[0] ** 2 / (len(values) - 1) + squares[1] ** 2 / (len(others) - 1))
    difference = float(values.mean(dtype=np.float64) - others.mean(dtype=np.float64))
    half = float(student_t.ppf((1 + level) / 2, freedom)) * error
    return (difference - half, difference + half), 2 * float(student_t.sf(abs(difference) / error, freedom))


def newcombe(count: int, n: int, other_count: int, other_n: int, level: float) -> Interval:
    """Newcombe (1998), method 10: interval of p - q of independent shares, from the two Wilson intervals.

    (p - q) - √((p - l_p)² + (u_q - q)²) to (p - q) + √((u_p - p)² + (q - l_q)²), in [-1, 1].
    """
    share, other_share = count / n, other_count / other_n
    lower, upper = wilson(count, n, level)
    other_lower, other_upper = wilson(other_count, other_n, level)
    difference = share - other_share
    return (
        difference - math.hypot(share - lower, other_upper - other_share),
        difference + math.hypot(upper - share, other_share - other_lower),
    )


def fisher(count: int, n: int, other_count: int, other_n: int) -> float:
    """Fisher (1935), two-sided exact p of two equal shares."""
    return float(fisher_exact([[count, n - count], [other_count, other_n - other_count]]).pvalue)
