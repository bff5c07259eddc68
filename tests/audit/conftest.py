"""Three kinds of small images that any classifier tells apart, in known numbers."""

import numpy as np
import pytest

from leadline.audit.labeler import Labeler, train_labeler
from leadline.records import ImageSet, Splits

CLASSES = ("left", "middle", "right")


def bars(counts: tuple[int, int, int], seed: int, name: str = "bars") -> ImageSet:
    """8×8 grey images with a bright bar on the left, in the middle or on the right, and noise; classes in order."""
    labels = np.repeat(np.arange(3), counts)
    pixels = np.random.default_rng(seed).integers(0, 60, (len(labels), 1, 8, 8))
    for index, label in enumerate(labels):
        pixels[index, 0, :, 3 * label : 3 * label + 2] += 180
    return ImageSet(name=name, pixels=pixels.astype(np.uint8), labels=labels, classes=CLASSES)


def unlabelled(images: ImageSet) -> ImageSet:
    return ImageSet(name=images.name, pixels=images.pixels, ids=images.ids)


@pytest.fixture(scope="session")
def splits() -> Splits:
    """Training data with 60 left and 20 middle, none right; held out in the same shares; a labeler set of all three."""
    return Splits(
        train=bars((60, 20, 0), 1, "bars train"),
        held_out=bars((12, 4, 0), 2, "bars held out"),
        labeler=bars((40, 40, 40), 3, "bars labeler"),
    )


@pytest.fixture(scope="session")
def labeler(splits: Splits) -> Labeler:
    assert splits.labeler is not None
    return train_labeler(splits.labeler, confidence=0.8, epochs=6, seed=0)
