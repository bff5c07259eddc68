"""Paired tests against scipy, statsmodels, published examples and loops; their size and coverage at small n."""

from dataclasses import astuple
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binom, multinomial, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from leadline.audit.frechet import Gaussian, fit_gaussian, frechet_distance
from leadline.audit.left_out import frechet_without
from leadline.audit.paired_tests import (
    Inference,
    block_jackknifed,
    blocks_of,
    holm,
    jackknifed,
    mcnemar,
    newcombe_paired,
    paired_t,
    student,
)
from leadline.errors import LeadlineError, NotMeasurable

SIMULATIONS = 300
MOST_REJECTED = 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
"""What a test of level 0.05 stays below in 99.5 % of all such simulations."""


def test_paired_t_is_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    base, other = generator.normal(size=(2, 17)).astype(np.float32)
    expected = ttest_rel(other.astype(np.float64), base.astype(np.float64))
    interval = expected.confidence_interval(0.9)
    found = paired_t(base, other, 0.9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize(("both", "gained", "lost", "neither"), [(5, 9, 2, 4), (0, 1, 7, 30), (3, 3, 3, 3)])
def test_mcnemar_is_the_exact_one_of_statsmodels(both: int, gained: int, lost: int, neither: int) -> None:
    base = np.repeat([True, False, True, False], [both, gained, lost, neither])
    other = np.repeat([True, True, False, False], [both, gained, lost, neither])
    found = mcnemar(base, other, 0.95)
    assert found.p == pytest.approx(reference_mcnemar([[both, lost], [gained, neither]], exact=True).pvalue)
    assert (found.lower, found.upper) == newcombe_paired(both, gained, lost, len(base), 0.95)


def test_where_no_pair_differs_mcnemar_has_nothing_to_say_and_an_interval_all_the_same() -> None:
    counted = np.arange(20) < 7
    found = mcnemar(counted, counted, 0.95)
    assert found.p == 1
    assert -0.2 < found.lower < 0 < found.upper < 0.2


def test_the_size_of_mcnemar_is_at_most_its_level() -> None:
    """Over every split of the pairs that differ: of d pairs, half of them go either way on average."""
    for differing in (1, 5, 6, 9, 12, 17, 20, 30):
        rejected = 0.0
        for gained in range(differing + 1):
            base, other = np.arange(differing) >= gained, np.arange(differing) < gained
            if mcnemar(base, other, 0.95).p < 0.05:
                rejected += binom.pmf(gained, differing, 0.5)
        assert rejected <= 0.05


def test_newcombes_paired_interval_on_published_tables() -> None:
    """Airway responsiveness of 21 children, in Fagerland, Lydersen and Laake (2014): 2 of 21 before, 8 of 21 after."""
    assert newcombe_paired(1, 7, 1, 21, 0.95) == pytest.approx((0.026, 0.507), abs=5e-4)
    lower, upper = newcombe_paired(1, 1, 7, 21, 0.95)
    assert (-upper, -lower) == pytest.approx(newcombe_paired(1, 7, 1, 21, 0.95))
    assert newcombe_paired(0, 20, 0, 20, 0.95)[1] == pytest.approx(1)
    assert newcombe_paired(8, 0, 0, 8, 0.95) == pytest.approx((-0.3244, 0.3244), abs=5e-5)


def test_newcombes_paired_interval_covers_as_often_as_it_says() -> None:
    n = 16
    tables = [t for t in product(range(n + 1), repeat=3) if sum(t) <= n]
    intervals = np.array([newcombe_paired(*table, n, 0.95) for table in tables])
    covered = []
    for shares in ((0.3, 0.2, 0.1), (0.6, 0.1, 0.1), (0.1, 0.3, 0.05), (0.45, 0.05, 0.05), (0.2, 0.4, 0.2)):
        weights = multinomial.pmf([(*t, n - sum(t)) for t in tables], n, [*shares, 1 - sum(shares)])
        true = shares[1] - shares[2]
        covered.append(weights[(intervals[:, 0] <= true) & (true <= intervals[:, 1])].sum())
    assert min(covered) > 0.925
    assert np.mean(covered) > 0.945


def test_one_left_out_is_the_jackknife_of_the_loop() -> None:
    """Means over pairs, which are linear in each image's mean distance to the others."""
    generator = np.random.default_rng(1)
    n = 12
    points = generator.normal(size=(2, n, 2)), generator.normal(size=(2, n, 2))
    base, other = (np.square(p[:, :, None] - p[:, None]).sum((0, 3)) for p in points)

    def mean(distances: np.ndarray) -> float:
        return float(distances.sum() / (len(distances) * (len(distances) - 1)))

    rest = [np.delete(np.arange(n), i) for i in range(n)]
    left_out = np.array([mean(other[np.ix_(r, r)]) - mean(base[np.ix_(r, r)]) for r in rest])
    error = np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum())
    linear = -2 * (other - base).sum(1) / (n - 1) / (n - 2)
    value = mean(other) - mean(base)
    assert astuple(jackknifed(value, linear, 0.95)) == pytest.approx(astuple(student(value, error, n - 1, 0.95)))
    assert astuple(jackknifed(value, left_out, 0.95)) == pytest.approx(astuple(student(value, error, n - 1, 0.95)))


def test_of_a_choice_of_images_the_error_is_still_that_of_all() -> None:
    linear = np.random.default_rng(2).normal(size=400) / 400
    whole, half = jackknifed(0.1, linear, 0.95), jackknifed(0.1, linear[:200], 0.95, pairs=400)
    assert half.upper - half.lower == pytest.approx(whole.upper - whole.lower, rel=0.1)


def test_blocks_of_one_image_give_the_paired_t_of_means() -> None:
    base, other = np.random.default_rng(3).normal(size=(2, 9))
    d = other - base
    without = (d.sum() - d) / 8
    value, found = block_jackknifed(float(d.mean()), without, np.ones(9, int), 0.95)
    assert value == d.mean()
    assert astuple(found) == pytest.approx(astuple(paired_t(base, other, 0.95)))


def test_equal_blocks_give_the_usual_variance_and_unequal_ones_that_of_the_weighted_mean() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(size=24)
    blocks = np.arange(24) % 6
    without = np.array([np.exp(values[blocks != b].mean()) for b in range(6)])
    value = float(np.exp(values.mean()))
    error = np.sqrt(5 / 6 * np.square(without - without.mean()).sum())
    _, found = block_jackknifed(value, without, np.full(6, 4), 0.95)
    assert astuple(found) == pytest.approx(astuple(student(value, error, 5, 0.95)))
    sizes = np.array([3, 4, 5])
    edges = np.repeat(np.arange(3), sizes)
    parts = np.array([values[:12][edges == b].mean() for b in range(3)])
    mean = float(values[:12].mean())
    left = np.array([values[:12][edges != b].mean() for b in range(3)])
    variance = (np.square(parts - mean) / (12 / sizes - 1)).mean()
    assert astuple(block_jackknifed(mean, left, sizes, 0.95)[1]) == pytest.approx(
        astuple(student(mean, np.sqrt(variance), 2, 0.95))
    )


def test_the_correction_takes_all_of_a_bias_of_order_1_n_off() -> None:
    """The variance with divisor n, whose jackknife is the one with divisor n - 1."""
    values = np.random.default_rng(12).normal(size=20)
    without = np.array([np.var(np.delete(values, i)) for i in range(20)])
    value, tested = block_jackknifed(float(np.var(values)), without, np.ones(20, int), 0.95, corrected=True)
    assert value == pytest.approx(np.var(values, ddof=1))
    assert (tested.lower + tested.upper) / 2 == pytest.approx(value)


def test_of_unequal_blocks_the_correction_is_the_mean_weighted_by_their_sizes() -> None:
    sizes, without = np.array([3, 4, 5]), np.array([1.0, 1.5, 0.5])
    value, _ = block_jackknifed(2.0, without, sizes, 0.95, corrected=True)
    assert value == pytest.approx(3 * 2.0 - ((1 - sizes / 12) * without).sum())


def test_sets_that_are_equal_do_not_differ() -> None:
    same = np.random.default_rng(5).normal(size=10)
    none = Inference(0.0, 0.0, 1.0)
    assert paired_t(same, same, 0.95) == none
    assert jackknifed(0.0, np.zeros(10), 0.95) == none
    assert block_jackknifed(0.0, np.zeros(5), np.full(5, 2), 0.95, corrected=True) == (0.0, none)


def test_a_difference_without_spread_cannot_be_tested() -> None:
    values = np.arange(6.0)
    with pytest.raises(NotMeasurable, match=r"difference of 2 is the same wherever.*--num-images"):
        paired_t(values, values + 2, 0.95)
    with pytest.raises(NotMeasurable, match="difference of 2 is the same wherever"):
        block_jackknifed(2.0, np.full(3, 2.0), np.full(3, 2), 0.95)


def test_too_few_images_cannot_be_tested() -> None:
    with pytest.raises(NotMeasurable, match="needs 2 images or more in each set, 1 given"):
        paired_t(np.zeros(1), np.ones(1), 0.95)
    with pytest.raises(NotMeasurable, match="needs 3 images or more in each set, 2 given"):
        jackknifed(1.0, np.array([0.0, 1.0]), 0.95)
    with pytest.raises(NotMeasurable, match="2 blocks or more, 1 given"):
        block_jackknifed(1.0, np.zeros(1), np.ones(1, int), 0.95)


@pytest.mark.parametrize("n", [5, 12])
def test_the_size_of_paired_t_and_its_coverage(n: int) -> None:
    """Skewed values whose differences are symmetric, as those of exchangeable pairs are."""
    generator = np.random.default_rng(6)
    shared = generator.exponential(size=(SIMULATIONS, n))
    base, other = shared + generator.exponential(size=(2, SIMULATIONS, n))
    tested = [paired_t(b, o + 1, 0.95) for b, o in zip(base, other, strict=True)]
    missed = np.mean([not t.lower <= 1 <= t.upper for t in tested])
    rejected = np.mean([paired_t(b, o, 0.95).p < 0.05 for b, o in zip(base, other, strict=True)])
    assert missed == rejected
    assert 0.01 < rejected < MOST_REJECTED


def test_the_size_of_the_jackknife_over_pairs() -> None:
    generator = np.random.default_rng(7)
    n = 15
    shared = generator.normal(size=(SIMULATIONS, n, 2))
    sets = shared + generator.exponential(size=(2, SIMULATIONS, n, 2))
    # Of each image, the mean squared distance to the others, from sums alone.
    squares, total = np.square(sets).sum(-1), sets.sum(2, keepdims=True)
    means = (n * squares + squares.sum(2, keepdims=True) - 2 * (sets * total).sum(-1)) / (n - 1)
    differences = means[1] - means[0]
    tested = [jackknifed(float(d.mean()), -2 * d / (n - 2), 0.95) for d in differences]
    assert 0.01 < np.mean([t.p < 0.05 for t in tested]) < MOST_REJECTED


def test_the_size_of_the_block_jackknife_of_a_frechet_difference() -> None:
    generator = np.random.default_rng(8)
    n, d = 36, 3
    reference = fit_gaussian(generator.normal(size=(200, d)) * [0.5, 1, 1.5])
    root = reference.root.numpy()
    blocks, sizes = np.arange(n) % 6, np.full(6, 6)

    def distance(x: np.ndarray) -> float:
        spread = np.cov(x.T)
        roots = np.sqrt(np.linalg.eigvalsh(root @ spread @ root.T).clip(0)).sum()
        shift = x.mean(0) - reference.mean.numpy()
        return float(shift @ shift + np.trace(spread) + np.square(root).sum() - 2 * roots)

    rejected = 0
    for _ in range(SIMULATIONS):
        shared = generator.normal(size=(n, d)) + np.eye(d)[0]
        base, other = (shared + 0.7 * generator.exponential(size=(n, d)) for _ in range(2))
        apart = frechet_without(other, reference, blocks) - frechet_without(base, reference, blocks)
        tested = block_jackknifed(distance(other) - distance(base), apart, sizes, 0.95, corrected=True)[1]
        rejected += tested.p < 0.05
    assert 0.01 < rejected / SIMULATIONS < MOST_REJECTED


def test_a_set_of_another_spread_is_seen_as_worse_although_its_bias_is_smaller() -> None:
    """Base N(0, I) as the reference, the other shrunk to 0.9 of it: 0.01·d farther, and on average nearer as it is."""
    generator = np.random.default_rng(13)
    n, d, times = 72, 32, 30
    reference = Gaussian(mean=torch.zeros(d, dtype=torch.float64), root=torch.eye(d, dtype=torch.float64))
    blocks, sizes = np.arange(n) % 18, np.full(18, 4)
    plain, corrected, covered = [], [], 0
    for _ in range(times):
        base = generator.normal(size=(n, d))
        other = 0.9 * (0.9 * base + np.sqrt(0.19) * generator.normal(size=(n, d)))
        plain.append(frechet_distance(other, reference).value - frechet_distance(base, reference).value)
        apart = frechet_without(other, reference, blocks) - frechet_without(base, reference, blocks)
        value, tested = block_jackknifed(plain[-1], apart, sizes, 0.95, corrected=True)
        corrected.append(value)
        covered += tested.lower <= 0.01 * d <= tested.upper
    assert np.mean(plain) < 0
    assert np.mean(corrected) == pytest.approx(0.01 * d, abs=0.12)
    assert covered >= 0.9 * times


def test_the_size_of_the_block_jackknife_of_a_statistic_that_is_not_smooth() -> None:
    """The share of 50 places that have an image within reach, as coverage counts them."""
    generator = np.random.default_rng(9)
    n = 30
    places = generator.normal(size=50)
    blocks, sizes = np.arange(n) % 10, np.full(10, 3)
    member = np.eye(10)[blocks]
    shared = generator.normal(size=(SIMULATIONS, n))
    sets = 0.6 * shared + 0.8 * generator.normal(size=(2, SIMULATIONS, n))
    rejected = 0
    for pair in sets.swapaxes(0, 1):
        reached = np.abs(pair[:, None] - places[:, None]) < 0.05
        hits = reached @ member
        without = (hits.sum(-1, keepdims=True) - hits > 0).mean(1)
        value = reached.any(-1).mean(1)
        tested = block_jackknifed(float(value[1] - value[0]), without[1] - without[0], sizes, 0.95)[1]
        rejected += tested.p < 0.05
    assert 0.005 < rejected / SIMULATIONS < MOST_REJECTED


def test_blocks_are_even_and_follow_the_ids() -> None:
    ids = [f"7/{index}" for index in range(23)]
    blocks = blocks_of(ids, 5, seed=0)
    assert sorted(np.bincount(blocks)) == [4, 4, 5, 5, 5]
    order = np.random.default_rng(10).permutation(23)
    assert (blocks_of([ids[i] for i in order], 5, seed=0) == blocks[order]).all()
    assert (blocks_of(ids, 5, seed=1) != blocks).any()
    assert (blocks != np.arange(23) % 5).any()


def test_holm_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(11)
    for n in (1, 2, 9):
        ps = [*generator.uniform(size=n).tolist(), 0.01, 0.01]
        assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1].tolist())
    assert holm([]) == []
    with pytest.raises(LeadlineError, match="p-values from 0 to 1, not 0.5, nan"):
        holm([0.5, float("nan")])
