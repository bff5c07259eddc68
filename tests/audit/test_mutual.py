"""Distances between a few images: by hand, and LPIPS against the closed form over all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from leadline.audit.encoders import load_encoder
from leadline.audit.mutual import distance_unit, mutual_distances
from leadline.audit.pairs import PairSums
from leadline.errors import LeadlineError
from leadline.records import scaled

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 6)).astype(np.uint8)
HEADS = (torch.tensor([0.5, 0.0, 2.0]), torch.tensor([1.0, 3.0]))


@dataclass(frozen=True)
class Vectors:
    """An encoder whose features are the first pixels, as they are."""

    name: str = "vectors"
    fingerprint: str = "0"
    description: str = ""
    batch_size: int = 2
    outputs: Mapping[str, int] = field(default_factory=lambda: {"features": 4})

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": images.reshape(len(images), -1)[:, :4].astype(np.float32)}


@dataclass(frozen=True)
class Taps(Vectors):
    """An encoder with two taps: the positive pixels, and two of their channels at every second place."""

    heads: Sequence[torch.Tensor] | None = HEADS

    def encode_with_taps(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
        wide = torch.from_numpy(images).relu()
        return self.encode(images), [wide, wide[:, :2, ::2, ::2]]


def test_pixels_differ_by_their_root_mean_square() -> None:
    images = np.zeros((3, 3, 2, 2), dtype=np.uint8)
    images[1] += 10
    images[2, 0, 0, 0] = 255
    encoder = load_encoder("pixels", shape=(3, 2, 2), device=torch.device("cpu"))
    found = mutual_distances(encoder, images)
    assert found[0, 1] == pytest.approx(10)
    assert found[0, 2] == pytest.approx(255 / np.sqrt(12))
    assert (found == found.T).all()
    assert (np.diagonal(found) == 0).all()
    assert "0–255" in distance_unit(encoder)


def test_features_differ_by_their_angle() -> None:
    images = np.full((3, 1, 2, 2), 255, dtype=np.uint8)  # (1, 1, 1, 1)
    images[1] = 0  # the opposite
    images[2, 0, 0] = 0  # at a right angle
    found = mutual_distances(Vectors(), images)
    assert found == pytest.approx(np.array([[0, 2, 1], [2, 0, 1], [1, 1, 0]]), abs=1e-6)
    assert distance_unit(Vectors()) == "1 − cosine of the features"


@pytest.mark.parametrize("heads", [HEADS, None])
def test_maps_differ_as_in_the_mean_over_all_pairs(heads: tuple[torch.Tensor, ...] | None) -> None:
    encoder = Taps(heads=heads)
    found = mutual_distances(encoder, PIXELS)
    sums = PairSums(heads, 0)
    sums.add(encoder.encode_with_taps(scaled(PIXELS))[1])
    assert found[np.triu_indices(5, 1)].mean() == pytest.approx(sums.result().total, rel=1e-5)
    assert (distance_unit(encoder) == "LPIPS") == (heads is not None)


def test_one_pair_of_maps_by_hand() -> None:
    images = np.zeros((2, 3, 1, 1), dtype=np.uint8)
    images[0, 0], images[1, 1] = 255, 255
    # Unit vectors along the first and the second channel: 0.5 + 0 in the first tap, 1 + 3 in the second.
    assert mutual_distances(Taps(), images)[0, 1] == pytest.approx(4.5, rel=1e-6)


def test_features_that_are_no_numbers_are_refused() -> None:
    class Broken(Vectors):
        def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {"features": np.full((len(images), 4), np.nan, dtype=np.float32)}

    with pytest.raises(LeadlineError, match="vectors gives features that are not finite"):
        mutual_distances(Broken(), PIXELS)
