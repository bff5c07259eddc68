"""Nearest neighbours against scikit-learn and against float64 brute force, where float32 products alone go wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.neighbors import NearestNeighbors

from leadline.audit.memorization import nearest_neighbors
from leadline.errors import LeadlineError


def brute_force(queries: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All differences in float64; equal distances by index."""
    wide = reference.astype(np.float64)
    squared = np.stack([np.square(wide - query).sum(1) for query in queries.astype(np.float64)])
    order = squared.argsort(1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squared, order, 1)), order


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_agrees_with_scikit_learn(metric: Any, dtype: type) -> None:
    generator = np.random.default_rng(0)
    queries, reference = generator.normal(size=(50, 24)).astype(dtype), generator.normal(size=(700, 24)).astype(dtype)
    theirs = NearestNeighbors(algorithm="brute", metric="euclidean" if metric == "l2" else "cosine")
    distances, indices = theirs.fit(reference.astype(np.float64)).kneighbors(queries.astype(np.float64), 9)
    values, found = nearest_neighbors(queries, reference, 9, metric, tile_rows=64)
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_allclose(values, distances if metric == "l2" else 1 - distances, atol=1e-12)
    assert values.dtype == np.float64
    assert found.dtype == np.int64


numbers = st.floats(-5, 5, width=32) | st.sampled_from([0.0, 1.0, 1e-20, 1e6, 1e6 + 1])


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    dimension=st.integers(1, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    tile_rows=st.integers(1, 40),
)
def test_is_exact_with_ties_by_index_on_anything(
    data: st.DataObject, dimension: int, dtype: type, tile_rows: int
) -> None:
    queries = data.draw(arrays.arrays(dtype, (3, dimension), elements=numbers))
    reference = data.draw(arrays.arrays(dtype, st.tuples(st.integers(1, 60), st.just(dimension)), elements=numbers))
    k = data.draw(st.integers(1, len(reference)))
    distances, indices = nearest_neighbors(queries, reference, k, tile_rows=tile_rows)
    expected_distances, expected = brute_force(queries, reference, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_a_copy_is_at_distance_zero_and_a_near_copy_at_its_own(offset: float) -> None:
    generator = np.random.default_rng(1)
    reference = generator.normal(size=(300, 32)) + offset
    queries = reference[[5, 77]].copy()
    queries[1, 3] += 1e-6
    distances, indices = nearest_neighbors(queries, reference, 1)
    assert distances[0, 0] == 0.0
    assert distances[1, 0] == pytest.approx(abs(queries[1, 3] - reference[77, 3]), rel=1e-9)
    assert indices[:, 0].tolist() == [5, 77]


def test_more_copies_than_spare_candidates_come_in_order_of_their_index() -> None:
    reference = np.random.default_rng(2).integers(0, 255, (400, 16)).astype(np.uint8)
    reference[100:300] = reference[50]
    distances, indices = nearest_neighbors(reference[50:51], reference, 30, tile_rows=37)
    assert indices[0].tolist() == [50, *range(100, 129)]
    assert (distances == 0).all()


def test_a_cluster_too_tight_for_float32_is_still_in_order() -> None:
    generator = np.random.default_rng(3)
    reference = generator.normal(size=(500, 64))
    reference[:200] = reference[0] + generator.normal(size=(200, 64)) * 1e-7
    distances, indices = nearest_neighbors(reference[:3], reference, 12, tile_rows=64)
    expected_distances, expected = brute_force(reference[:3], reference, 12)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_sizes_far_from_one_neither_overflow_nor_vanish(scale: float) -> None:
    reference = np.random.default_rng(4).normal(size=(90, 8))
    plain = nearest_neighbors(reference[:7] + 0.1, reference, 4)
    scaled = nearest_neighbors((reference[:7] + 0.1) * scale, reference * scale, 4)
    np.testing.assert_array_equal(scaled[1], plain[1])
    np.testing.assert_allclose(scaled[0], plain[0] * scale, rtol=1e-9)


def test_cosine_of_parallel_opposite_and_orthogonal_vectors() -> None:
    reference = np.array([[0.0, 3.0], [-1.0, 0.0], [7.0, 0.0], [1.0, 0.0]])
    similarities, indices = nearest_neighbors(np.array([[2.0, 0.0]]), reference, 4, "cosine")
    assert indices.tolist() == [[2, 3, 0, 1]]
    assert similarities[0] == pytest.approx([1, 1, 0, -1], abs=1e-15)
    assert similarities[0, 0] == 1.0


@pytest.mark.parametrize("tile_rows", [1, 7, 1000])
def test_tiles_do_not_matter(tile_rows: int) -> None:
    pixels = np.random.default_rng(5).integers(0, 255, (80, 3, 4, 4)).astype(np.uint8)
    distances, indices = nearest_neighbors(pixels[:11], pixels, 6, tile_rows=tile_rows)
    whole_distances, whole = nearest_neighbors(pixels[:11].reshape(11, -1), pixels.reshape(80, -1), 6)
    np.testing.assert_array_equal(indices, whole)
    np.testing.assert_array_equal(distances, whole_distances)


def test_arrays_tensors_and_memory_maps_give_the_same(tmp_path: Path) -> None:
    reference = np.random.default_rng(6).normal(size=(120, 10)).astype(np.float32)
    np.save(tmp_path / "reference.npy", reference)
    mapped = np.load(tmp_path / "reference.npy", mmap_mode="r")
    expected = nearest_neighbors(reference[:9], reference, 3)
    for queries, other in ((reference[:9], mapped), (mapped[:9], torch.from_numpy(reference))):
        distances, indices = nearest_neighbors(queries, other, 3)
        np.testing.assert_array_equal(indices, expected[1])
        np.testing.assert_array_equal(distances, expected[0])


def test_a_memory_map_is_never_read_whole(tmp_path: Path) -> None:
    largest = 0

    class Watched(np.memmap):
        def __getitem__(self, key: Any) -> Any:
            nonlocal largest
            part = super().__getitem__(key)
            largest = max(largest, len(part))
            return np.asarray(part)

        def __array__(self, *_: Any, **__: Any) -> np.ndarray:
            raise AssertionError("the whole memory map was read")

    reference = Watched(tmp_path / "reference", dtype=np.float32, mode="w+", shape=(5000, 4))
    np.ndarray.__setitem__(reference, slice(None), np.random.default_rng(7).normal(size=(5000, 4)))
    largest = 0
    nearest_neighbors(np.ones((2, 4), np.float32), reference, 3, tile_rows=100)
    assert largest == 100


def test_torchs_lower_matmul_precision_costs_no_exactness() -> None:
    generator = np.random.default_rng(8)
    queries, reference = generator.normal(size=(20, 48)), generator.normal(size=(500, 48))
    torch.set_float32_matmul_precision("medium")
    try:
        _, indices = nearest_neighbors(queries, reference, 5)
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(indices, brute_force(queries, reference, 5)[1])


GOOD = np.arange(12, dtype=np.float64).reshape(4, 3) + 1


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_a_value_that_is_not_finite_is_refused_by_its_place(metric: Any, value: float) -> None:
    bad = GOOD.copy()
    bad[2, 1] = value
    with pytest.raises(LeadlineError, match=r"reference: vector 2 holds a value that is NaN"):
        nearest_neighbors(GOOD, bad, 1, metric, tile_rows=2)
    with pytest.raises(LeadlineError, match=r"queries: vector 2 holds"):
        nearest_neighbors(bad, GOOD, 1, metric)


def test_a_zero_vector_has_distances_but_no_cosine() -> None:
    zero = np.zeros((1, 3))
    assert nearest_neighbors(zero, GOOD, 1)[0][0, 0] == pytest.approx(np.sqrt(14))
    with pytest.raises(LeadlineError, match="vector 0 has length 0"):
        nearest_neighbors(zero, GOOD, 1, "cosine")


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_one_to_n_is_refused_with_both_numbers(k: int) -> None:
    with pytest.raises(LeadlineError, match=rf"k = {k} nearest of 4"):
        nearest_neighbors(GOOD, GOOD, k)


@pytest.mark.parametrize(
    ("queries", "reference", "words"),
    [
        (GOOD[:, :2], GOOD, "queries have 2 values each and reference vectors 3"),
        (GOOD[:0], GOOD, r"queries must be real numbers of shape \[n, ...\]"),
        (GOOD[0], GOOD, "queries must be real numbers"),
        (GOOD, GOOD.astype(np.complex128), "reference must be real numbers"),
        (GOOD, GOOD.astype(str), "reference must be real numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(queries: np.ndarray, reference: np.ndarray, words: str) -> None:
    with pytest.raises(LeadlineError, match=words):
        nearest_neighbors(queries, reference, 1)


def test_tile_rows_must_be_positive() -> None:
    with pytest.raises(LeadlineError, match="tile_rows must be 1 or more"):
        nearest_neighbors(GOOD, GOOD, 1, tile_rows=0)
