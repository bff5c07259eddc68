"""Classes out of columns."""

import pyarrow as pa
import pytest

from leadline.data.groups import Factor, column_factor, group_labels
from leadline.errors import LeadlineError

COLUMNS = {
    "Blond_Hair": pa.chunked_array([[False, True], [True, False]]),
    "Male": pa.chunked_array([[False, False, True, True]]),
    "digit": pa.chunked_array([[10, 9, 10, 2]]),
    "celeba": pa.chunked_array([[-1, 1, 1, -1]], type=pa.int8()),
    "colour": pa.chunked_array([["red", "blue", "red", "blue"]]),
    "A*B": pa.chunked_array([["x", "y", "x", "y"]]),
    "holes": pa.chunked_array([["a", None, "b", None]]),
    "score": pa.chunked_array([[0.1, 0.2, 0.3, 0.4]]),
    "packed": pa.chunked_array([pa.array(["u", "v", "u", "u"]).dictionary_encode()]),
}


def factor_of(name: str) -> Factor:
    return column_factor(name, COLUMNS[name])


@pytest.mark.parametrize(
    ("groups", "classes", "labels"),
    [
        ("Male", ("not Male", "Male"), [0, 0, 1, 1]),
        ("celeba", ("not celeba", "celeba"), [0, 1, 1, 0]),
        ("digit", ("2", "9", "10"), [2, 1, 2, 0]),
        ("colour", ("blue", "red"), [1, 0, 1, 0]),
        ("packed", ("u", "v"), [0, 1, 0, 0]),
        ("A*B", ("x", "y"), [0, 1, 0, 1]),
        (
            "Blond_Hair*Male",
            ("not Blond_Hair, not Male", "not Blond_Hair, Male", "Blond_Hair, not Male", "Blond_Hair, Male"),
            [0, 2, 3, 1],
        ),
        (
            "Male * colour",
            ("not Male, colour=blue", "not Male, colour=red", "Male, colour=blue", "Male, colour=red"),
            [1, 0, 3, 2],
        ),
    ],
)
def test_columns_and_products(groups: str, classes: tuple[str, ...], labels: list[int]) -> None:
    found, names = group_labels(groups, COLUMNS, factor_of)
    assert names == classes
    assert found.tolist() == labels


def test_three_factors_count_in_binary() -> None:
    labels, classes = group_labels("Blond_Hair*Male*celeba", COLUMNS, factor_of)
    assert len(classes) == 8
    assert classes[5] == "Blond_Hair, not Male, celeba"
    assert labels.tolist() == [0b000, 0b101, 0b111, 0b010]


def test_named_labels_keep_all_their_classes() -> None:
    factor = column_factor("label", pa.chunked_array([[2, 0]]), ("cat", "dog", "owl"))
    assert factor.classes == ("cat", "dog", "owl")
    assert factor.codes.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("Mole", "no column 'Mole': did you mean 'Male'"),
        ("Male*Blond", "no column 'Blond': did you mean 'Blond_Hair'"),
        ("Male*Male", "name a column twice"),
        ("holes", "column 'holes' has no value in 2 of 4 rows"),
        ("score", "column 'score' holds double: classes come from booleans, integers or text"),
    ],
)
def test_what_is_no_group_is_refused(groups: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        group_labels(groups, COLUMNS, factor_of)


def test_rows_without_a_named_class_are_refused() -> None:
    with pytest.raises(LeadlineError, match="has 2 named classes, and 1 of 3 rows have none"):
        column_factor("label", pa.chunked_array([[0, -1, 1]]), ("cat", "dog"))
