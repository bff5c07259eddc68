"""Captions: the grammar against known rows, and the road from a table to the splits."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leadline.data import load, load_images
from leadline.data.captions import ATTRIBUTES, face_caption
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec
from leadline.records import ImageSet


def face(*has: str) -> str:
    return face_caption({name: name in has for name in ATTRIBUTES})


@pytest.mark.parametrize(
    ("has", "caption"),
    [
        (("Smiling", "Blond_Hair", "Young", "No_Beard"), "a photo of a smiling woman with blond hair"),
        (("Male", "Young", "No_Beard"), "a photo of a man"),
        (("Male", "Bald"), "a photo of an old bald man with a beard"),
        (("Male", "Gray_Hair", "Eyeglasses"), "a photo of an old man with gray hair and a beard wearing glasses"),
        (("Blond_Hair", "Brown_Hair", "Young", "No_Beard"), "a photo of a woman with blond hair"),
        (
            ("Eyeglasses", "Wearing_Hat", "Wearing_Necktie", "Young", "No_Beard"),
            "a photo of a woman wearing glasses and a hat and a tie",
        ),
    ],
)
def test_a_face_in_words(has: tuple[str, ...], caption: str) -> None:
    assert face(*has) == caption


def faces(folder: Path, number: int, **changed: object) -> str:
    """A table of faces all alike but that every second one is Male and every third not Young."""
    folder.mkdir()
    with io.BytesIO() as file:
        Image.new("RGB", (8, 8)).save(file, format="PNG")
        png = file.getvalue()
    rows: dict[str, object] = {name: [False] * number for name in ATTRIBUTES} | {"No_Beard": [True] * number}
    rows["Male"] = [i % 2 == 0 for i in range(number)]
    rows["Young"] = [i % 3 != 0 for i in range(number)]
    pq.write_table(
        pa.table({"image": [{"bytes": png, "path": None}] * number} | rows | changed), folder / "part.parquet"
    )
    return str(folder)


def test_captions_travel_with_the_images_into_the_splits(tmp_path: Path) -> None:
    path = faces(tmp_path / "celeba", 24)
    fields = {"num_images": 12, "held_out": 4, "labeler": 6, "duplicates": 3}
    splits = load(DataSpec(dataset="celeba", path=path, groups="Male", captions="celeba", **fields))
    for part in (splits.train, splits.held_out, splits.labeler):
        assert part is not None
        assert len(part.captions) == len(part)
        for name, caption in zip(part.ids, part.captions, strict=True):
            row = int(name.partition("#")[0].rpartition(":")[2])
            age, sex = "an old" if row % 3 == 0 else "a", "man" if row % 2 == 0 else "woman"
            assert caption == f"a photo of {age} {sex}"
    assert len(splits.train) == 15
    chosen = splits.train.take([3, 1])
    assert chosen.captions == (splits.train.captions[3], splits.train.captions[1])


def test_digits_are_named() -> None:
    images = load_images(DataSpec(dataset="digits", captions="digits"))
    assert images.captions[:3] == ("a handwritten zero", "a handwritten one", "a handwritten two")
    assert images.labels is not None
    assert len(set(zip(images.labels.tolist(), images.captions, strict=True))) == 10


def test_without_being_asked_for_there_are_none() -> None:
    assert load(DataSpec(num_images=5)).train.captions == ()


def test_what_has_no_captions_of_that_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match="unknown kind of captions 'digit': did you mean 'digits'"):
        load(DataSpec(captions="digit"))
    with pytest.raises(LeadlineError, match="captions 'celeba' .* digits has no such columns"):
        load(DataSpec(captions="celeba"))
    path = faces(tmp_path / "faces", 4)
    with pytest.raises(LeadlineError, match="classes 0 to 9, and faces has the class 'not Male'"):
        load(DataSpec(dataset="parquet", path=path, groups="Male", captions="digits"))
    with pytest.raises(LeadlineError, match="classes 0 to 9, and faces has no classes"):
        load(DataSpec(dataset="parquet", path=path, captions="digits"))
    path = faces(tmp_path / "other", 4, Bald=["a", "b", "a", "b"])
    with pytest.raises(LeadlineError, match="other: column 'Bald' holds string, yes or no is expected"):
        load(DataSpec(dataset="parquet", path=path, captions="celeba"))
    pq.write_table(pq.read_table(path).drop_columns(["Bald"]), f"{path}/part.parquet")
    with pytest.raises(LeadlineError, match="other has no column 'Bald'"):
        load(DataSpec(dataset="parquet", path=path, captions="celeba"))


def test_an_image_set_knows_its_captions() -> None:
    pixels = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    plain, named = ImageSet(name="x", pixels=pixels), ImageSet(name="x", pixels=pixels, captions=("a", "b"))
    assert len({plain.fingerprint(), named.fingerprint(), named.take([1, 0]).fingerprint()}) == 3
    with pytest.raises(LeadlineError, match="2 images but 1 captions"):
        ImageSet(name="x", pixels=pixels, captions=("a",))


def test_celeba_of_the_real_table(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_DATA", str(real_data))
    spec = DataSpec(dataset="celeba", groups="Male", captions="celeba", num_images=300, image_size=8)
    train = load(spec).train
    assert train.labels is not None
    assert all(
        ("woman" in caption.split()) is (label == 0)
        for label, caption in zip(train.labels.tolist(), train.captions, strict=True)
    )
    assert len(set(train.captions)) > 50
