"""Shares corrected by a confusion matrix: exact inversion, projection, coverage, and what is refused."""

import numpy as np
import pytest
from scipy.optimize import minimize

from leadline.audit.confusion import corrected_shares, on_simplex, supports
from leadline.audit.intervals import corrected_share, wilson
from leadline.errors import LeadlineError, NotMeasurable

# Rows: true a, b, c; columns: labelled a, b, c, unclassified.
MATRIX = np.array([[90, 4, 2, 4], [5, 80, 5, 10], [2, 6, 190, 2]])
SHARES = np.array([0.1, 0.3, 0.55, 0.05])


def expected(shares: np.ndarray, matrix: np.ndarray, n: int) -> np.ndarray:
    """Counts by label of n images with those shares of the classes and of no class."""
    q = shares[:-1] @ (matrix / matrix.sum(1, keepdims=True))
    q[-1] += shares[-1]
    return np.round(n * q).astype(np.int64)


def test_counts_without_chance_give_the_shares_back() -> None:
    found = corrected_shares(expected(SHARES, MATRIX, 2_000_000), MATRIX)
    np.testing.assert_allclose(found.values, SHARES, atol=1e-6)
    assert not found.projected
    assert found.condition == pytest.approx(np.linalg.cond(MATRIX[:, :3] / MATRIX.sum(1, keepdims=True)))
    np.testing.assert_allclose(found.among([0, 1]).values, [0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(found.of([[0, 2], [3]]).values, [0.65, 0.05], atol=1e-6)


def test_intervals_are_ordered_and_the_joint_ones_wider() -> None:
    found = corrected_shares(expected(SHARES, MATRIX, 1000), MATRIX)
    for shares in (found, found.of([[0], [1], [2], [3]]), found.among([0, 1, 2])):
        assert (shares.lower >= 0).all()
        assert (shares.lower < shares.values).all()
        assert (shares.values < shares.upper).all()
        assert (shares.upper <= 1).all()
    alone = found.of([[0]])
    assert found.lower[0] < alone.lower[0]
    assert alone.upper[0] < found.upper[0]
    np.testing.assert_array_equal(found.of([[0], [1], [2], [3]]).lower, found.lower)


def test_two_complementary_groups_share_one_interval() -> None:
    found = corrected_shares(expected(SHARES, MATRIX, 1000), MATRIX)
    parts, alone = found.of([[0, 3], [1, 2]]), found.of([[0, 3]])
    assert parts.lower[0] == alone.lower[0]
    assert parts.lower[1] == pytest.approx(1 - parts.upper[0])


def test_a_seed_gives_the_same_draws_and_another_seed_others() -> None:
    observed = expected(SHARES, MATRIX, 1000)
    first, again, other = (corrected_shares(observed, MATRIX, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.upper, again.upper)
    assert (first.upper != other.upper).any()
    np.testing.assert_allclose(first.upper, other.upper, atol=0.02)


def test_two_classes_without_unclassified_ones_get_lang_and_reiczigels_interval() -> None:
    found = corrected_shares(np.array([381, 619]), np.array([[90, 10], [3, 297]]))
    two = corrected_share(381, 1000, 90, 100, 297, 300)
    assert two.value is not None
    assert found.values.tolist() == pytest.approx([two.value, 1 - two.value, 0])
    assert (found.lower[0], found.upper[0]) == (two.lower, two.upper)
    assert found.lower[1] == pytest.approx(1 - found.upper[0])
    assert found.among([1, 0]).values.tolist() == pytest.approx([1 - two.value, two.value])
    assert found.of([[0], [1], [2]]).upper.tolist() == pytest.approx([*found.upper[:2], 0])
    assert found.of([[0, 1]]).lower.tolist() == [1]


def test_the_bootstrap_and_the_closed_form_nearly_agree_where_both_can_be_had() -> None:
    """A third label that nobody ever gets makes the bootstrap take over."""
    closed = corrected_shares(np.array([381, 619]), np.array([[180, 20], [6, 594]]))
    drawn = corrected_shares(np.array([381, 619, 0]), np.array([[180, 20, 0], [6, 594, 0]])).among([0, 1])
    np.testing.assert_allclose(drawn.values, closed.values[:2], atol=1e-12)
    np.testing.assert_allclose(drawn.lower, closed.lower[:2], atol=0.006)
    np.testing.assert_allclose(drawn.upper, closed.upper[:2], atol=0.006)


def test_unclassified_beyond_what_the_matrix_explains_are_of_no_class() -> None:
    matrix = np.array([[97, 0, 3], [0, 97, 3]])
    found = corrected_shares(np.array([400, 376, 224]), matrix)
    assert found.unclassified == 0.224
    assert found.unclassified_expected == pytest.approx(0.03)
    assert found.values[2] == pytest.approx(0.2)
    fewer = corrected_shares(np.array([500, 500, 0]), matrix)
    assert fewer.projected
    assert fewer.values[2] == 0 == fewer.lower[2]


@pytest.mark.parametrize("dimensions", [2, 3, 7])
def test_the_projection_is_the_nearest_point_of_the_simplex(dimensions: int) -> None:
    generator = np.random.default_rng(dimensions)
    for _ in range(5):
        given = generator.normal(1 / dimensions, 1, dimensions)
        best = minimize(
            lambda x, y: np.square(x - y).sum(),
            np.full(dimensions, 1 / dimensions),
            given,
            bounds=[(0, 1)] * dimensions,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            tol=1e-12,
        )
        np.testing.assert_allclose(on_simplex(given), best.x, atol=1e-5)


def test_the_projection_leaves_a_point_of_the_simplex_alone() -> None:
    np.testing.assert_allclose(on_simplex(SHARES), SHARES, atol=1e-15)
    np.testing.assert_array_equal(on_simplex(np.array([-0.1, 1.1])), [0, 1])


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    """150 simulations: 90 % and more is what chance leaves of 95. The benchmark has 2,000 of many more scenarios."""
    generator = np.random.default_rng(0)
    probabilities = np.array([[0.85, 0.1, 0.05], [0.08, 0.88, 0.04]])
    q = np.array([0.2, 0.7]) @ probabilities + [0, 0, 0.1]
    truth, raw, corrected = 0.2 / 0.9, [], []
    for index in range(150):
        observed = generator.multinomial(1000, q)
        confusion = generator.multinomial([60, 100], probabilities)
        found = corrected_shares(observed, confusion, seed=index, num_replicates=200).among([0, 1])
        corrected.append(found.lower[0] <= truth <= found.upper[0])
        lower, upper = wilson(observed[0], observed[:2].sum())
        raw.append(lower <= truth <= upper)
    assert np.mean(corrected) >= 0.9
    assert np.mean(raw) < 0.5


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[50, 50, 0], [50, 50, 0]], r"tell 'cat' from 'dog'.*\[50, 50, 0\] of 'cat'.*determinant is 0"),
        ([[30, 70, 0], [70, 30, 0]], r"determinant is -0\.4"),
        ([[6, 4, 0], [4, 6, 0]], r"better classifier, or judge it on more labelled images"),
        ([[9, 1, 0], [0, 0, 0]], r"no labelled image of 'dog'.*data\.labeler"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_not_measurable(matrix: list[list[int]], words: str) -> None:
    with pytest.raises(NotMeasurable, match=words):
        corrected_shares(np.array([40, 60, 0]), np.array(matrix), names=("cat", "dog"))


def test_a_guesser_of_two_labels_is_not_measurable_either() -> None:
    with pytest.raises(NotMeasurable, match="class 0.*class 1"):
        corrected_shares(np.array([40, 60]), np.array([[6, 4], [4, 6]]))
    with pytest.raises(NotMeasurable, match="determinant, smoothed, is at most 0"):
        supports(np.array([[50, 50], [50, 50]]), np.array([0.5, 0.5]))


def test_few_images_of_the_wanted_classes_have_no_shares_among_them() -> None:
    matrix = np.array([[95, 3, 1, 1], [3, 95, 1, 1], [2, 2, 95, 1]])
    found = corrected_shares(np.array([1, 1, 990, 8]), matrix)
    with pytest.raises(NotMeasurable, match="too few to say what they are"):
        found.among([0, 1])
    assert found.of([[2]]).lower[0] > 0.9


@pytest.mark.parametrize(
    ("observed", "matrix", "options", "words"),
    [
        ([1, 2], [[5, 1, 0], [1, 5, 0]], {}, "3 labels"),
        ([0, 0, 0], [[5, 1, 0], [1, 5, 0]], {}, "at least one image"),
        ([-1, 2, 3], [[5, 1, 0], [1, 5, 0]], {}, "0 or more"),
        ([1, 2, 3, 4], [[5, 1, 0, 0], [1, 5, 0, 0]], {}, "matrix of 2 x 4"),
        ([1, 2, 3], [[5, -1, 0], [1, 5, 0]], {}, "0 or more"),
        ([1, 2, 3], [[5, 1, 0], [1, 5, 0]], {"level": 95.0}, "audit.level"),
        ([1, 2, 3], [[5, 1, 0], [1, 5, 0]], {"names": ("a",)}, "2 classes, but 1 names"),
        ([1, 2, 3], [[5, 1, 0], [1, 5, 0]], {"num_replicates": 5}, "100 or more"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(observed, matrix, options, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LeadlineError, match=words):
        corrected_shares(np.array(observed), np.array(matrix), **options)


def test_groups_and_classes_that_are_none_are_refused() -> None:
    found = corrected_shares(expected(SHARES, MATRIX, 1000), MATRIX)
    for groups in ([], [[]], [[0], [0, 1]], [[4]]):
        with pytest.raises(LeadlineError, match="disjoint"):
            found.of(groups)
    for classes in ([0], [0, 0], [0, 3]):
        with pytest.raises(LeadlineError, match="two or more class numbers"):
            found.among(classes)


def test_support_counts_the_false_positives_of_a_rare_class() -> None:
    """1 % of positives at a specificity of .99: as many false as true ones."""
    rare, common = supports(np.array([[95, 5], [10, 990]]), np.array([0.01, 0.99]), names=("rare", "common"))
    assert (rare.group, rare.labelled, common.labelled) == ("rare", 100, 1000)
    assert rare.true_positive_share == pytest.approx(0.0095)
    assert rare.false_positive_share == pytest.approx(0.0099)
    assert (rare.sensitivity, rare.specificity) == pytest.approx((0.95, 0.99))
    assert rare.floor == pytest.approx(common.floor)


def test_the_floor_is_half_the_width_that_infinitely_many_samples_leave() -> None:
    matrix = np.array([[360, 40], [20, 1980]])
    floor = supports(matrix, np.array([0.3, 0.7]))[0].floor
    share = corrected_share(0.3 * 0.9e8 + 0.7 * 0.01e8, 10**8, 360, 400, 1980, 2000)
    assert share.lower is not None
    assert share.upper is not None
    assert floor == pytest.approx((share.upper - share.lower) / 2, rel=0.05)
    drawn = corrected_shares(expected(SHARES, 10 * MATRIX, 10**8), 10 * MATRIX, seed=3).of([[1]])
    without_none = np.array([0.1, 0.3, 0.6])
    assert supports(10 * MATRIX, without_none)[1].floor == pytest.approx(
        float(drawn.upper[0] - drawn.lower[0]) / 2, rel=0.15
    )


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.5, -0.5], [0.2, 0.3, 0.5]])
def test_support_needs_shares_of_the_classes(shares: list[float]) -> None:
    with pytest.raises(LeadlineError, match="sum to 1"):
        supports(np.array([[9, 1], [1, 9]]), np.array(shares))


def test_a_training_set_of_one_class_has_no_specificity() -> None:
    only, absent = supports(np.array([[90, 10], [1, 99]]), np.array([1.0, 0.0]))
    assert only.specificity is None
    assert absent.specificity == pytest.approx(0.9)
