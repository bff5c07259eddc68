"""Random effects of training runs against closed forms, statsmodels and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from leadline.audit.intervals import clopper_pearson
from leadline.audit.replicates import (
    BetweenRuns,
    between_runs,
    corrected_between_runs,
    random_effects,
    shared_noise,
    tau2_interval,
    variance_split,
)
from leadline.errors import LeadlineError, NotMeasurable

EFFECTS = np.array([0.10, 0.30, 0.35, 0.65, 0.45, 0.15])
VARIANCES = np.array([0.03, 0.03, 0.05, 0.01, 0.05, 0.02])
"""Hedges' g of six studies: Borenstein et al. (2009), Table 14.1."""


def test_equal_n_gives_students_t_of_the_runs_shares() -> None:
    counts = [71, 55, 90, 80]
    shares = np.array(counts) / 1000
    found = between_runs(counts, [1000] * 4)
    assert (found.lower, found.upper) == pytest.approx(
        stats.t.interval(0.95, 3, shares.mean(), stats.sem(shares)), abs=1e-12
    )
    within = float((shares * (1 - shares)).sum() * 1000 / (4 * 999)) / 1000
    assert found.tau2 == pytest.approx(shares.var(ddof=1) - within, abs=1e-15)
    assert found.sampling == pytest.approx(within)
    assert found.i2 == pytest.approx(found.tau2 / shares.var(ddof=1))
    reach = stats.t.ppf(0.975, 3) * shares.std(ddof=1) * math.sqrt(1 + 1 / 4)
    assert found.prediction == pytest.approx((shares.mean() - reach, shares.mean() + reach), abs=1e-12)


def test_unequal_variances_agree_with_statsmodels() -> None:
    found = random_effects(EFFECTS, VARIANCES)
    expected = combine_effects(EFFECTS, VARIANCES, method_re="pm", use_t=True)
    assert found.tau2 == pytest.approx(expected.tau2, rel=1e-5)
    assert found.value == pytest.approx(expected.mean_effect_re, abs=1e-7)
    assert (found.lower, found.upper) == pytest.approx(tuple(expected.conf_int()[3]), abs=1e-6)


def test_runs_more_alike_than_sampling_keep_the_width_of_their_images() -> None:
    found = between_runs([70, 70, 71], [1000] * 3)
    half = stats.t.ppf(0.975, 2) * math.sqrt(found.sampling / 3)
    assert found.tau2 == 0
    assert found.i2 == 0
    assert found.upper - found.value == pytest.approx(half)
    unguarded = stats.t.ppf(0.975, 2) * stats.sem([0.070, 0.070, 0.071])
    assert half > 10 * unguarded


@pytest.mark.parametrize(("counts", "expected"), [([0, 0], (0, 2000)), ([1000, 1000], (2000, 2000))])
def test_runs_without_or_with_the_class_alone_have_the_exact_interval_of_all_images(counts, expected) -> None:
    found = between_runs(counts, [1000, 1000])
    assert (found.lower, found.upper) == clopper_pearson(*expected)
    assert found.tau2_interval is None


def test_two_runs_and_shares_near_zero_stay_within_the_scale() -> None:
    found = between_runs([0, 9], [1000, 1000])
    assert found.lower == 0
    assert found.value == pytest.approx(0.0045)
    assert found.upper > clopper_pearson(9, 2000)[1]
    assert found.tau2_interval is not None
    assert found.tau2_interval[1] == pytest.approx(0.0045 * 0.9955)


def test_an_error_common_to_all_runs_is_added_and_is_no_part_of_tau2() -> None:
    alone = random_effects(EFFECTS, VARIANCES)
    found = random_effects(EFFECTS, VARIANCES, shared=0.04)
    assert found.tau2 == alone.tau2
    halves = [(each.upper - each.lower) / 2 for each in (alone, found)]
    assert halves[1] == pytest.approx(math.hypot(halves[0], stats.norm.ppf(0.975) * 0.2))
    # Of the runs' own sampling variance that part is no longer: they differ by training more.
    counts, ns = [71, 55, 90, 80], [1000] * 4
    assert between_runs(counts, ns, shared=4e-5).tau2 == pytest.approx(between_runs(counts, ns).tau2 + 4e-5)


def test_the_interval_of_tau2_is_chi_square_in_the_balanced_case() -> None:
    values, variances = np.array([1.0, 2.0, 4.0, 7.0]), np.full(4, 0.5)
    squares = 3 * values.var(ddof=1)
    expected = [squares / stats.chi2.ppf(tail, 3) - 0.5 for tail in (0.975, 0.025)]
    assert tau2_interval(values, variances) == pytest.approx(tuple(expected))
    assert tau2_interval(np.array([1.0, 1.0001]), np.full(2, 0.5)) is None


def test_common_noise_is_the_covariance_of_the_runs_shares() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((100, 1, 400)), rng.standard_normal((100, 2, 400))
    below = stats.norm.ppf(0.2)
    y = math.sqrt(0.6) * common + math.sqrt(0.4) * own < below
    both = stats.multivariate_normal(cov=[[1, 0.6], [0.6, 1]]).cdf([below, below])
    found = np.mean([shared_noise(each, np.ones_like(each)) for each in y])
    assert found == pytest.approx((both - 0.04) / 400, rel=0.05)


def test_common_noise_of_equal_runs_is_all_of_their_variance_and_unrecognised_images_are_left_out() -> None:
    row = np.arange(200) % 5 == 0
    everything = np.ones_like(row)
    assert shared_noise(np.stack([row, row]), np.stack([everything, everything])) == pytest.approx(0.16 / 199)
    recognised = np.arange(200) < 150
    q = row[:150].mean()
    expected = ((row[:150] - q) ** 2).sum() * (200 / 150) ** 2 / 199 / 200
    assert shared_noise(np.stack([row, row]), np.stack([recognised, recognised])) == pytest.approx(expected)
    assert shared_noise(np.stack([row, ~row]), np.stack([everything, everything])) == 0


def test_the_variance_split_says_what_more_runs_and_more_images_would_change() -> None:
    split = variance_split(replace(between(tau2=4.0, sampling=2.0, shared=1.0), classifier=3.0))
    assert sum(split.parts().values()) == 10
    assert split.parts(2) == {"training run": 2.0, "own images": 1.0, "common noise": 1.0, "classifier": 3.0}
    assert split.narrowing(runs=2) == pytest.approx(math.sqrt((1 + 0.5 + 1 + 3) / 7))
    assert split.narrowing(images=2.0) == pytest.approx(math.sqrt((2 + 0.5 + 0.5 + 3) / 7))
    assert variance_split(between(tau2=0.0, sampling=0.0, shared=0.0)).narrowing(runs=2) == 1


def between(tau2: float, sampling: float, shared: float) -> BetweenRuns:
    return BetweenRuns(
        value=0.1, lower=0.0, upper=0.2, level=0.95, runs=2, tau2=tau2, tau2_interval=None,
        sampling=sampling, shared=shared, i2=0.0, prediction=(0.0, 0.2), method="",
    )  # fmt: skip


@pytest.mark.parametrize("noise", [0.0, 3e-4])
def test_a_correction_without_any_error_of_its_own_amplifies_what_sampling_gives(noise) -> None:
    """Se = Sp = .8, known: all is as labelled, 1 / .6 times as far apart, and nothing is the classifier's."""
    counts, ns = [210, 250, 195, 240], [500] * 4
    raw = between_runs(counts, ns, shared=noise)
    values = (np.array(counts) / 500 - 0.2) / 0.6
    found = corrected_between_runs(raw, ns, values, np.full(4, (raw.sampling + noise) / 0.36), 0.0)
    assert found.value == pytest.approx((raw.value - 0.2) / 0.6)
    assert (found.lower, found.upper) == pytest.approx(((raw.lower - 0.2) / 0.6, (raw.upper - 0.2) / 0.6))
    assert found.tau2 == pytest.approx(raw.tau2 / 0.36)
    assert found.shared == pytest.approx(noise / 0.36)
    split = variance_split(found)
    assert split.parts()["classifier"] == 0
    assert split.narrowing(images=2.0) == pytest.approx(variance_split(raw).narrowing(images=2.0))


def test_the_labeled_images_error_is_added_once_and_stays_with_more_runs_and_images() -> None:
    counts, ns, values = [30, 50, 40], [400] * 3, np.array([0.06, 0.12, 0.09])
    raw = between_runs(counts, ns)
    without, found = (
        corrected_between_runs(raw, ns, values, np.full(3, 0.0004 + error), error) for error in (0.0, 0.0009)
    )
    assert (found.tau2, found.sampling) == pytest.approx((without.tau2, 0.0004))
    halves = [each.upper - each.value for each in (without, found)]
    assert halves[1] == pytest.approx(math.hypot(halves[0], stats.norm.ppf(0.975) * 0.03))
    assert variance_split(found).parts(1000, 1000.0)["classifier"] == 0.0009


@pytest.mark.parametrize(("spread", "noise"), [(0.0, 0.0), (0.02, 0.6)])
def test_coverage_of_the_mean_of_three_runs_where_a_bootstrap_of_runs_fails(spread, noise) -> None:
    """Shares of 7 % ± spread, 600 images; noise: correlation of the images of two runs from the same noise."""
    rng = np.random.default_rng(3)
    hits = bootstrapped = 0
    trials = 120
    for _ in range(trials):
        ps = rng.beta(0.07 * 161.75, 0.93 * 161.75, size=3) if spread else np.full(3, 0.07)
        z = math.sqrt(noise) * rng.standard_normal(600) + math.sqrt(1 - noise) * rng.standard_normal((3, 600))
        y = z < stats.norm.ppf(ps)[:, None]
        counts = y.sum(axis=1)
        found = between_runs(counts.tolist(), [600] * 3, shared=shared_noise(y, np.ones_like(y)))
        hits += found.lower <= 0.07 <= found.upper
        means = (counts / 600)[rng.integers(0, 3, (100, 3))].mean(axis=1)
        ends = np.quantile(means, [0.025, 0.975])
        bootstrapped += ends[0] <= 0.07 <= ends[1]
    assert hits / trials > 0.93
    assert bootstrapped / trials < 0.85


@pytest.mark.parametrize(
    ("counts", "ns", "error", "match"),
    [
        ([5], [10], NotMeasurable, "one training run.*--seeds 0,1,2"),
        ([5, 6], [10], LeadlineError, "2 counts, 1 n"),
        ([5, 11], [10, 10], LeadlineError, "between 0 and n"),
        ([0, 1], [0, 10], LeadlineError, "n of 1 or more"),
        ([], [], LeadlineError, "0 values"),
    ],
)
def test_what_are_no_runs_is_said(counts, ns, error, match) -> None:
    with pytest.raises(error, match=match):
        between_runs(counts, ns)


def test_bad_levels_variances_and_single_runs_of_noise_are_said() -> None:
    with pytest.raises(LeadlineError, match="audit.level"):
        random_effects(EFFECTS, VARIANCES, 95.0)
    with pytest.raises(LeadlineError, match="variances 0 or more"):
        random_effects(EFFECTS, -VARIANCES)
    with pytest.raises(LeadlineError, match="1 runs of 4 images"):
        shared_noise(np.ones((1, 4), bool), np.ones((1, 4), bool))
    with pytest.raises(LeadlineError, match="variance must be 0 or more"):
        corrected_between_runs(between_runs([1, 2], [9, 9]), [9, 9], np.zeros(2), np.ones(2), -1.0)
