"""One pass for all encoders, and a cache that never serves another image set, encoder or half a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import bars

from leadline import arrays
from leadline.audit import features
from leadline.audit.context import KnownGroups, LabelerGroups
from leadline.audit.features import encode
from leadline.audit.labeler import Labeler
from leadline.records import ImageSet


class Means:
    """An encoder that counts what it is given: the mean and the largest value of each image."""

    description = "means"

    def __init__(self, name: str = "means", fingerprint: str = "1", batch_size: int = 4) -> None:
        self.name, self.fingerprint, self.batch_size = name, fingerprint, batch_size
        self.batches: list[int] = []

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"mean": 1, "largest": 2}

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(images))
        return {"mean": images.mean((1, 2, 3))[:, None], "largest": np.stack([images.max((1, 2, 3))] * 2, 1)}


class Tapped(Means):
    """Also shows the image itself as its only tap."""

    heads: Sequence[torch.Tensor] | None = None

    def encode_with_taps(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
        return self.encode(images), [torch.from_numpy(images) + 1.5]


IMAGES = bars((5, 5, 5), 0)
assert IMAGES.labels is not None
GROUPS = KnownGroups(IMAGES.labels, 3)


def test_all_encoders_share_one_pass_over_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int | None] = []
    plain = ImageSet.images

    def watched(self: ImageSet, start: int = 0, stop: int | None = None) -> np.ndarray:
        reads.append(start)
        return plain(self, start, stop)

    monkeypatch.setattr(ImageSet, "images", watched)
    one, two, three = Means(), Means("again", batch_size=3), Tapped("tapped")
    found, pairs = encode(IMAGES, [one, two, three], grouping=GROUPS, block=7)
    assert reads == [0, 7, 14]
    assert set(pairs) == {"tapped"}
    np.testing.assert_allclose(found["means"]["mean"][:, 0], plain(IMAGES).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(found["again"]["largest"], found["means"]["largest"])
    np.testing.assert_array_equal(found["tapped"]["mean"], found["means"]["mean"])


def test_a_network_always_sees_batches_of_its_own_size() -> None:
    encoder = Means()
    encode(IMAGES, [encoder], block=7)
    assert set(encoder.batches) == {4}


def test_the_filling_of_the_last_batch_is_in_no_result() -> None:
    whole, filled = (encode(IMAGES, [Tapped(batch_size=size)], grouping=GROUPS) for size in (15, 4))
    np.testing.assert_array_equal(whole[0]["means"]["mean"], filled[0]["means"]["mean"])
    for name, array in whole[1]["means"].to_arrays().items():
        np.testing.assert_allclose(array, filled[1]["means"].to_arrays()[name], rtol=1e-6, err_msg=name)


def test_the_cache_answers_for_the_same_images_and_encoder_only(tmp_path: Path) -> None:
    first, again, other = Means(), Means(), Means(fingerprint="2")
    stored, _ = encode(IMAGES, [first], cache=tmp_path)
    known, _ = encode(IMAGES, [again], cache=tmp_path)
    assert again.batches == []
    np.testing.assert_array_equal(known["means"]["mean"], stored["means"]["mean"])
    encode(IMAGES, [other], cache=tmp_path)
    changed = Means()
    encode(IMAGES.take(range(14)), [changed], cache=tmp_path)
    assert len(other.batches) == len(changed.batches) == 4


def test_pair_distances_are_kept_by_images_network_and_groups(tmp_path: Path) -> None:
    first, again, regrouped = Tapped(), Tapped(), Tapped()
    _, stored = encode(IMAGES, [first], grouping=GROUPS, cache=tmp_path)
    _, known = encode(IMAGES, [again], grouping=GROUPS, cache=tmp_path)
    assert again.batches == []
    for name, array in stored["means"].to_arrays().items():
        np.testing.assert_array_equal(known["means"].to_arrays()[name], array)
    encode(IMAGES, [regrouped], grouping=KnownGroups(GROUPS.labels[::-1].copy(), 3), cache=tmp_path)
    assert len(regrouped.batches) == 4


def test_two_orders_of_the_classes_do_not_share_what_is_cached(labeler: Labeler) -> None:
    """The groups are places in the list of classes: the same labeler's word means another class in another list."""
    one, two = (LabelerGroups(labeler, names, lambda own, p: own.decide(p)) for names in (("a", "b"), ("b", "a")))
    assert one.fingerprint != two.fingerprint


def test_images_are_read_a_few_at_a_time_however_large_they_are() -> None:
    assert features._block((3, 8, 8), []) == features.CHUNK
    assert features._block((3, 64, 64), [Means()]) == 1024
    assert features._block((3, 1024, 1024), [Means(batch_size=10)]) == 10


def test_an_interrupted_pass_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Means):
        def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().encode(images)

    monkeypatch.setattr(features, "CHUNK", 4)
    with pytest.raises(KeyboardInterrupt):
        encode(IMAGES, [Stopped()], cache=tmp_path)
    encoder = Means()
    found, _ = encode(IMAGES, [encoder], cache=tmp_path)
    assert len(encoder.batches) == 2
    np.testing.assert_array_equal(found["means"]["mean"], encode(IMAGES, [Means()])[0]["means"]["mean"])


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"\x80\x04K\x01."])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    stored, pairs = encode(IMAGES, [Tapped()], grouping=GROUPS, cache=tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(damage)
    encoder = Tapped()
    found, again = encode(IMAGES, [encoder], grouping=GROUPS, cache=tmp_path)
    np.testing.assert_array_equal(found["means"]["mean"], stored["means"]["mean"])
    np.testing.assert_array_equal(again["means"].total, pairs["means"].total)
    assert len(encoder.batches) == 4


def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_numbers(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(RuntimeWarning, match="could not be written .* the audit goes on"):
        found, _ = encode(IMAGES, [Means()], cache=blocked)
    np.testing.assert_array_equal(found["means"]["mean"], encode(IMAGES, [Means()])[0]["means"]["mean"])


def test_large_outputs_live_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encode(IMAGES, [Means()])[0]["means"]
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 60)
    found = encode(IMAGES, [Means()])[0]["means"]
    assert not isinstance(found["mean"], np.memmap)
    assert isinstance(found["largest"], np.memmap)
    np.testing.assert_array_equal(found["largest"], expected["largest"])
