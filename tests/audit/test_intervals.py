"""Intervals against printed tables, SciPy and statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import multinomial_proportions_confint

from leadline.audit.intervals import clopper_pearson, joint_level, mean_interval, simultaneous, wilson
from leadline.errors import LeadlineError


@pytest.mark.parametrize(
    ("percent", "lower", "upper"),
    [
        (40.33, 39.37, 41.30),
        (40.85, 39.89, 41.82),
        (39.18, 38.23, 40.14),
        (37.22, 36.28, 38.17),
        (30.36, 29.47, 31.27),
        (28.85, 27.97, 29.75),
    ],
)
def test_wilson_gives_the_intervals_of_the_papers_table_2(percent: float, lower: float, upper: float) -> None:
    found = wilson(round(percent * 100), 10_000)
    assert (round(100 * found[0], 2), round(100 * found[1], 2)) == (lower, upper)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 17), (500, 1000)])
def test_wilson_and_the_exact_interval_agree_with_scipy(count: int, n: int, level: float) -> None:
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = stats.binomtest(count, n).proportion_ci(level, method)
        assert ours(count, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize("n", [1, 7, 1000, 12345])
def test_the_ends_are_exact_so_that_a_log_odds_is_infinite_there(interval, n: int) -> None:  # type: ignore[no-untyped-def]
    assert interval(0, n)[0] == 0.0 < interval(0, n)[1] < 1
    assert 0 < interval(n, n)[0] < interval(n, n)[1] == 1.0


def test_numpy_numbers_are_counts_too() -> None:
    assert wilson(np.int64(3), np.int32(17)) == wilson(3, 17)


@pytest.mark.parametrize(
    ("count", "n", "level", "words"),
    [
        (1, 0, 0.95, "count from 0 to n"),
        (0, 0, 0.95, "n of 1 or more"),
        (5, 4, 0.95, "count 5, n 4"),
        (-1, 4, 0.95, "whole number"),
        (1.5, 4, 0.95, "whole number"),
        (math.nan, 4, 0.95, "whole number"),
        (1, math.inf, 0.95, "whole number"),
        (1, 4, 1.0, "audit.level"),
        (1, 4, 95.0, "audit.level"),
    ],
)
def test_what_is_no_share_is_refused(count: float, n: float, level: float, words: str) -> None:
    with pytest.raises(LeadlineError, match=words):
        wilson(count, n, level)


def test_simultaneous_intervals_are_goodmans() -> None:
    counts = [91, 49, 37, 43]
    theirs = multinomial_proportions_confint(counts, alpha=0.1, method="goodman")
    np.testing.assert_allclose(simultaneous(counts, 0.9), theirs, rtol=1e-12)


def test_two_classes_need_no_correction() -> None:
    (lower, upper), other = simultaneous([30, 70])
    assert (lower, upper) == wilson(30, 100)
    assert other == pytest.approx((1 - upper, 1 - lower))
    assert joint_level(0.95, 1) == joint_level(0.95, 2) == 0.95
    assert joint_level(0.95, 5) == pytest.approx(0.99)


def test_simultaneous_intervals_hold_together_as_often_as_they_say() -> None:
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    draws = np.random.default_rng(0).multinomial(200, shares, size=250)
    together = [all(a <= p <= b for (a, b), p in zip(simultaneous(d.tolist()), shares, strict=True)) for d in draws]
    alone = [all(wilson(c, 200)[0] <= p <= wilson(c, 200)[1] for c, p in zip(d, shares, strict=True)) for d in draws]
    assert np.mean(together) >= 0.93
    assert np.mean(alone) < 0.92, "without the correction they would not"


def test_simultaneous_needs_classes() -> None:
    with pytest.raises(LeadlineError, match="at least one class"):
        simultaneous([])


def test_mean_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(3, 2, 12)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((theirs.low, theirs.high))


def test_one_value_has_a_mean_but_no_interval() -> None:
    assert mean_interval(np.array([3.0])) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_a_mean_of_nothing_or_of_nan_is_refused(values: list[float]) -> None:
    with pytest.raises(LeadlineError, match="finite values"):
        mean_interval(np.array(values, dtype=np.float64))
