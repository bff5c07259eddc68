"""Neighbours that are other pictures, flips and merged lists, against brute force."""

import numpy as np
import pytest

from leadline.audit.proximity import Nearest, Pictures, merged, told


def test_the_same_picture_is_within_the_distance_of_all_its_values_also_mirrored_where_asked() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(10, 240, (6, 3, 5, 7)).astype(np.uint8)
    pixels[1] = pixels[0] + 2  # at exactly 2
    pixels[2] = pixels[0]
    pixels[2, 0, 0, 0] += 15  # 15 / √105 = 1.46
    pixels[3] = pixels[0] + 3
    pixels[4] = pixels[0][..., ::-1]
    first, second = np.zeros(6, dtype=np.int64), np.arange(6)
    assert Pictures(pixels, 2.0, False).same(first, second).tolist() == [True, True, True, False, False, False]
    assert Pictures(pixels, 1.5, False).same(first, second).tolist() == [True, False, True, False, False, False]
    assert Pictures(pixels, 0.0, False).same(first, second).tolist() == [True, False, False, False, False, False]
    assert Pictures(pixels, 2.0, True).same(first, second).tolist() == [True, True, True, False, True, False]
    assert Pictures(pixels, 2.0, True).same(second, first).tolist() == [True, True, True, False, True, False]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 9, 11)])
def test_the_summary_never_hides_a_pair(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(1)
    base = generator.integers(20, 230, shape)
    pixels = np.array([base + generator.integers(-s, s + 1, shape) for s in range(20)]).astype(np.uint8)
    first, second = (grid.flatten() for grid in np.meshgrid(np.arange(20), np.arange(20)))
    difference = pixels[first].astype(float) - pixels[second]
    expected = np.sqrt(np.square(difference).mean((1, 2, 3))) <= 6
    assert 20 < expected.sum() < 400
    np.testing.assert_array_equal(Pictures(pixels, 6.0, False).same(first, second), expected)


def test_distances_of_features_are_told_as_cosines() -> None:
    first, second = np.array([3.0, 4.0]) / 5, np.array([1.0, 0.0])
    distance = np.linalg.norm(first - second, keepdims=True)
    assert told(distance, False).tolist() == pytest.approx([0.6])
    assert told(distance, True) is distance


def test_merged_lists_hold_a_training_image_once_at_its_nearer_distance() -> None:
    def nearest(distances: list[float], indices: list[int]) -> Nearest:
        return Nearest(np.array([distances]), np.array([indices]), np.zeros((1, len(indices)), bool))

    found = merged(nearest([1.0, 2.0, 5.0], [7, 3, 9]), nearest([1.0, 1.5, 4.0], [7, 9, 2]))
    assert found.indices.tolist() == [[7, 9, 3]]
    assert found.distances.tolist() == [[1.0, 1.5, 2.0]]
    assert found.mirrored.tolist() == [[False, True, False]]


def test_merged_lists_are_those_of_the_smaller_distances() -> None:
    generator = np.random.default_rng(2)
    plain, flipped = generator.random((2, 20, 30))

    def lists(distances: np.ndarray) -> Nearest:
        order = distances.argsort(1)[:, :8]
        return Nearest(np.take_along_axis(distances, order, 1), order, np.zeros(order.shape, bool))

    smaller = np.minimum(plain, flipped)
    found, expected = merged(lists(plain), lists(flipped)), lists(smaller)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.mirrored, np.take_along_axis(flipped < plain, found.indices, 1))
