"""The Vendi score against closed forms and its definition, its error against repeated draws, the choice of images."""

import numpy as np
import pytest

from leadline.audit import rows
from leadline.audit.vendi import choose, vendi_score
from leadline.errors import LeadlineError
from leadline.records import ImageSet


def by_definition(features: np.ndarray) -> float:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    real = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(real * np.log(real)).sum()))


@pytest.mark.parametrize("dimension", [7, 40])
def test_orthogonal_images_are_all_different_and_equal_ones_are_one(dimension: int) -> None:
    lengths = np.arange(1, 8)[:, None]
    assert vendi_score(np.eye(7, dimension) * lengths) == pytest.approx((7, 0))
    assert vendi_score(np.ones((7, dimension)) * lengths) == pytest.approx((1, 0), abs=1e-9)


@pytest.mark.parametrize("dimension", [3, 60])
def test_two_clusters_have_the_entropy_of_their_sizes(dimension: int) -> None:
    score, error = vendi_score(np.eye(2, dimension)[np.repeat([0, 1], [30, 10])])
    p = np.array([0.75, 0.25])
    assert score == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    # -log p of each image's cluster is what it adds.
    assert error == pytest.approx(np.repeat(-np.log(p), [30, 10]).std(ddof=1) / np.sqrt(40))


@pytest.mark.parametrize(("n", "dimension"), [(5, 40), (30, 30), (60, 8)])
def test_is_the_definition_whichever_matrix_is_decomposed(
    n: int, dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.random.default_rng(n).gamma(1.0, size=(n, dimension)).astype(np.float32)
    expected = by_definition(features.astype(np.float64))
    assert vendi_score(features)[0] == pytest.approx(expected, rel=1e-9)
    padded = np.concatenate([features, np.zeros((n, 70 - dimension), dtype=np.float32)], 1)
    assert vendi_score(padded) == pytest.approx(vendi_score(features), rel=1e-9), "n×n instead of d×d"
    monkeypatch.setattr(rows, "CHUNK_ROWS", 7)
    assert vendi_score(features)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "dimension"), [(200, 6), (60, 90)])
def test_the_error_is_the_spread_over_repeated_draws(n: int, dimension: int) -> None:
    generator = np.random.default_rng(0)
    scale = np.arange(1, dimension + 1) ** -0.8
    draws = [vendi_score(generator.exponential(size=(n, dimension)) * scale) for _ in range(200)]
    scores, errors = np.array(draws).T
    assert np.mean(errors) == pytest.approx(np.log(scores).std(ddof=1), rel=0.2)


def test_grows_with_n_so_that_only_equal_n_compares() -> None:
    features = np.random.default_rng(0).normal(size=(400, 50))
    assert vendi_score(features[:40])[0] < 0.7 * vendi_score(features)[0]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((1, 3)), "2 images or more, 1 given"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "image 1 have length 0"),
        (np.array([[np.nan, 0.0], [0.0, 1.0]]), "image 0 are not finite"),
    ],
)
def test_what_has_no_score_is_refused(features: np.ndarray, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        vendi_score(features)


def pictures(n: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, 2, 2), dtype=np.uint8)
    pixels[n // 2 :] = pixels[0]  # half of them are copies of one
    return ImageSet(name="pictures", pixels=pixels)


def test_the_same_pictures_are_chosen_whatever_their_order() -> None:
    images = pictures(60)
    order = np.random.default_rng(1).permutation(60)

    def chosen(images: ImageSet, seed: int) -> list[bytes]:
        return sorted(pixels.tobytes() for pixels in images.take(choose(images, 20, seed)).pixels)

    assert chosen(images, 3) == chosen(images.take(order), 3)
    assert chosen(images, 3) != chosen(images, 4)
    assert choose(images, 60, 0).tolist() == choose(images, 99, 0).tolist() == list(range(60))
    found = choose(images, 20, 0)
    assert (np.diff(found) > 0).all()


def test_copies_are_chosen_as_often_as_others() -> None:
    images = pictures(20)
    chosen = np.concatenate([choose(images, 5, seed) for seed in range(800)])
    assert np.mean(chosen >= 10) == pytest.approx(0.5, abs=0.03)
    # Copies stand for each other, so that only their number counts.
    assert np.bincount(chosen, minlength=20)[:10] / 800 == pytest.approx(np.full(10, 0.25), abs=0.06)


def test_a_spectrum_too_large_is_refused_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.audit.vendi.LARGEST", 3)
    assert vendi_score(np.eye(5)[:, :3] + 0.1)[0] > 1
    with pytest.raises(LeadlineError, match=r"of 5 images in 5 dimensions .* 5 × 5 values, and at most 3"):
        vendi_score(np.eye(5))
