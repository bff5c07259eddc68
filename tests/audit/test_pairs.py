"""The closed form against the loop over pairs, its errors against repeated draws, and what is kept for them."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from leadline.audit import pairs
from leadline.audit.pairs import PairDistances, PairSums
from leadline.errors import LeadlineError

SHAPES = ((3, 4, 4), (5, 2, 2))


def maps(n: int, seed: int, shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> list[torch.Tensor]:
    """Taps after a ReLU, some pixels without any activity."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator).relu() for shape in shapes]


def weights(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape[0], generator=generator) for shape in SHAPES]


def lpips_of(x: list[torch.Tensor], y: list[torch.Tensor], heads: list[torch.Tensor] | None) -> float:
    """LPIPS of two images as the paper writes it, in float64, from their taps [c, h, w]."""
    total = 0.0
    for k, (a, b) in enumerate(zip(x, y, strict=True)):
        a, b = (m.double() / (m.double().square().sum(0).sqrt() + 1e-10) for m in (a, b))
        squares = (a - b).square().mean((1, 2))
        total += float((squares * (heads[k].double() if heads else 1)).sum())
    return total


def matrix(taps: list[torch.Tensor], heads: list[torch.Tensor] | None) -> np.ndarray:
    n = len(taps[0])
    found = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        found[i, j] = found[j, i] = lpips_of([m[i] for m in taps], [m[j] for m in taps], heads)
    return found


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 10),
    seed=st.integers(0, 99),
    calibrated=st.booleans(),
    batch=st.integers(1, 6),
    step=st.sampled_from([1, 700, 2**24]),
    chunk=st.sampled_from([1, 300, 2**26]),
    values=st.sampled_from([30, 2**16]),
)
def test_every_mean_and_error_is_that_of_the_loop_over_pairs(
    n: int, seed: int, calibrated: bool, batch: int, step: int, chunk: int, values: int
) -> None:
    taps, heads = maps(n, seed), weights(seed) if calibrated else None
    groups = np.random.default_rng(seed).integers(-1, 3, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairs.STEP_BYTES, "cpu", step)
        patch.setattr(pairs, "CHUNK_BYTES", chunk)
        patch.setattr(pairs, "CHUNK_VALUES", values)
        sums = PairSums(heads, 3)
        for start in range(0, n, batch):
            sums.add([m[start : start + batch] for m in taps], groups[start : start + batch])
        found = sums.result()
    distances = matrix(taps, heads)
    # Half precision of what is kept moves the distances by parts in a thousand, which a small spread of them shows.
    half = {"rel": 5e-3, "abs": 2e-3 * max(found.total, 1e-3)}
    assert (found.n, found.kept, found.dimension, found.calibrated) == (n, n, 68, calibrated)
    assert found.total == pytest.approx(distances.sum() / (n * (n - 1)), rel=1e-6)
    assert found.kept_images.tolist() == list(range(n))
    assert found.to_others == pytest.approx(distances.sum(1) / (n - 1), **half)
    if n > 2:
        assert found.total_error == pytest.approx(2 * np.std(distances.sum(1) / (n - 1), ddof=1) / np.sqrt(n), **half)
    for a in range(3):
        own = distances[np.ix_(groups == a, groups == a)]
        count = len(own)
        assert (found.counts[a], found.kept_counts[a]) == (count, count)
        assert np.isnan(found.within[a]) == (count < 2)
        assert np.isnan(found.within_error[a]) == (count < 3)
        if count >= 2:
            assert found.within[a] == pytest.approx(own.sum() / (count * (count - 1)), rel=1e-6)
        if count >= 3:
            expected = 2 * np.std(own.sum(1) / (count - 1), ddof=1) / np.sqrt(count)
            assert found.within_error[a] == pytest.approx(expected, **half)
        for b in range(3):
            apart = distances[np.ix_(groups == a, groups == b)]
            assert np.isnan(found.between[a, b]) == (a == b or apart.size == 0)
            if a != b and apart.size:
                assert found.between[a, b] == pytest.approx(apart.mean(), rel=1e-6)
            assert np.isnan(found.between_error[a, b]) == (a == b or min(apart.shape) < 2)
            if a != b and min(apart.shape) >= 2:
                parts = apart.mean(1).var(ddof=1) / len(apart), apart.mean(0).var(ddof=1) / apart.shape[1]
                assert found.between_error[a, b] == pytest.approx(np.sqrt(sum(parts)), **half)


def test_what_all_images_share_costs_no_digits() -> None:
    base = torch.rand(1, 40, 6, 6, generator=torch.Generator().manual_seed(0)) + 1
    # Copies up to the last eight of float32's 24 binary digits.
    steps = torch.randint(-128, 128, (12, 40, 6, 6), generator=torch.Generator().manual_seed(1))
    taps = [base + steps * 2.0**-23]
    sums = PairSums(None, 0)
    sums.add(taps)
    assert sums.result().total == pytest.approx(matrix(taps, None).sum() / (12 * 11), rel=0.01)


def test_equal_images_have_no_distance_not_a_negative_one() -> None:
    sums = PairSums(weights(0), 2)
    sums.add([m.expand(20, -1, -1, -1) for m in maps(1, 3)], np.repeat([0, 1], 10))
    found = sums.result()
    values = [found.total, found.total_error, found.between[0, 1], *found.within]
    assert values == pytest.approx([0] * 5, abs=1e-20)
    assert min(values) >= 0


GAUSSIAN = [(6, 1, 1)]


def draw(n: int, generator: np.random.Generator, offset: float = 0.0) -> tuple[torch.Tensor, np.ndarray]:
    """Random taps of one pixel: LPIPS is then the squared distance of unit vectors, whose means are known."""
    vectors = generator.normal(size=(n, 6)) * np.arange(1, 7) + offset
    return torch.from_numpy(vectors.astype(np.float32))[:, :, None, None], vectors / np.linalg.norm(
        vectors, axis=1, keepdims=True
    )


@pytest.mark.parametrize("budget", [2**20, 40 * 2 * 6], ids=["all kept", "40 of 120 kept"])
def test_intervals_cover_the_truth_and_those_of_counted_pairs_do_not(budget: int) -> None:
    n, draws = 120, 300
    _, first = draw(200_000, np.random.default_rng(1))
    _, second = draw(200_000, np.random.default_rng(2), offset=5.0)
    truth = {
        "within": 2 * (1 - np.square(second.mean(0)).sum()),
        "between": 2 - 2 * first.mean(0) @ second.mean(0),
    }
    covered: dict[str, list[bool]] = {name: [] for name in (*truth, "pairs counted")}
    generator = np.random.default_rng(0)
    for seed in range(draws):
        taps = torch.cat([draw(n // 2, generator)[0], draw(n // 2, generator, offset=5.0)[0]])
        order = generator.permutation(n)
        sums = PairSums(None, 2, budget_bytes=budget, seed=seed)
        sums.add([taps[order]], np.repeat([0, 1], n // 2)[order])
        found = sums.result()
        assert found.kept == min(n, budget // 12)
        values = {
            "within": (found.within[1], found.within_error[1], found.kept_counts[1] - 1),
            "between": (found.between[0, 1], found.between_error[0, 1], found.kept_counts.min() - 1),
        }
        for name, (value, error, degrees) in values.items():
            covered[name].append(abs(value - truth[name]) < student_t.ppf(0.975, degrees) * error)
        unit = torch.nn.functional.normalize(taps[n // 2 :].flatten(1).double())
        counted = torch.pdist(unit).square().std() / np.sqrt(60 * 59 / 2)
        covered["pairs counted"].append(bool(abs(found.within[1] - truth["within"]) < 1.96 * counted))
    assert np.mean(covered["within"]) == pytest.approx(0.95, abs=0.035)
    assert np.mean(covered["between"]) == pytest.approx(0.95, abs=0.035)
    assert np.mean(covered["pairs counted"]) < 0.75


def test_a_smaller_budget_changes_the_error_a_little_and_the_mean_not_at_all() -> None:
    taps, groups = maps(600, 5), np.random.default_rng(0).integers(-1, 2, 600)
    results = []
    for budget in (2**30, 150 * 2 * 68):
        sums = PairSums(weights(5), 2, budget_bytes=budget)
        sums.add(taps, groups)
        results.append(sums.result())
    whole, part = results
    assert (whole.kept, part.kept) == (600, 150)
    assert part.total == whole.total
    np.testing.assert_array_equal(part.between, whole.between)
    assert part.total_error == pytest.approx(whole.total_error, rel=0.2)
    assert 0 < part.kept_counts.sum() < 150


def test_those_that_are_kept_are_a_uniform_choice_whatever_the_batches() -> None:
    def kept(seed: int, batch: int) -> list[int]:
        keeper = pairs._Kept(4, torch.ones(1), seed)
        for rows in torch.arange(12.0)[:, None].split(batch):
            keeper.offer(rows)
        assert [float(row) for chunk in keeper.chunks for row in chunk] == keeper.images
        return keeper.images

    assert kept(7, 12) == kept(7, 5) == kept(7, 1)
    shares = np.bincount([image for seed in range(1000) for image in kept(seed, 12)], minlength=12) / 1000
    assert shares == pytest.approx(np.full(12, 1 / 3), abs=0.05)


def test_memory_is_that_of_the_budget_and_not_of_the_images() -> None:
    sums = PairSums(None, 0, budget_bytes=20 * 2 * 68)
    for seed in range(30):
        sums.add(maps(10, seed))
    assert sums._started is not None
    assert sum(chunk.nbytes for chunk in sums._started[1].chunks) == 20 * 2 * 68


def test_a_result_is_whole_again_after_it_was_kept_as_arrays(tmp_path: pytest.TempPathFactory) -> None:
    for num_groups in (0, 3):
        sums = PairSums(weights(1), num_groups)
        sums.add(maps(6, 1))
        found = sums.result()
        arrays = found.to_arrays()
        assert tuple(arrays) == PairDistances.ARRAYS
        assert {array.dtype.kind for array in arrays.values()} <= set("ifb")
        for name, array in arrays.items():
            np.save(f"{tmp_path}/{name}.npy", array, allow_pickle=False)
        again = PairDistances.from_arrays({name: np.load(f"{tmp_path}/{name}.npy", mmap_mode="r") for name in arrays})
        assert {name: type(getattr(again, name)) for name in arrays} == {
            name: type(getattr(found, name)) for name in arrays
        }
        for name, array in again.to_arrays().items():
            np.testing.assert_array_equal(array, arrays[name])


def test_one_image_has_no_distance_and_no_image_is_refused() -> None:
    sums = PairSums(None, 1)
    with pytest.raises(LeadlineError, match="need images, none were given"):
        sums.result()
    sums.add(maps(0, 0), np.zeros(0, dtype=np.int64))
    sums.add(maps(1, 0), np.array([0]))
    found = sums.result()
    assert np.isnan([found.total, found.total_error, found.within[0]]).all()
    assert (found.n, found.counts[0]) == (1, 1)


def infinite(sums: PairSums) -> None:
    sums.add(maps(2, 0))
    bad = maps(3, 1)
    bad[1][1, 0, 0, 0] = torch.inf
    sums.add(bad)


def other_size(sums: PairSums) -> None:
    sums.add(maps(2, 0))
    sums.add(maps(2, 0, ((3, 4, 4), (5, 3, 3))))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda sums: sums.add(maps(2, 0), np.array([0, 2])), r"2 groups from -1 \(none\) to 1: 2 given, .*\[0, 2\]"),
        (lambda sums: sums.add(maps(2, 0), np.array([0])), "2 images need 2 groups"),
        (lambda sums: sums.add(maps(2, 0, ((4, 2, 2),))), r"taps have \[4\] channels, but .* for \[3, 5\]"),
        (infinite, "features of image 3 are not finite"),
        (other_size, "all images must have one size"),
    ],
)
def test_what_cannot_be_summed_is_refused(use: Callable[[PairSums], None], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        use(PairSums(weights(0), 2))


def test_negative_weights_have_no_closed_form() -> None:
    with pytest.raises(LeadlineError, match=r"tap 1 go down to -0\.25.*closed form"):
        PairSums([torch.ones(3), torch.tensor([1.0, -0.25])], 0)
