"""load and load_images on the embedded digits, whose class counts are known."""

import subprocess
import sys

import numpy as np
import pytest

from leadline.data import load, load_images
from leadline.data.loading import identical
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec
from leadline.records import ImageSet

PRESET = DataSpec(shares="6:0.9,9:0.1", num_images=140, held_out=30, labeler=None)
DIGITS = {"0": 178, "1": 182, "2": 177, "3": 183, "4": 181, "5": 182, "6": 181, "7": 179, "8": 174, "9": 180}


def chosen(counts: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


def test_the_digits_preset() -> None:
    splits = load(PRESET)
    assert splits.held_out is not None
    assert splits.labeler is not None
    assert chosen(splits.train.counts()) == {"6": 126, "9": 14}
    assert chosen(splits.held_out.counts()) == {"6": 27, "9": 3}
    assert splits.labeler.counts() == DIGITS | {"6": 181 - 126 - 27, "9": 180 - 14 - 3}
    ids = [*splits.train.ids, *splits.held_out.ids, *splits.labeler.ids]
    assert len(set(ids)) == len(ids) == 1797
    assert splits.train.classes == splits.labeler.classes == tuple("0123456789")
    assert splits.notes["chosen_classes"] == ["6", "9"]
    assert splits.notes["conversion"] == "grey, 8×8"
    assert splits.notes["counts"]["train"] == splits.train.counts()
    assert splits.notes["unreadable"] == {"count": 0, "tried": 1797, "share": 0, "files": []}


def test_pixels_labels_and_ids_belong_together() -> None:
    everything = load_images("digits")
    train = load(PRESET).train
    rows = [int(name) for name in train.ids]
    assert np.array_equal(train.pixels, everything.pixels[rows])
    assert everything.labels is not None
    assert np.array_equal(train.labels, everything.labels[rows])


def test_digits_fill_the_range_of_8_bits() -> None:
    images = load_images("digits")
    assert images.counts() == DIGITS
    assert images.shape == (1, 8, 8)
    # v of 0..16 is round(255 v / 16), halves rounded up.
    assert set(np.unique(images.pixels)) == {int(255 * v / 16 + 0.5) for v in range(17)}


def test_the_seed_alone_decides_the_choice() -> None:
    assert load(PRESET).train.fingerprint() == load(PRESET).train.fingerprint()
    assert load(PRESET).train.ids != load(PRESET.model_copy(update={"seed": 1})).train.ids


def test_planted_duplicates_come_on_top() -> None:
    splits = load(PRESET.model_copy(update={"duplicates": 4, "duplicate_copies": 2}))
    train = splits.train
    assert len(train) == 148
    assert train.ids[:140] == load(PRESET).train.ids
    for name, pixels in zip(train.ids[140:], train.pixels[140:], strict=True):
        original, copy = name.split("#copy")
        assert copy in ("1", "2")
        assert np.array_equal(train.pixels[train.ids.index(original)], pixels)
    assert len({name.split("#")[0] for name in train.ids[140:]}) == 4
    planted = splits.notes["duplicates"]
    assert (planted["images"], planted["copies_each"], sum(planted["counts"].values())) == (4, 2, 8)
    assert sum(splits.notes["counts"]["train"].values()) == 148


def test_identical_images_across_splits_are_counted() -> None:
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None]
    reference = ImageSet(name="a", pixels=pixels)
    found = identical(ImageSet(name="b", pixels=pixels[[3, 3, 4]] + np.uint8(1)), reference)
    assert found.tolist() == [True, True, False]
    assert load(PRESET).notes["identical_held_out"] == 0
    assert "identical_held_out" not in load(DataSpec(num_images=10)).notes


def test_images_are_converted_to_match_another_set() -> None:
    target = ImageSet(name="t", pixels=np.zeros((1, 3, 16, 12), dtype=np.uint8))
    images = load_images("digits", like=target, fit="pad")
    assert images.shape == (3, 16, 12)
    assert images.notes["conversion"] == "RGB (from PIL's modes L 1,797), 8×8 padded with black to 12×16"
    assert np.array_equal(images.pixels[:, 1, 4:12, 2:10], load_images("digits").pixels[:, 0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_images": 5}, "no use for num_images=5: a whole source is loaded"),
        ({"shares": "6:1"}, "no use for shares="),
        ({"image_size": 16}, "no use for image_size=16: the images to compare with decide it"),
        ({"grops": "label"}, "no field 'grops': did you mean 'groups'"),
    ],
)
def test_load_images_refuses_what_it_would_ignore(fields: dict[str, object], message: str) -> None:
    target = ImageSet(name="t", pixels=np.zeros((1, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(LeadlineError, match=message):
        load_images("digits", like=target, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digit"}, "unknown data set 'digit': did you mean 'digits'"),
        ({"path": "x"}, "'digits' has no use for path"),
        ({"groups": "Male"}, "one grouping 'label', not 'Male'"),
        ({"shares": "6:0.5,9:0.5", "num_images": 400}, r"200 images of class '6' are wanted .* there are 181"),
    ],
)
def test_bad_digits_specs_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        load(DataSpec(**fields))


def test_importing_data_imports_neither_torch_nor_datasets() -> None:
    code = "import sys, leadline.data; assert not {'torch', 'datasets', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
