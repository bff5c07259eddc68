"""Trends over depth against enumeration, published examples, scipy and a hand-computed quasi-binomial fit."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from leadline.audit import trends
from leadline.audit.trends import count_covariance, jonckheere, logistic_trend, page
from leadline.errors import LeadlineError, NotMeasurable

RATES = [
    [40.0, 35.0, 38.0, 43.0, 44.0, 41.0],
    [38.0, 40.0, 47.0, 44.0, 40.0, 42.0],
    [48.0, 40.0, 45.0, 43.0, 46.0, 44.0],
]
"""Hollander and Wolfe (1999), Example 6.2: J = 79."""


def wins(values: list[float], labels: tuple[int, ...]) -> float:
    pairs = [(x, y) for x, a in zip(values, labels, strict=True) for y, b in zip(values, labels, strict=True) if a < b]
    return sum((y > x) + 0.5 * (y == x) for x, y in pairs)


@pytest.mark.parametrize(
    "groups",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        [[1.0, 2.0, 2.0], [2.0, 3.0, 1.0]],
        [[1.0, 1.0], [2.0], [1.0, 5.0, 3.0]],
        [[1.0], [2.0], [3.0], [9.0], [4.0]],
        [[7.0, 7.0], [7.0]],
    ],
)
def test_the_exact_p_is_that_of_all_arrangements(groups) -> None:
    values = [value for group in groups for value in group]
    labels = tuple(index for index, group in enumerate(groups) for _ in group)
    every = np.array([wins(values, each) for each in set(permutations(labels))])
    found = jonckheere(groups)
    assert found.statistic == wins(values, labels)
    assert found.effect == found.statistic / (2 * every.mean())
    assert found.p == pytest.approx((np.abs(every - every.mean()) >= abs(found.statistic - every.mean())).mean())


def test_a_published_example_and_its_normal_approximation(monkeypatch) -> None:
    exact = jonckheere(RATES)
    assert exact.statistic == 79
    assert exact.p == pytest.approx(0.0419, abs=1e-4)
    monkeypatch.setattr(trends, "MOST_STATES", 0)
    approximate = jonckheere(RATES)
    assert "normal" in approximate.method
    # J* = 2.04, one-sided .0207
    assert approximate.p == pytest.approx(2 * 0.0207, abs=2e-4)
    assert jonckheere([[1.0, 1.0], [1.0]]).p == 1


def test_two_depths_are_mann_and_whitneys_test() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(5), rng.random(4) + 0.3
    expected = stats.mannwhitneyu(b, a, method="exact")
    found = jonckheere([a.tolist(), b.tolist()])
    assert (found.statistic, found.p) == (expected.statistic, pytest.approx(expected.pvalue))


@pytest.mark.parametrize(("runs", "smallest"), [((2, 2), 1 / 3), ((4, 4), 2 / 70), ((1, 1, 1, 1), 2 / 24), ((1, 1), 1)])
def test_the_smallest_p_is_that_of_the_clearest_trend(runs, smallest) -> None:
    values = iter(range(sum(runs)))
    found = jonckheere([[float(next(values)) for _ in range(size)] for size in runs])
    assert found.effect == 1
    assert found.p == pytest.approx(found.smallest_p)
    assert found.smallest_p == pytest.approx(smallest)


def test_page_is_scipys_two_sided_and_reversible() -> None:
    table = np.random.default_rng(2).random((3, 4))
    found, turned = page(table), page(table[:, ::-1].copy())
    one_sided = stats.page_trend_test(table, method="exact")
    assert found.statistic == one_sided.statistic
    every = [sum(rank * (1 + place) for place, rank in enumerate(order)) for order in permutations((1, 2, 3, 4))]
    sums = np.add.outer(np.add.outer(every, every), every)
    assert found.p == pytest.approx((np.abs(sums - 75) >= abs(found.statistic - 75)).mean())
    assert turned.p == pytest.approx(found.p)
    spearman = np.mean([stats.spearmanr(row, range(4)).statistic for row in table])
    assert found.effect == pytest.approx(spearman)
    assert turned.effect == pytest.approx(-spearman)
    clearest = page(np.array([[1.0, 2, 3]] * 3))
    assert clearest.p == pytest.approx(clearest.smallest_p)
    assert clearest.smallest_p == pytest.approx(2 / 6**3)
    assert "normal" in page(np.array([[1.0, 1, 3], [1, 2, 3]])).method


def test_the_slope_is_quasi_binomial_with_pearsons_dispersion_and_students_t() -> None:
    counts, ns, depths = [30, 60, 45, 70, 110, 60], [1000, 900, 1000, 800, 1000, 1000], [2, 2, 2, 4, 4, 4]
    found = logistic_trend(counts, ns, depths)
    made, n, x = (np.array(each, float) for each in (counts, ns, depths))
    plain = GLM(np.column_stack([made, n - made]), np.column_stack([np.ones(6), x]), family=Binomial()).fit()
    mean = plain.fittedvalues
    dispersion = ((made - n * mean) ** 2 / (n * mean * (1 - mean))).sum() / 4
    half = stats.t.ppf(0.975, 4) * plain.bse[1] * math.sqrt(dispersion)
    assert dispersion > 5
    assert found.overdispersion == pytest.approx(dispersion)
    assert (found.lower, found.upper) == pytest.approx((plain.params[1] - half, plain.params[1] + half))
    # At two depths the fit is saturated: the pooled log-odds, two blocks apart.
    assert found.value == pytest.approx((math.log(240 / 2560) - math.log(135 / 2765)) / 2)


def test_runs_more_alike_than_images_are_no_reason_for_a_narrower_slope() -> None:
    found = logistic_trend([50, 50, 70, 70], [1000] * 4, [2, 2, 4, 4])
    plain = math.sqrt(1 / 100 + 1 / 1900 + 1 / 140 + 1 / 1860) / 2
    assert found.overdispersion == pytest.approx(0, abs=1e-6)
    assert found.upper - found.value == pytest.approx(stats.t.ppf(0.975, 2) * plain, rel=1e-4)


def test_the_images_part_is_that_of_the_slopes_weights_over_images() -> None:
    """One run per depth: the spread of each image's contribution to the slope, beside the part between runs."""
    rng = np.random.default_rng(4)
    y = (rng.random(500) < 0.5) & (rng.random((3, 500)) < np.array([[0.3], [0.4], [0.5]]))
    counts, depths = y.sum(axis=1).tolist(), [2, 3, 5]
    alone = logistic_trend(counts, [500] * 3, depths)
    found = logistic_trend(counts, [500] * 3, depths, covariance=count_covariance(y, np.ones_like(y)))
    q = 1 / (
        1
        + np.exp(-np.polynomial.Polynomial.fit(depths, stats.logistic.ppf(y.mean(1)), 1, w=[1, 1, 1])(np.array(depths)))
    )
    x, w = np.array(depths), 500 * q * (1 - q)
    weights = (x - (w * x).sum() / w.sum()) / (w * (x - (w * x).sum() / w.sum()) ** 2).sum()
    s = weights @ (y - y.mean(axis=1, keepdims=True))
    between = ((alone.upper - alone.value) / stats.t.ppf(0.975, 1)) ** 2
    assert found.image_part == pytest.approx((s**2).sum() / ((s**2).sum() + between), rel=0.02)
    assert found.degrees == pytest.approx(1 / (1 - found.image_part) ** 2)
    half = stats.t.ppf(0.975, found.degrees) * math.sqrt(between / (1 - found.image_part))
    assert found.upper - found.value == pytest.approx(half)
    assert (alone.degrees, alone.image_part, alone.value) == (1, 0, found.value)


def test_noise_that_moves_a_depth_together_is_no_trend() -> None:
    """Depths with one share; images of one depth agree (correlation .95) more than those of two (.5)."""
    rng = np.random.default_rng(5)
    recognised, ns, depths = np.ones((10, 400), bool), [400] * 10, [2] * 5 + [4] * 5
    rejected, trials = np.zeros(2), 60
    for _ in range(trials):
        parts = [
            np.sqrt(part) * rng.standard_normal(size)
            for part, size in ((0.5, (1, 1, 400)), (0.45, (2, 1, 400)), (0.05, (2, 5, 400)))
        ]
        y = (sum(parts) < stats.norm.ppf(0.2)).reshape(10, 400)
        for place, covariance in enumerate((None, count_covariance(y, recognised))):
            rejected[place] += logistic_trend(y.sum(axis=1).tolist(), ns, depths, covariance=covariance).p < 0.05
    assert rejected[0] / trials > 0.12
    assert rejected[1] / trials <= 0.05


def test_images_that_runs_do_not_share_have_no_part() -> None:
    """Each run has noises of its own: the covariance of any two is 0, and two of one depth show it."""
    y = np.kron(np.eye(4), np.arange(50) < 10).astype(bool)
    drawn = np.kron(np.eye(4), np.ones(50)).astype(bool)
    found = logistic_trend([10, 12, 20, 18], [50] * 4, [2, 2, 4, 4], covariance=count_covariance(y, drawn))
    assert found.image_part == 0
    assert found.degrees == 2


@pytest.mark.parametrize(
    ("counts", "depths", "match"),
    [
        ([5, 6], [2, 4], "not 2 at 2.*--depths 2,4 --seeds"),
        ([5, 6, 7], [2, 2, 2], "not 3 at 1"),
        ([0, 0, 7], [2, 2, 4], "no finite slope"),
        ([0, 0, 0], [2, 2, 4], "no finite slope"),
        ([0, 0, 10], [2, 2, 4], "no finite slope"),
    ],
)
def test_a_slope_that_cannot_be_measured_is_said(counts, depths, match) -> None:
    with pytest.raises(NotMeasurable, match=match):
        logistic_trend(counts, [10] * len(counts), depths)


def test_what_is_no_series_is_said() -> None:
    with pytest.raises(LeadlineError, match="two depths or more"):
        jonckheere([[1.0, 2.0]])
    with pytest.raises(LeadlineError, match="finite"):
        jonckheere([[1.0], [math.nan]])
    with pytest.raises(LeadlineError, match="two seeds and three depths"):
        page(np.ones((3, 2)))
    with pytest.raises(LeadlineError, match="one of each per run"):
        logistic_trend([1], [10, 10], [2, 4])
