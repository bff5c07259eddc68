"""Nearest neighbours against scikit-learn and against float64 brute force, where float32 products alone go wrong."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.neighbors import NearestNeighbors

from leadline.audit.neighbors import nearest_neighbors, within_radii
from leadline.audit.vectors import VectorPair, squared_lengths
from leadline.errors import LeadlineError


@pytest.fixture(autouse=True, params=[False, True], ids=["float32", "bfloat16"])
def coarse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test runs with and without coarse products, whatever units the processor has."""
    monkeypatch.setattr("leadline.audit.vectors.has_fast_bfloat16", lambda device: request.param)
    return bool(request.param)


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
    assert 100 <= largest < 200


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_lower_matmul_precision_of_the_process_changes_nothing(precision: str) -> None:
    generator = np.random.default_rng(8)
    queries, reference = generator.normal(size=(20, 48)), generator.normal(size=(500, 48))
    torch.set_float32_matmul_precision(precision)
    try:
        _, indices = nearest_neighbors(queries, reference, 5)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(indices, brute_force(queries, reference, 5)[1])


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_coarse_products_are_within_their_bound(spread: float) -> None:
    generator = np.random.default_rng(9)
    queries, reference = (spread * generator.normal(size=(n, 64)) + 1 for n in (30, 700))
    pair = VectorPair(queries, reference)
    ((_, tile, lengths),) = pair.reference_tiles()
    narrow = pair.narrow_queries(slice(0, 30))
    factors, rounding = pair.rounded(tile)
    products = (narrow.bfloat16() @ factors.T).double()
    scores = lengths.double().square() - 2 * products
    own = squared_lengths(narrow)[:, None]
    true = torch.cdist(torch.from_numpy(queries), torch.from_numpy(reference)).square() * pair.scale**2
    longest = float(lengths.max())
    for m in (0, 50, 600):
        lowest = scores.sort(1).values[:, m]
        bound = pair.coarse_error_bound(narrow, longest, rounding, lowest)
        above = scores >= lowest[:, None]
        shortfall = torch.where(above, lowest[:, None] + own - true, -math.inf).amax(1)
        assert (shortfall <= bound).all()
        assert (bound < 0.05 * (own[:, 0].sqrt() + longest) ** 2).all()


GOOD = np.arange(12, dtype=np.float64).reshape(4, 3) + 1


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_a_value_that_is_not_finite_is_refused_by_its_place(metric: Any, value: float) -> None:
    bad = GOOD.copy()
    bad[2, 1] = value
    if metric == "cosine" and value == 1e200:
        assert nearest_neighbors(bad[2:], bad, 1, metric)[1].tolist() == [[2], [3]]
        return
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


@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("tile_rows", [None, 33])
def test_within_radii_counts_as_float64_does(tile_rows: int | None, offset: float) -> None:
    generator = np.random.default_rng(9)
    queries, reference = generator.normal(size=(60, 12)) + offset, generator.normal(size=(150, 12)) + offset
    radii = generator.uniform(0, 8, 150)
    radii[:3] = 0, np.inf, 1e-300
    distances = np.sqrt(np.square(queries[:, None] - reference).sum(2))
    found = within_radii(queries, reference, radii, tile_rows=tile_rows)
    np.testing.assert_array_equal(found, (distances < radii).sum(1))
    assert found.dtype == np.int64


def test_a_vector_at_exactly_the_radius_is_not_within_it() -> None:
    reference = np.random.default_rng(10).normal(size=(200, 24)).astype(np.float32)
    distances, _ = nearest_neighbors(reference, reference, 5)
    own = np.empty((200, 200))
    np.put_along_axis(own, *reversed(nearest_neighbors(reference, reference, 200)), axis=1)
    expected = (own < distances[:, 4]).sum(1)
    np.testing.assert_array_equal(within_radii(reference, reference, distances[:, 4]), expected)
    nudged = np.nextafter(distances[:, 4], np.inf)
    assert within_radii(reference, reference, nudged).sum() == expected.sum() + 200


def test_copies_are_within_any_radius_but_zero() -> None:
    reference = np.random.default_rng(11).normal(size=(40, 6)) * 1e3
    assert within_radii(reference, reference, np.full(40, 1e-9)).tolist() == [1] * 40
    assert within_radii(reference, reference, np.zeros(40)).tolist() == [0] * 40


@pytest.mark.parametrize("radii", [np.ones(3), np.array([1, 1, -1, 1.0]), np.array([1, np.nan, 1, 1])])
def test_radii_must_be_one_number_of_0_or_more_for_each(radii: np.ndarray) -> None:
    with pytest.raises(LeadlineError, match=r"one radius of 0 or more per reference vector \(4\)"):
        within_radii(GOOD, GOOD, radii)


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_a_late_value_far_larger_than_the_first_tile_is_searched_again_scaled(scale: float) -> None:
    reference = np.random.default_rng(12).normal(size=(3000, 3))
    reference[2500:] *= 1e25 * scale
    queries = reference[[7, 2600, 2900]] * 1.001
    distances, indices = nearest_neighbors(queries, reference, 3, tile_rows=256)
    expected_distances, expected = brute_force(queries, reference, 3)
    np.testing.assert_array_equal(indices[1:], expected[1:])
    np.testing.assert_array_equal(indices[0, 0], expected[0, 0])
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-12)


@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_a_value_that_is_no_number_is_found_wherever_it_stands(place: int) -> None:
    reference = np.random.default_rng(13).normal(size=(3000, 3)).astype(np.float32)
    reference[place, 1] = np.nan
    with pytest.raises(LeadlineError, match=rf"reference: vector {place} holds a value that is NaN"):
        nearest_neighbors(reference[1:2], reference, 1, tile_rows=256)
    with pytest.raises(LeadlineError, match=rf"reference: vector {place} holds a value that is NaN"):
        within_radii(reference[1:2], reference, np.ones(3000), tile_rows=256)


BOUNDED = """
import sys, threading
from pathlib import Path
import numpy as np
from leadline.audit.neighbors import nearest_neighbors

def anonymous_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

reference = np.memmap(sys.argv[1], dtype=np.uint8, mode="w+", shape=(200_000, 768))
planted = np.random.default_rng(0).integers(1, 256, (3, 768)).astype(np.uint8)
places = [5, 100_000, 199_999]
reference[places] = planted
before, peak, done = anonymous_bytes(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
distances, indices = nearest_neighbors(planted, reference, 1)
done.set()
watcher.join()
assert indices[:, 0].tolist() == places and not distances.any(), indices
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which only Linux has")
@pytest.mark.parametrize("coarse", [False], indirect=True)
def test_memory_beyond_a_memory_map_is_a_few_tiles(tmp_path: Path) -> None:
    """A sixteenth of the length of benchmarks/neighbors.py --memory-map, in vectors as many."""
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path / "reference")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert 0 < int(run.stdout) < 400 * 2**20
