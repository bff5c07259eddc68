"""Intervals against printed tables, SciPy and statsmodels."""

import math
import re

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import multinomial_proportions_confint, proportion_confint

from leadline.audit.intervals import (
    clopper_pearson,
    corrected_share,
    joint_level,
    mean_interval,
    share_interval,
    simultaneous,
    wilson,
)
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
    draws = np.random.default_rng(0).multinomial(200, shares, size=100)
    together = [all(a <= p <= b for (a, b), p in zip(simultaneous(d.tolist()), shares, strict=True)) for d in draws]
    alone = [all(wilson(c, 200)[0] <= p <= wilson(c, 200)[1] for c, p in zip(d, shares, strict=True)) for d in draws]
    assert np.mean(together) >= 0.93
    assert np.mean(alone) < 0.92, "without the correction they would not"


def test_simultaneous_needs_classes() -> None:
    with pytest.raises(LeadlineError, match="at least one class"):
        simultaneous([])


def test_small_groups_get_the_exact_interval_and_others_wilsons() -> None:
    assert share_interval(9, 1000) == (clopper_pearson(9, 1000), "Clopper-Pearson")
    assert share_interval(991, 1000) == (clopper_pearson(991, 1000), "Clopper-Pearson")
    assert share_interval(10, 1000, 0.9) == (wilson(10, 1000, 0.9), "Wilson")
    assert simultaneous([0, 30, 170])[0] == clopper_pearson(0, 200, joint_level(0.95, 3))
    with pytest.raises(LeadlineError, match="count 5, n 4"):
        share_interval(5, 4)


def test_an_interval_grows_with_its_count_where_the_method_changes_too() -> None:
    ends = np.array([share_interval(count, 100)[0] for count in range(101)])
    assert (np.diff(ends, axis=0) > 0).all()


@pytest.mark.parametrize(("n", "share"), [(1000, 0.00054), (200, 0.01), (200, 0.03), (1000, 0.0086), (500, 0.03)])
def test_shares_of_small_groups_are_covered_whatever_their_count(n: int, share: float) -> None:
    """Exact, by summing over the counts. The smallest share is the one that Wilson's interval covers worst."""
    counts = np.arange(stats.binom.isf(1e-9, n, share) + 1)
    covers = [lower <= share <= upper for (lower, upper), _ in (share_interval(count, n) for count in counts)]
    assert stats.binom.pmf(counts, n, share)[covers].sum() >= 0.935


def test_rogan_and_gladens_share_of_the_papers_data() -> None:
    """A true 41.68 % reads 38.10 % by a classifier with sensitivity .90 and specificity .99."""
    found = corrected_share(3810, 10_000, 900, 1000, 990, 1000)
    assert found.value == pytest.approx(0.4168, abs=1e-4)
    assert found.name == "corrected_share"
    assert found.n == 10_000
    assert found.params["raw_share"] == 0.381
    assert found.params["sensitivity"] == 0.9
    assert found.params["specificity"] == 0.99
    assert not found.params["clamped"]


def test_lang_and_reiczigels_interval_by_hand() -> None:
    """z² = 3.8415: q' = 101.9207/503.8415, Se' = 91/102, Sp' = 191/202, worked out to six digits on paper."""
    found = corrected_share(100, 500, 90, 100, 190, 200)
    q, se, sp = 101.9207294 / 503.8414588, 91 / 102, 191 / 202
    p = (q + sp - 1) / (se + sp - 1)
    v_se, v_sp = se * (1 - se) / 102, sp * (1 - sp) / 202
    error = math.sqrt(q * (1 - q) / 503.8414588 + p**2 * v_se + (1 - p) ** 2 * v_sp) / (se + sp - 1)
    middle = p + 2 * 3.8414588 * (p * v_se - (1 - p) * v_sp)
    assert (found.lower, found.upper) == pytest.approx(
        (middle - 1.9599640 * error, middle + 1.9599640 * error), rel=1e-7
    )


def test_a_perfectly_known_perfect_classifier_leaves_agresti_and_coulls_interval() -> None:
    many = 10**12
    found = corrected_share(40, 200, many, many, many, many)
    theirs = proportion_confint(40, 200, method="agresti_coull")
    assert (found.lower, found.upper) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("count", "positives"), [(0, 20), (3, 20), (60, 50), (200, 1000)])
def test_the_corrected_share_mirrors_and_lies_in_its_interval(count: int, positives: int) -> None:
    found = corrected_share(count, 200, positives - 2, positives, 97, 100)
    other = corrected_share(200 - count, 200, 97, 100, positives - 2, positives)
    assert found.value is not None and found.lower is not None and found.upper is not None  # noqa: PT018
    assert 0 <= found.lower <= found.value <= found.upper <= 1
    assert (other.value, other.lower) == pytest.approx((1 - found.value, 1 - found.upper))


def test_a_share_beyond_what_the_classifier_can_give_is_held_and_said() -> None:
    """5 of 1,000 labelled positive where the specificity alone gives 10."""
    found = corrected_share(5, 1000, 90, 100, 990, 1000)
    assert found.value == 0 == found.lower
    assert found.params["clamped"]
    assert found.params["unclamped_share"] == pytest.approx(-0.005 / 0.89)


def test_an_image_alone_keeps_its_share_within_the_interval() -> None:
    """The interval's centre is pulled to one half by z² made-up images, the value is not."""
    for count, rates in ((0, (4, 5, 500, 500)), (1, (500, 500, 4, 5))):
        found = corrected_share(count, 1, *rates)
        assert found.value == count
        assert found.lower <= found.value <= found.upper  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ((10, 20, 10, 20), r"sensitivity 0\.500 \(10 of 20\).*= 0\.000, with an interval of -0\.\d+ to 0\.\d+"),
        ((14, 20, 12, 20), r"- 1 = 0\.300.*better classifier"),
        ((10, 100, 20, 100), r"- 1 = -0\.700"),
        ((0, 0, 20, 20), "0 labelled images of the class and 20 of the others"),
        ((5, 5, 0, 0), "5 labelled images of the class and 0 of the others"),
    ],
)
def test_a_classifier_that_may_be_guessing_corrects_nothing(rates: tuple[int, int, int, int], words: str) -> None:
    found = corrected_share(300, 1000, *rates)
    assert found.status == "not_measurable"
    assert found.n == 1000
    assert found.reason is not None
    assert re.search(words, found.reason)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((5, 4, 1, 1, 1, 1), "observed_count must be at most n"),
        ((0, 0, 1, 1, 1, 1), "no image was classified"),
        ((1, 2, 3, 2, 1, 1), "true_positives must be at most positives"),
        ((1, 2, 1, 2, 3, 1), "true_negatives must be at most negatives"),
        ((1, 2, 0.9, 1, 1, 1), "true_positives must be a whole number"),
    ],
)
def test_counts_that_are_none_are_refused(numbers: tuple[float, ...], words: str) -> None:
    with pytest.raises(LeadlineError, match=words):
        corrected_share(*numbers)


def test_the_corrected_interval_contains_the_truth_where_the_raw_one_misses_it() -> None:
    """150 simulations: 90 to 99 % is what chance leaves of 95."""
    generator = np.random.default_rng(1)
    share, sensitivity, specificity = 0.4168, 0.9, 0.97
    observed = generator.binomial(2000, share * sensitivity + (1 - share) * (1 - specificity), 150)
    found = generator.binomial(150, sensitivity, 150)
    spared = generator.binomial(300, specificity, 150)
    corrected, raw = [], []
    for q, true_positives, true_negatives in zip(observed, found, spared, strict=True):
        m = corrected_share(q, 2000, true_positives, 150, true_negatives, 300)
        assert m.lower is not None and m.upper is not None  # noqa: PT018
        corrected.append(m.lower <= share <= m.upper)
        lower, upper = wilson(q, 2000)
        raw.append(lower <= share <= upper)
    assert 0.9 <= np.mean(corrected) <= 0.99
    assert np.mean(raw) < 0.6


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
