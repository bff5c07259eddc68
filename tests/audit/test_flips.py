"""Pairs of labels against statsmodels, hand-made tables and closed forms."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2
from statsmodels.stats.contingency_tables import SquareTable
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar

from leadline.audit.bias import paired_flips
from leadline.audit.flips import as_family, flip_matrix, flip_rate, marginal_homogeneity, pair_up, paired_interval
from leadline.audit.paired_tests import newcombe_paired
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import ImageLabels

BOTH, GAINED, LOST, NEITHER = 4, 2, 9, 35
A = ["nine"] * (BOTH + LOST) + ["six"] * (GAINED + NEITHER)
B = ["nine"] * BOTH + ["six"] * LOST + ["nine"] * GAINED + ["six"] * NEITHER


def labelled(labels: list[str], ids: list[str] | None = None) -> ImageLabels:
    return ImageLabels(ids=tuple(ids or map(str, range(len(labels)))), labels=tuple(labels))


def square(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """Labels of the two sets whose pairs are counted by the table."""
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in pairs], [j for _, j in pairs]


def test_paired_flips_is_the_exact_mcnemar_of_statsmodels_with_an_interval_around_newcombes() -> None:
    found = paired_flips(A, B)
    assert found.group == "nine"
    assert found.value == pytest.approx((GAINED - LOST) / 50)
    assert found.params["p"] == pytest.approx(reference_mcnemar([[BOTH, LOST], [GAINED, NEITHER]], exact=True).pvalue)
    lower, upper = newcombe_paired(BOTH, GAINED, LOST, 50, 0.95)
    conditional = binomtest(GAINED, GAINED + LOST).proportion_ci(0.95)
    assert found.lower == lower < (2 * conditional.low - 1) * 11 / 50
    assert found.upper == pytest.approx((2 * conditional.high - 1) * 11 / 50)
    assert found.upper > upper
    told = {"gained": GAINED, "lost": LOST, "both": BOTH, "neither": NEITHER, "share_a": 0.26, "share_b": 0.12}
    assert {name: found.params[name] for name in told} == told
    assert (found.n, found.level) == (50, 0.95)


def test_the_other_way_round_and_the_other_class_turn_the_sign_and_keep_the_p() -> None:
    found, back, other = paired_flips(A, B), paired_flips(B, A), paired_flips(A, B, group="six")
    for turned in (back, other):
        assert turned.value == pytest.approx(-found.value)
        assert turned.params["p"] == found.params["p"]
        assert (turned.lower, turned.upper) == pytest.approx((-found.upper, -found.lower))
    assert (back.params["gained"], back.params["lost"]) == (LOST, GAINED)


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_interval_never_excludes_0_where_the_exact_test_finds_nothing(level: float) -> None:
    """5 gained, 0 lost, of 100: p = 0.0625, and Newcombe's interval alone is 0.07 to 11.1 points."""
    assert newcombe_paired(0, 5, 0, 100, 0.95)[0] > 0
    both_signs = 0
    for changed in range(25):
        for gained in range(changed + 1):
            lower, upper = paired_interval(20, gained, changed - gained, 100, level)
            wide = newcombe_paired(20, gained, changed - gained, 100, level)
            assert lower <= wide[0] <= wide[1] <= upper
            if changed and binomtest(gained, changed).pvalue >= 1 - level:
                both_signs += 1
                assert lower <= 0 <= upper
    assert both_signs > 50


def test_a_family_counts_complementary_classes_once_and_widens_the_intervals() -> None:
    groups = [paired_flips(A, B, group=name) for name in ("nine", "six")]
    found = as_family(groups, [1, 1])
    assert {(m.params["p_holm"], m.params["tests"]) for m in found} == {(groups[0].params["p"], 1)}
    assert [(m.lower, m.upper, m.method) for m in found] == [(m.lower, m.upper, m.method) for m in groups]
    found = as_family([*groups, groups[1]], [1, 1, 2])
    assert {m.params["tests"] for m in found} == {2}
    assert [m.params["p_holm"] for m in found] == pytest.approx([2 * groups[0].params["p"]] * 3)
    for m, alone in zip(found, groups, strict=False):
        assert (m.lower, m.upper) == paired_interval(*(m.params[x] for x in ("both", "gained", "lost")), 50, 0.975)
        assert m.lower < alone.lower < alone.upper < m.upper
        assert (m.level, m.method.endswith("simultaneous for the 2 tests (Bonferroni)")) == (0.95, True)


def test_classes_are_complementary_only_where_no_image_has_another_label() -> None:
    """One six becomes a nine and one nine a four: nine and six have the mirrored changes of no two classes."""
    a, b = ["six", "nine", "x", "y"], ["nine", "four", "y", "x"]
    found = as_family([paired_flips(a, b, group=name) for name in ("six", "nine", "x", "y")], [0] * 4)
    assert {m.params["tests"] for m in found} == {4}


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_labels_may_be_names_or_numbers_in_any_sequence(kind) -> None:
    numbers = [[int(label == "six") for label in labels] for labels in (A, B)]
    found = paired_flips(kind(numbers[0]), kind(numbers[1]))
    assert (found.group, found.value) == ("0", paired_flips(kind(A), kind(B)).value)


def test_ids_in_another_order_pair_the_same_images_and_the_rest_is_counted() -> None:
    ids = [f"0/{index}" for index in range(50)]
    order = np.random.default_rng(0).permutation(50)
    mixed = labelled([B[i] for i in order] + ["six"], [ids[i] for i in order] + ["0/50"])
    found = paired_flips(labelled(A, ids), mixed)
    assert found.params == {**paired_flips(A, B).params, "unpaired": 1}
    pairs = pair_up(labelled(A, ids), mixed)
    assert (pairs.ids, pairs.a, pairs.b, pairs.alone) == (tuple(ids), tuple(A), tuple(B), (0, 1))
    assert pairs.moved(["nine"], ["six"]) == list(range(BOTH, BOTH + LOST))
    assert pairs.moved(["six"], ["nine"]) == list(range(BOTH + LOST, BOTH + LOST + GAINED))


def test_unclassified_is_a_label_like_the_others() -> None:
    found = paired_flips(["nine", "nine", "six"], ["unclassified", "nine", "six"])
    assert (found.group, found.params["lost"], found.n) == ("six", 0, 3)
    assert paired_flips(["nine", "nine", "six"], ["unclassified", "nine", "six"], group="nine").params["lost"] == 1
    assert paired_flips([-1, 0], [0, 0], group="unclassified").params["lost"] == 1


def test_a_class_that_neither_set_has_needs_to_be_known() -> None:
    found = paired_flips(A, B, group="four", classes=("four", "nine", "six"))
    assert (found.value, found.params["p"], found.params["neither"]) == (0, 1, 50)
    with pytest.raises(LeadlineError, match="no image is of class 'nien'.*did you mean 'nine'"):
        paired_flips(A, B, group="nien")


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (["x"], ["x", "y"], LeadlineError, "1 labels of the first set, 2 of the second"),
        ([], [], NotMeasurable, "no image is in both sets"),
        (labelled(["x"], ["0/0"]), labelled(["x"], ["1/0"]), NotMeasurable, "sample.seed"),
        (labelled(["x"]), ["x"], LeadlineError, "one set of labels has ids and the other has none"),
        (labelled(["x", "y"], ["0/0", "0/0"]), labelled(["x"]), LeadlineError, "id '0/0' stands 2 times"),
        (["x", "y", "z"], ["x", "y", "y"], LeadlineError, r"3 classes \(x, y, z\): say which.*--group"),
    ],
)
def test_what_cannot_be_paired_is_refused(a, b, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        paired_flips(a, b)


def test_the_flip_rate_counts_every_change() -> None:
    found = flip_rate(A, B)
    assert (found.value, found.params) == (pytest.approx((GAINED + LOST) / 50), {"changed": GAINED + LOST})
    assert flip_rate(A, A).value == 0


def test_marginal_homogeneity_is_that_of_statsmodels() -> None:
    table = [[20, 5, 3], [9, 30, 4], [8, 1, 15]]
    expected = SquareTable(np.array(table), shift_zeros=False).homogeneity()
    found = marginal_homogeneity(*square(table))
    assert found.value == pytest.approx(expected.statistic)
    assert found.params == {"p": pytest.approx(expected.pvalue), "degrees": 2, "changed": 30}


def test_of_two_labels_it_is_mcnemar_without_correction() -> None:
    found = marginal_homogeneity(A, B)
    expected = (GAINED - LOST) ** 2 / (GAINED + LOST)
    assert (found.value, found.params["p"]) == pytest.approx((expected, chi2.sf(expected, 1)))


def test_labels_that_no_pair_joins_are_tested_apart() -> None:
    """The covariance of all four is singular: pairs go between 0 and 1 and between 2 and 3 only."""
    table = [[10, 7, 0, 0], [2, 9, 0, 0], [0, 0, 5, 1], [0, 0, 6, 4]]
    found = marginal_homogeneity(*square(table))
    assert found.value == pytest.approx(25 / 9 + 25 / 7)
    assert found.params["degrees"] == 2
    same = marginal_homogeneity(A, A)
    assert (same.value, same.params["p"], same.params["degrees"]) == (0, 1, 0)


def test_the_flip_matrix_counts_pairs() -> None:
    found = flip_matrix([*A, "four"], [*B, "unclassified"], ("six", "nine"), ("2 blocks", "4 blocks"))
    assert found.columns[1:] == ("six", "nine", "four", "unclassified")
    assert found.rows == (
        ("six", NEITHER, GAINED, 0, 0),
        ("nine", LOST, BOTH, 0, 0),
        ("four", 0, 0, 0, 1),
        ("unclassified", 0, 0, 0, 0),
    )
    assert "Rows: the label in 2 blocks" in found.note
