"""Arrays, tensors and image sets become pixels of one size, or a message."""

import numpy as np
import pytest
import torch
from conftest import bars

from leadline.audit.sources import image_set, reference_splits, to_pixels
from leadline.errors import LeadlineError
from leadline.records import Splits

PIXELS = np.arange(2 * 3 * 9 * 9).reshape(2, 3, 9, 9).astype(np.uint8)


def test_floats_come_back_to_the_pixels_they_were_made_from() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = every.astype(np.float32) / np.float32(127.5) - np.float32(1)
    for given in (every, floats, floats.astype(np.float64), torch.from_numpy(floats), torch.from_numpy(every)):
        np.testing.assert_array_equal(to_pixels(given, "samples"), every)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (PIXELS[0], r"\[n, c, h, w\] with c of 1 or 3, not \[3, 9, 9\]"),
        (PIXELS.transpose(0, 2, 3, 1), "channels last: move the last axis"),
        (PIXELS[:, :2], "c of 1 or 3"),
        (PIXELS.astype(np.int64), "uint8, or floats in .*, not int64"),
        (np.full((1, 1, 4, 4), 1.5), "run from 1.5 to 1.5: scale them"),
        (np.full((1, 1, 4, 4), -3.0), "run from -3 to -3"),
        (np.linspace(0, 1, 16).reshape(1, 1, 4, 4), r"as if they were in \[0, 1\]: give 2 \* images - 1"),
    ],
)
def test_what_are_no_images_is_refused(images: np.ndarray, words: str) -> None:
    with pytest.raises(LeadlineError, match=f"samples: .*{words}"):
        image_set(images, "samples")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    images = np.full((5, 1, 4, 4), -0.5, np.float32)
    images[3, 0, 1, 1] = images[4] = value
    with pytest.raises(LeadlineError, match=r"2 of 5 images hold values that are not finite \(first: image 3\)"):
        image_set(images, "samples")


def test_no_images_are_refused() -> None:
    with pytest.raises(LeadlineError, match="samples: no images were given"):
        image_set(PIXELS[:0], "samples")


def test_another_size_is_refused_with_both() -> None:
    with pytest.raises(LeadlineError, match=r"samples are 3×9×9, but 'bars' is 1×8×8 .*data.image_size="):
        image_set(PIXELS, "samples", like=bars((1, 1, 1), 0))


def test_groups_are_for_data_that_is_loaded_by_name() -> None:
    with pytest.raises(LeadlineError, match="groups='Male' names a column of a data set that is loaded by name"):
        reference_splits(bars((1, 1, 1), 0), "Male", None)


def test_splits_stay_as_they_are(splits: Splits) -> None:
    found = reference_splits(splits, None, splits.train)
    assert found.train is splits.train
    assert found.held_out is splits.held_out
