"""Confidence sequences against exact sums, quadrature and simulated looks."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import beta, binom
from statsmodels.stats.proportion import proportion_confint

from leadline.audit.anytime import (
    anytime_corrected,
    anytime_interval,
    centre,
    contains_always,
    images_needed,
    log_evidence,
)
from leadline.audit.intervals import wilson
from leadline.errors import LeadlineError

LOOKS = np.arange(100.0, 10_001, 100)


def paths(share: float, num: int, seed: int = 0, looks: np.ndarray = LOOKS) -> np.ndarray:
    """Counts at every look, a row per path."""
    steps = np.diff(looks, prepend=0).astype(int)
    return np.random.default_rng(seed).binomial(steps, share, (num, len(looks))).cumsum(1).astype(float)


@pytest.mark.parametrize(("count", "n", "share"), [(3, 20, 0.1), (0, 7, 0.3), (12, 12, 0.8)])
def test_the_evidence_is_the_likelihood_averaged_over_the_prior(count, n, share):
    def weighed(p):
        return p**count * (1 - p) ** (n - count) * beta.pdf(p, 2, 18)

    wanted = quad(weighed, 0, 1)[0] / (share**count * (1 - share) ** (n - count))
    assert math.exp(log_evidence(count, n, share, around=0.1)) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize(("share", "around"), [(0.1, 0.1), (0.02, 0.4), (0.9, 0.1)])
def test_under_the_true_share_the_evidence_is_one_on_average(share, around):
    """Ville's inequality needs no more than this."""
    for n in (1, 10, 200):
        counts = np.arange(n + 1)
        log_mean = logsumexp(binom.logpmf(counts, n, share) + log_evidence(counts, n, share, around=around))
        assert log_mean == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("count", "n"), [(1, 10), (96, 1000), (950, 1000), (7, 100_000)])
def test_at_its_ends_the_evidence_is_one_in_twenty(count, n):
    for end in anytime_interval(count, n, around=0.1):
        assert log_evidence(count, n, end, around=0.1) == pytest.approx(math.log(20), abs=1e-6)


def test_its_edges_and_its_mirror_image():
    assert anytime_interval(0, 0) == (0, 1)
    assert anytime_interval(0, 50)[0] == 0
    assert anytime_interval(50, 50)[1] == 1
    lower, upper = anytime_interval(30, 400, around=0.1)
    assert anytime_interval(370, 400, around=0.9) == pytest.approx((1 - upper, 1 - lower), abs=1e-12)
    assert lower < 30 / 400 < upper
    narrow = wilson(30, 400)
    assert lower < narrow[0]
    assert upper > narrow[1]


@pytest.mark.parametrize(("share", "around"), [(0.1, 0.1), (0.04, 0.1), (0.5, 0.3), (0.006, 0.0086)])
def test_it_contains_the_share_at_all_looks_where_wilson_does_not(share, around):
    counts = paths(share, 500)
    assert contains_always(counts, LOOKS, share, around=around).mean() >= 0.95
    lower, upper = proportion_confint(counts, LOOKS, method="wilson")
    assert ((lower <= share) & (share <= upper)).all(1).mean() < 0.75


def test_looking_after_every_image_is_allowed():
    looks = np.arange(1.0, 1001)
    assert contains_always(paths(0.1, 400, 1, looks), looks, 0.1, around=0.1).mean() >= 0.95
    inside = [lower <= 0.1 <= upper for lower, upper in (anytime_interval(c, 300, around=0.1) for c in range(301))]
    assert inside == contains_always(np.arange(301.0)[:, None], np.array([300.0]), 0.1, around=0.1).tolist()


@pytest.mark.parametrize(("share", "around", "width"), [(0.1, 0.1, 0.02), (0.05, 0.1, 0.05), (0.5, 0.4, 0.1)])
def test_the_forecast_is_the_number_that_makes_it_so_narrow(share, around, width):
    n = images_needed(share, width, around=around)
    lower, upper = anytime_interval(round(share * n), n, around=around)
    assert upper - lower == pytest.approx(width, rel=0.01)


def test_the_price_of_looking_is_two_to_five_times_the_images():
    """What the choice of the prior's strength rests on."""
    for around, shares in ((0.1, (0.02, 0.05, 0.1, 0.2)), (0.42, (0.3, 0.42, 0.5)), (0.0086, (0.002, 0.0086, 0.02))):
        for share in shares:
            width = share / 2
            fixed = 4 * 1.96**2 * share * (1 - share) / width**2
            assert 2 < images_needed(share, width, around=around) / fixed < 5


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((5, 4), {}, "a count from 0 to n: count 5, n 4"),
        ((0.5, 4), {}, "whole numbers"),
        ((1, 4, 1.0), {}, r"level must lie between 0 and 1 \(audit.level"),
        ((1, 4), {"around": 0.0}, "centre between 0 and 1 and a strength above 0, not around=0.0"),
        ((1, 4), {"strength": 0}, "strength=0"),
    ],
)
def test_what_is_no_share_is_refused(arguments, options, words):
    with pytest.raises(LeadlineError, match=words):
        anytime_interval(*arguments, **options)


def test_a_width_is_a_part_of_one():
    with pytest.raises(LeadlineError, match="width must lie between 0 and 1"):
        images_needed(0.1, 2.0)


def test_the_centre_is_the_training_share_but_never_an_end():
    assert [centre(share) for share in (0.0, 0.1, 1.0)] == [0.005, 0.1, 0.995]


def test_a_classifier_that_is_always_right_adds_next_to_nothing():
    sure = anytime_corrected(96, 1000, 10**7, 10**7, 10**7, 10**7, around=0.1)
    assert (sure.lower, sure.upper) == pytest.approx(anytime_interval(96, 1000, 0.975, around=0.1), abs=1e-5)
    assert sure.value == pytest.approx(0.096)


def test_the_corrected_share_is_rogan_and_gladens():
    found = anytime_corrected(3810, 10_000, 900, 1000, 990, 1000, around=0.4168)
    assert found.value == pytest.approx(0.4168, abs=1e-4)
    assert found.lower < 0.4168 < found.upper
    worse = anytime_corrected(3810, 10_000, 90, 100, 99, 100, around=0.4168)
    assert worse.upper - worse.lower > found.upper - found.lower


def test_corrected_it_contains_the_true_share_at_all_looks():
    rng = np.random.default_rng(3)
    share, sensitivity, specificity, looks = 0.1, 0.85, 0.97, np.array([100.0, 500, 3000])
    q = share * sensitivity + (1 - share) * (1 - specificity)
    covered = []
    for counts in paths(q, 40, 4, looks):
        right = rng.binomial(150, sensitivity), rng.binomial(400, specificity)
        ends = [
            anytime_corrected(c, n, right[0], 150, right[1], 400, around=0.1)
            for c, n in zip(counts, looks, strict=True)
        ]
        covered.append(all(m.lower <= share <= m.upper for m in ends))
    assert np.mean(covered) >= 0.95


def test_a_classifier_that_may_be_guessing_corrects_nothing():
    found = anytime_corrected(100, 1000, 6, 10, 12, 20)
    assert found.value is None
    assert "together no better than a guess" in found.reason
    assert "without images" in anytime_corrected(0, 0, 9, 10, 9, 10).reason
