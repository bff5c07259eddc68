"""One pass for all encoders, and a cache that never serves another image set, encoder or half a file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import bars

from leadline.audit import features
from leadline.audit.features import encode
from leadline.records import ImageSet


class Means:
    """An encoder that counts what it is given: the mean and the largest value of each image."""

    def __init__(self, name: str = "means", fingerprint: str = "1") -> None:
        self.name, self.fingerprint = name, fingerprint
        self.batches: list[int] = []

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"mean": 1, "largest": 2}

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(images))
        return {"mean": images.mean((1, 2, 3))[:, None], "largest": np.stack([images.max((1, 2, 3))] * 2, 1)}


IMAGES = bars((5, 5, 5), 0)


def test_all_encoders_share_one_pass_over_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int | None] = []
    plain = ImageSet.images

    def watched(self: ImageSet, start: int = 0, stop: int | None = None) -> np.ndarray:
        reads.append(start)
        return plain(self, start, stop)

    monkeypatch.setattr(ImageSet, "images", watched)
    one, two = Means(), Means("again")
    found = encode(IMAGES, [one, two], batch_size=7)
    assert reads == [0, 7, 14]
    assert one.batches == two.batches == [7, 7, 1]
    np.testing.assert_allclose(found["means"]["mean"][:, 0], plain(IMAGES).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(found["again"]["largest"], found["means"]["largest"])


def test_the_cache_answers_for_the_same_images_and_encoder_only(tmp_path: Path) -> None:
    first, again, other = Means(), Means(), Means(fingerprint="2")
    stored = encode(IMAGES, [first], cache=tmp_path)
    known = encode(IMAGES, [again], cache=tmp_path)
    assert again.batches == []
    np.testing.assert_array_equal(known["means"]["mean"], stored["means"]["mean"])
    encode(IMAGES, [other], cache=tmp_path)
    changed = Means()
    encode(IMAGES.take(range(14)), [changed], cache=tmp_path)
    assert other.batches == [15]
    assert changed.batches == [14]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"\x80\x04K\x01."])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    stored = encode(IMAGES, [Means()], cache=tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(damage)
    encoder = Means()
    np.testing.assert_array_equal(encode(IMAGES, [encoder], cache=tmp_path)["means"]["mean"], stored["means"]["mean"])
    assert encoder.batches == [15]


def test_large_outputs_live_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encode(IMAGES, [Means()])["means"]
    monkeypatch.setattr(features, "IN_MEMORY_BYTES", 60)
    found = encode(IMAGES, [Means()])["means"]
    assert not isinstance(found["mean"], np.memmap)
    assert isinstance(found["largest"], np.memmap)
    np.testing.assert_array_equal(found["largest"], expected["largest"])
