"""The copy rules on numbers by hand, the calibrated threshold by simulation, intervals against their libraries."""

import numpy as np
import pytest
from scipy.stats import fisher_exact, ttest_ind
from statsmodels.stats.proportion import confint_proportions_2indep

from leadline.audit.copies import calibrated_threshold, carlini_copies, halves, ratio_copies, share_interval
from leadline.audit.differences import fisher, newcombe, welch
from leadline.audit.intervals import clopper_pearson, wilson
from leadline.errors import NotMeasurable
from leadline.rng import numpy_generator_for


def test_d1_d2_is_strict_and_a_distance_of_zero_is_a_copy() -> None:
    copies = ratio_copies(np.array([0.9, 1.0, 1.1, 0.0, 0.0]), np.array([3.0, 3.0, 3.0, 3.0, 0.0]), 1 / 3)
    assert copies.tolist() == [True, False, False, True, True]


def test_carlinis_ratio_includes_its_bound() -> None:
    copies = carlini_copies(np.array([4.9, 5.0, 5.1, 0.0]), np.array([10.0, 10.0, 10.0, 0.0]), 0.5)
    assert copies.tolist() == [True, True, False, True]


@pytest.mark.parametrize(("m", "rate"), [(99, 0.01), (150, 0.01), (19, 0.1), (1, 0.5)])
def test_new_images_fall_below_the_threshold_at_exactly_the_conformal_rate(m: int, rate: float) -> None:
    generator = numpy_generator_for(0, "test of calibration", m)
    draws = generator.exponential(size=(4_000, m + 1))
    below = np.mean([row[-1] < calibrated_threshold(row[:-1], rate) for row in draws])
    exact = np.floor((m + 1) * rate + 1e-9) / (m + 1)
    assert exact <= rate
    assert below == pytest.approx(exact, abs=4 * np.sqrt(exact / len(draws)))


@pytest.mark.parametrize(("m", "rate", "needed"), [(98, 0.01, 198), (18, 0.05, 38), (0, 0.5, 2)])
def test_too_few_held_out_images_for_the_rate_are_told_with_the_number_needed(m: int, rate: float, needed: int) -> None:
    with pytest.raises(NotMeasurable, match=rf"takes {needed} held-out images or more.*{m} of them.*--held-out DATA"):
        calibrated_threshold(np.ones(m), rate)
    assert calibrated_threshold(np.ones(needed // 2), rate) == 1


def test_a_threshold_of_zero_is_refused_as_it_would_find_no_copy() -> None:
    distances = np.array([0.0, 0.0, 3.0, 4.0])
    with pytest.raises(NotMeasurable, match=r"2 of the 4 held-out images.*distance 0.*leave all training.*--held-out"):
        calibrated_threshold(distances, 0.4)
    assert calibrated_threshold(distances, 0.6) == 3


def test_repeats_of_one_picture_fall_into_both_halves() -> None:
    calibrating, checking = halves(np.full((40, 1, 2, 2), 7, np.uint8), 0)
    assert (len(calibrating), len(checking)) == (20, 20)
    pixels = np.concatenate([np.full((10, 1, 2, 2), v, np.uint8) for v in range(4)])
    calibrating, checking = halves(pixels, 0)
    for half in (calibrating, checking):
        assert len({int(pixels[i, 0, 0, 0]) for i in half}) == 4


def test_halves_are_disjoint_whole_and_do_not_depend_on_the_order() -> None:
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (31, 1, 4, 4)).astype(np.uint8)
    calibrating, checking = halves(pixels, 0)
    assert (len(calibrating), len(checking)) == (16, 15)
    assert sorted([*calibrating, *checking]) == list(range(31))
    order = generator.permutation(31)
    mixed, _ = halves(pixels[order], 0)
    assert set(order[mixed]) == set(calibrating)
    assert set(halves(pixels, 1)[0]) != set(calibrating)


def test_few_copies_get_the_exact_interval_and_more_wilsons() -> None:
    assert share_interval(0, 200, 0.95) == (clopper_pearson(0, 200), "Clopper-Pearson")
    assert share_interval(4, 200, 0.95) == (clopper_pearson(4, 200), "Clopper-Pearson")
    assert share_interval(5, 200, 0.95) == (wilson(5, 200), "Wilson")


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20), (0, 30, 0, 25)])
def test_newcombe_and_fisher_agree_with_their_libraries(counts: tuple[int, int, int, int]) -> None:
    expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=0.05)
    assert newcombe(*counts, 0.95) == pytest.approx(expected, abs=1e-12)
    count, n, other, m = counts
    assert fisher(*counts) == pytest.approx(fisher_exact([[count, n - count], [other, m - other]])[1])


def test_newcombes_printed_example() -> None:
    assert newcombe(56, 70, 48, 80, 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_welch_agrees_with_scipy_whatever_the_level() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.normal(1, 3, 40), generator.normal(0, 1, 12)
    theirs = ttest_ind(first, second, equal_var=False)
    for level in (0.9, 0.99):
        found = welch(first, second, level)
        assert found is not None
        assert found[0] == pytest.approx(tuple(theirs.confidence_interval(level)))
        assert found[1] == pytest.approx(theirs.pvalue)


def test_welch_needs_two_values_and_some_spread() -> None:
    assert welch(np.array([1.0]), np.array([1.0, 2.0]), 0.95) is None
    assert welch(np.array([1.0, 1.0]), np.array([2.0, 2.0]), 0.95) is None
