"""Exact shares and disjoint splits, on labels alone."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.data.splits import largest_remainder, largest_total, plan_splits, water_fill
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec

CLASSES = ("a", "b", "c")


def labels_of(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def count(indices: np.ndarray, labels: np.ndarray) -> list[int]:
    return np.bincount(labels[indices], minlength=labels.max() + 1).tolist()


@pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
        ([9, 1], 140, [126, 14]),
        ([Fraction("0.29"), Fraction("0.71")], 100, [29, 71]),
        # Wikipedia, "Largest remainder method", its example of 100,000 votes for 10 seats by the Hare quota.
        ([47000, 16000, 15900, 12000, 6000, 3100], 10, [5, 2, 1, 1, 1, 0]),
        ([1, 1], 3, [2, 1]),
        ([1, 0, 1], 5, [3, 0, 2]),
        ([1, 2], 0, [0, 0]),
    ],
)
def test_largest_remainder_of_known_cases(weights: list[Fraction], total: int, expected: list[int]) -> None:
    assert largest_remainder(weights, total).tolist() == expected


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any), st.integers(0, 10_000))
def test_largest_remainder_sums_to_the_total_and_stays_within_one_of_the_quota(weights: list[int], total: int) -> None:
    counts = largest_remainder(weights, total)
    assert counts.sum() == total
    for weight, number in zip(weights, counts.tolist(), strict=True):
        assert abs(Fraction(weight) * total / sum(weights) - number) < 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 500))
def test_water_fill_is_as_even_as_can_be(available: list[int], total: int) -> None:
    room = np.array(available)
    counts = water_fill(room, total)
    assert counts.sum() == min(total, room.sum())
    assert (counts <= room).all()
    # A class that could still give has at most one image less than the largest.
    for number, limit in zip(counts, room, strict=True):
        assert number == limit or number >= counts.max() - 1


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.lists(st.integers(0, 40), min_size=5, max_size=5),
)
def test_largest_total_equals_the_search_over_all_totals(weights: list[int], room: list[int]) -> None:
    limits = np.array(room[: len(weights)])
    fitting = [t for t in range(limits.sum() + 1) if (largest_remainder(weights, t) <= limits).all()]
    assert largest_total(weights, limits) == max(fitting)


@given(
    percent=st.integers(1, 99),
    num_images=st.integers(100, 300),
    held_out=st.integers(0, 60),
    labeler=st.one_of(st.none(), st.just(0), st.integers(3, 60)),
    seed=st.integers(0, 5),
)
def test_splits_are_disjoint_and_their_shares_exact(
    percent: int, num_images: int, held_out: int, labeler: int | None, seed: int
) -> None:
    labels = labels_of(400, 400, 50)
    shares = {"a": percent / 100, "b": 1 - percent / 100}
    spec = DataSpec(shares=shares, num_images=num_images, held_out=held_out, labeler=labeler, seed=seed)
    plan = plan_splits(labels, CLASSES, spec)
    every = np.concatenate([plan.train, plan.held_out, plan.labeler])
    assert len(set(every.tolist())) == len(every)
    assert len(plan.train) == num_images
    assert len(plan.held_out) == held_out
    for part, number in ((plan.train, num_images), (plan.held_out, held_out)):
        counts = count(part, labels)
        assert counts[2] == 0
        assert abs(counts[0] - number * percent / 100) < 1
    assert len(plan.labeler) == (850 - num_images - held_out if labeler is None else labeler)


def test_the_preset_split() -> None:
    labels = labels_of(181, 180, 100)
    spec = DataSpec(shares="a:0.9,b:0.1", num_images=140, held_out=30, labeler=None)
    plan = plan_splits(labels, CLASSES, spec)
    assert count(plan.train, labels) == [126, 14, 0]
    assert count(plan.held_out, labels) == [27, 3, 0]
    assert count(plan.labeler, labels) == [28, 163, 100]


def test_training_images_depend_on_seed_and_not_on_the_other_splits() -> None:
    labels = labels_of(50, 50, 50)
    plain = plan_splits(labels, CLASSES, DataSpec(num_images=30)).train
    assert (plan_splits(labels, CLASSES, DataSpec(num_images=30, held_out=20, labeler=None)).train == plain).all()
    assert (plan_splits(labels, CLASSES, DataSpec(num_images=30, seed=1)).train != plain).any()


def test_without_a_number_training_takes_what_the_others_leave() -> None:
    labels = labels_of(50, 30, 20)
    everything = plan_splits(labels, CLASSES, DataSpec())
    assert sorted(everything.train.tolist()) == list(range(100))
    plan = plan_splits(labels, CLASSES, DataSpec(classes="a,b", held_out=10, labeler=15))
    # The labeler's even part of 5 leaves 45, 25; held-out images in those shares are 6, 4.
    assert count(plan.labeler, labels) == [5, 5, 5]
    assert count(plan.held_out, labels) == [6, 4, 0]
    assert count(plan.train, labels) == [39, 21, 0]


def test_shares_without_a_number_give_the_largest_total() -> None:
    labels = labels_of(100, 30, 50)
    plan = plan_splits(labels, CLASSES, DataSpec(shares="a:0.5,b:0.5", held_out=10, labeler=30))
    # b is the bound: 30 less 5 held out less the labeler's even 10 is 15; half of 31 rounds to 16 and 15.
    assert count(plan.train, labels) == [16, 15, 0]
    assert count(plan.labeler, labels) == [10, 10, 10]


def test_the_next_image_of_the_class_replaces_an_excluded_one() -> None:
    labels = labels_of(40, 40, 40)
    spec = DataSpec(shares="a:0.5,b:0.5", num_images=20, held_out=10)
    before = plan_splits(labels, CLASSES, spec)
    bad = int(before.train[0])
    after = plan_splits(labels, CLASSES, spec, exclude=(bad,))
    assert bad not in after.train
    assert count(after.train, labels) == count(before.train, labels) == [10, 10, 0]
    assert set(before.train.tolist()) - {bad} < set(after.train.tolist())


def test_planted_duplicates_are_distinct_training_images() -> None:
    plan = plan_splits(labels_of(20, 20, 20), CLASSES, DataSpec(num_images=30, duplicates=5, duplicate_copies=3))
    values, repeats = np.unique(plan.copies, return_counts=True)
    assert repeats.tolist() == [3] * 5
    assert set(values.tolist()) <= set(plan.train.tolist())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shares": "a:0.9,b:0.1", "num_images": 200}, r"180 images of class 'a' are wanted .* there are 100: lower"),
        (
            {"classes": "b", "num_images": 25, "held_out": 10},
            r"35 images of class 'b' are wanted \(25 to train on, 10 held out\), there are 30",
        ),
        ({"classes": "a,x"}, "no class 'x': known: a, b, c"),
        ({"classes": "a,a"}, "twice: a, a"),
        ({"num_images": 100, "labeler": 90}, "the labeler is to have 90 images, .* leave 80 of 180"),
        ({"classes": "b", "num_images": 30, "labeler": None}, "no image of class 'b' is left for the labeler"),
        ({"num_images": 10, "labeler": 2}, "no image of class 'c' is left for the labeler: .*labeler=2 is too small"),
        ({"labeler": None}, "set one of them"),
        ({"num_images": 10, "duplicates": 11}, "11 training images are to be planted again, there are 10"),
        ({"shares": "a:0.999,b:0.001", "num_images": 50}, "class 'b' with share 0.001 gets none of 50"),
        ({"held_out": 100, "labeler": 80}, "leave none to train on"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_both_numbers(fields: dict[str, object], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        plan_splits(labels_of(100, 30, 50), CLASSES, DataSpec(**fields))


def test_a_shortage_says_how_many_could_not_be_decoded() -> None:
    with pytest.raises(LeadlineError, match=r"there are 28 \(2 more cannot be decoded\)"):
        plan_splits(labels_of(100, 30, 50), CLASSES, DataSpec(classes="b", num_images=30), exclude=(100, 101))
