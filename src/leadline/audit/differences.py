"""Two independent sets of images compared: the interval of a difference and the p-value of none."""

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import fisher_exact
from scipy.stats import t as student_t

from leadline.audit.intervals import Interval, standard_error, wilson
from leadline.comparison import mover


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
    """Newcombe (1998), method 10: interval of p - q of independent shares, in [-1, 1]: MOVER of two Wilson intervals.

    p = count / n, q = other_count / other_n, counts from 0 to n, n of 1 or more; level: coverage, in (0, 1). Raises
    LeadlineError as `wilson` does.
    """
    own, other = wilson(count, n, level), wilson(other_count, other_n, level)
    return mover(count / n, own, other_count / other_n, other)


def fisher(count: int, n: int, other_count: int, other_n: int) -> float:
    """Fisher (1935), two-sided exact p of two equal shares."""
    return float(fisher_exact([[count, n - count], [other_count, other_n - other_count]]).pvalue)
