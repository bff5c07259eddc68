"""Intervals of shares and means: Wilson, exact, simultaneous for several classes, Student t."""

import math
from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t
from statsmodels.stats.proportion import proportion_confint

from leadline.errors import LeadlineError

Interval = tuple[float, float]


def wilson(count: SupportsFloat, n: SupportsFloat, level: float = 0.95) -> Interval:
    """Wilson (1927), score interval of a share: centre (q + z²/2n) / (1 + z²/n), q = count / n.

    count: 0 to n; n: 1 or more; level: coverage, in (0, 1). Returns (lower, upper) in [0, 1], exactly 0 below a
    count of 0 and exactly 1 above a count of n. Raises LeadlineError on anything else.
    """
    return _proportion(count, n, level, "wilson")


def clopper_pearson(count: SupportsFloat, n: SupportsFloat, level: float = 0.95) -> Interval:
    """Clopper and Pearson (1934), exact interval of a share: coverage is never below `level`. Arguments as `wilson`."""
    return _proportion(count, n, level, "beta")


def simultaneous(counts: Sequence[SupportsFloat], level: float = 0.95) -> list[Interval]:
    """Goodman (1965), joint intervals of K class shares: Wilson's, each at level 1 - (1 - level) / K.

    counts: images per class, K classes that sum to n. All K intervals hold together with probability `level` or
    more (Bonferroni). Two classes have complementary shares, hence one interval: they get the plain Wilson one.
    """
    if not counts:
        raise LeadlineError("simultaneous intervals need the counts of at least one class, none were given")
    n = sum(_whole(count, "count") for count in counts)
    return [wilson(count, n, joint_level(level, len(counts))) for count in counts]


def joint_level(level: float, num_classes: int) -> float:
    """Bonferroni's level of each of `num_classes` intervals that shall hold together; up to two need no correction."""
    return level if num_classes <= 2 else 1 - (1 - level) / num_classes


def mean_interval(values: Float[np.ndarray, " n"], level: float = 0.95) -> Interval | None:
    """Student (1908), interval of a mean: mean ± t(n-1) · sd / √n, over independent units; None for one unit."""
    _check_level(level)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise LeadlineError(f"a mean needs finite values, at least one: {n} given")
    return around(float(values.mean(dtype=np.float64)), standard_error(values), n, level) if n > 1 else None


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """sd / √n of independent values, n of 2 or more, in fp64."""
    return float(values.std(ddof=1, dtype=np.float64)) / math.sqrt(len(values))


def around(value: float, error: float, n: int, level: float) -> Interval:
    """value ± t(n-1) · error: the interval of an estimate with that standard error from n independent units."""
    half = float(student_t.ppf((1 + level) / 2, n - 1)) * error
    return value - half, value + half


def _proportion(count: SupportsFloat, n: SupportsFloat, level: float, method: str) -> Interval:
    _check_level(level)
    whole, total = _whole(count, "count"), _whole(n, "n")
    if total < 1 or whole > total:
        raise LeadlineError(f"a share needs a count from 0 to n and n of 1 or more: count {whole}, n {total} given")
    lower, upper = proportion_confint(whole, total, alpha=1 - level, method=method)
    # The formulae leave 1e-17 where the bound is 0 or 1; a log-odds would turn that into a number.
    return 0.0 if whole == 0 else float(lower), 1.0 if whole == total else float(upper)


def _whole(value: SupportsFloat, name: str) -> int:
    number = float(value)
    if not (number >= 0 and number.is_integer()):
        raise LeadlineError(f"{name} must be a whole number of images, 0 or more, not {value}")
    return int(number)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise LeadlineError(f"level must lie between 0 and 1 (audit.level, 0.95 by default), not {level}")
