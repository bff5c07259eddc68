"""Statistics without each block against the same statistics of the images that are left."""

from collections.abc import Callable

import numpy as np
import pytest

from leadline.audit.frechet import fit_gaussian, frechet_distance
from leadline.audit.left_out import frechet_without, number_of_blocks, recall_and_coverage_without, vendi_without
from leadline.audit.manifold import neighborhoods
from leadline.audit.vendi import vendi_score
from leadline.errors import NotMeasurable

BLOCKS = np.random.default_rng(0).permutation(np.arange(25) % 7)


def by_hand(features: np.ndarray, statistic: Callable[[np.ndarray], float]) -> np.ndarray:
    return np.array([statistic(features[block != BLOCKS]) for block in range(7)])


@pytest.mark.parametrize("d", [4, 24, 60])
def test_frechet_distance(d: int) -> None:
    generator = np.random.default_rng(d)
    features = (generator.normal(size=(25, d)) + 3).astype(np.float32)
    reference = fit_gaussian(generator.normal(size=(40, d)).astype(np.float32))
    expected = by_hand(features, lambda rest: frechet_distance(rest, reference).value)
    assert frechet_without(features, reference, BLOCKS) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_where_neither_set_has_spread_everywhere() -> None:
    generator = np.random.default_rng(1)
    flat = np.zeros((25, 6))
    flat[:, :3] = generator.normal(size=(25, 3))
    reference = fit_gaussian(np.roll(flat, 1, axis=1))
    expected = by_hand(flat, lambda rest: frechet_distance(rest, reference).value)
    assert frechet_without(flat, reference, BLOCKS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("d", [3, 60])
def test_vendi_score(d: int) -> None:
    features = np.random.default_rng(d).normal(size=(25, d)).astype(np.float32)
    expected = by_hand(features, lambda rest: vendi_score(rest)[0])
    assert vendi_without(features, BLOCKS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("repeats", [0, 12])
@pytest.mark.parametrize("k", [1, 4])
def test_recall_and_coverage(k: int, repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among them images that occur several times, and training images that are copied to the byte."""
    monkeypatch.setattr("leadline.audit.left_out.TILE_VALUES", 25 * 7)
    generator = np.random.default_rng(k)
    training = generator.integers(0, 6, (30, 3)).astype(np.float32)
    features = generator.normal(2.5, 1.5, (25, 3)).astype(np.float32)
    features[:repeats] = training[: max(1, repeats) // 3].repeat(3, axis=0)[:repeats]
    balls = neighborhoods(training, k)
    recall, coverage = recall_and_coverage_without(neighborhoods(features, k), balls, k, BLOCKS)
    expected = by_hand(features, lambda rest: (neighborhoods(rest, k).number_holding(training) > 0).mean())
    assert recall == pytest.approx(expected)
    assert len(set(expected)) > 1
    assert coverage == pytest.approx(by_hand(features, lambda rest: balls.holding_any(rest).mean()))


def test_with_too_few_images_outside_a_block_there_is_nothing_to_measure() -> None:
    features, halves = np.eye(2, 3), np.arange(2)
    balls = neighborhoods(np.eye(4), 1)
    with pytest.raises(NotMeasurable, match="needs 2 images or more outside each block, there are 1"):
        frechet_without(features, fit_gaussian(np.eye(3)), halves)
    with pytest.raises(NotMeasurable, match="needs 2 images or more outside each block, there are 1"):
        recall_and_coverage_without(neighborhoods(np.eye(2, 4), 1), balls, 1, halves)
    with pytest.raises(NotMeasurable, match="needs 2 images or more outside each block, there are 0"):
        vendi_without(features, np.zeros(2, int))


def test_large_spectra_are_taken_for_fewer_blocks() -> None:
    assert number_of_blocks(30, 4096) == 30
    assert number_of_blocks(1000, 4096) == number_of_blocks(10**5, 1024) == 50
    assert (number_of_blocks(1500, 2048), number_of_blocks(4000, 4000)) == (20, 10)
