"""Folders of images: classes, what is passed over, what is never opened."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leadline.data import DATASETS, load, load_images
from leadline.data.folders import list_images
from leadline.data.source import Unreadable, open_image
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec


def save(path: Path, value: int = 0, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """40 cats of values 0..39, 20 dogs of values 100..119."""
    root = tmp_path / "pets"
    for name, start, number in (("cat", 0, 40), ("dog", 100, 20)):
        for i in range(number):
            save(root / name / f"{i:02d}.png", start + i)
    return root


def test_imagefolder_takes_its_classes_from_sub_folders(pets: Path) -> None:
    save(pets / "dog" / "puppies" / "z.PNG", 120)
    (pets / "readme.txt").write_text("pets")
    (pets / ".hidden").mkdir()
    save(pets / "stray.png")
    source = DATASETS["imagefolder"](DataSpec(dataset="imagefolder", path=str(pets)))
    assert source.classes == ("cat", "dog")
    assert source.labels is not None
    assert np.bincount(source.labels).tolist() == [40, 21]
    assert source.ids[-1] == "dog/puppies/z.PNG"
    assert source.notes == {"other_files": 1, "images_outside_classes": 1}


def test_folder_takes_all_images_in_order_without_labels(pets: Path) -> None:
    images = load_images(f"folder:{pets}")
    assert images.labels is None
    assert images.pixels[:, 0, 0, 0].tolist() == [*range(40), *range(100, 120)]
    assert images.ids[:2] == ("cat/00.png", "cat/01.png")
    assert images.notes["counts"] == {"images": 60}


def test_an_unreadable_file_is_listed_counted_and_replaced(pets: Path) -> None:
    spec = DataSpec(
        dataset="imagefolder", path=str(pets), shares="cat:0.5,dog:0.5", num_images=30, max_unreadable_share=0.05
    )
    chosen = load(spec).train.ids
    broken = next(name for name in chosen if name.startswith("dog"))
    (pets / broken).write_bytes((pets / broken).read_bytes()[:40])
    splits = load(spec)
    assert splits.train.counts() == {"cat": 15, "dog": 15}
    assert broken not in splits.train.ids
    unreadable = splits.notes["unreadable"]
    assert (unreadable["count"], unreadable["tried"]) == (1, 31)
    assert unreadable["share"] == 1 / 31
    assert unreadable["files"][0].startswith(f"{broken}: ")
    # The replacement's own pixels, and everyone else's, stand beside the right ids.
    for name, pixels in zip(splits.train.ids, splits.train.pixels, strict=True):
        assert pixels[0, 0, 0] == int(name[4:6]) + (100 if name.startswith("dog") else 0)


def test_without_a_spare_the_shortage_is_an_error(pets: Path) -> None:
    (pets / "dog" / "03.png").write_bytes(b"no image")
    spec = DataSpec(dataset="imagefolder", path=str(pets), classes="dog", num_images=20, max_unreadable_share=0.5)
    with pytest.raises(LeadlineError, match=r"20 images of class 'dog' .* there are 19 \(1 more cannot be decoded\)"):
        load(spec)


def test_without_a_number_a_bad_file_makes_the_split_smaller(pets: Path) -> None:
    (pets / "dog" / "03.png").write_bytes(b"no image")
    spec = DataSpec(dataset="imagefolder", path=str(pets), shares="cat:0.5,dog:0.5", max_unreadable_share=0.5)
    assert load(spec).train.counts() == {"cat": 20, "dog": 19}


def test_too_many_unreadable_files_stop_the_loading(pets: Path) -> None:
    for i in range(3):
        (pets / "cat" / f"{i:02d}.png").write_bytes(b"no image")
    message = r"3 of 60 images could not be decoded, 5.0%, and at most 1.0% may be \(--set data.max_unreadable_share\)"
    with pytest.raises(LeadlineError, match=message + r": cat/00.png: no image in one of the formats PNG, "):
        load_images(f"imagefolder:{pets}")
    images = load_images(f"imagefolder:{pets}", max_unreadable_share=0.05)
    assert images.counts() == {"cat": 37, "dog": 20}
    assert images.notes["unreadable"]["count"] == 3


def test_only_bad_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(LeadlineError, match="none of 1 images could be decoded"):
        load_images(f"folder:{tmp_path}", max_unreadable_share=1)


def test_links_out_of_the_folder_are_not_followed(pets: Path, tmp_path: Path) -> None:
    secret = save(tmp_path / "secret" / "s.png", 255)
    (pets / "cat" / "out.png").symlink_to(secret)
    (pets / "cat" / "in.png").symlink_to(pets / "cat" / "00.png")
    (pets / "dog" / "folder").symlink_to(secret.parent)
    assert list_images(pets).links == {"cat/out.png", "dog/folder"}
    images = load_images(f"imagefolder:{pets}", max_unreadable_share=0.1)
    assert images.pixels.max() < 255
    assert "cat/in.png" in images.ids
    files = images.notes["unreadable"]["files"]
    assert [file.split(":")[0] for file in files] == ["cat/out.png", "dog/folder"]
    assert "not followed" in files[0]


def test_a_decompression_bomb_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "a.png", size=(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    found = open_image(file)
    assert isinstance(found, Unreadable)
    assert "DecompressionBomb" in found.reason


def test_only_the_listed_formats_are_decoded(tmp_path: Path) -> None:
    """PCX stands for PIL's other decoders, of which EPS starts Ghostscript."""
    file = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(file, format="PCX")
    with Image.open(file) as image:
        assert image.format == "PCX"
    assert isinstance(open_image(file), Unreadable)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("L", (8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    upright = open_image(tmp_path / "a.jpg")
    assert isinstance(upright, Image.Image)
    assert upright.size == (16, 8)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = open_image(tmp_path / "a.gif")
    assert isinstance(image, Image.Image)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec(dataset="folder"), "needs --set data.path="),
        (DataSpec(dataset="folder", path="/no/such"), "there is no folder /no/such"),
        (DataSpec(dataset="folder", path=".", groups="label"), "has no use for groups"),
        (DataSpec(dataset="imagefolder", path=".", groups="Male"), "one grouping 'label', not 'Male'"),
        (DataSpec(dataset="imagefolder", path=".", split="train"), "has no use for split"),
    ],
)
def test_bad_specs_are_refused(spec: DataSpec, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        load(spec)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match="holds no images"):
        load(DataSpec(dataset="folder", path=str(tmp_path)))
    save(tmp_path / "a.png")
    with pytest.raises(LeadlineError, match=r"no sub-folders with images .* use the data set folder"):
        load(DataSpec(dataset="imagefolder", path=str(tmp_path)))


def test_unlabelled_data_has_no_labeler_and_no_classes(pets: Path) -> None:
    spec = DataSpec(dataset="folder", path=str(pets), num_images=10, held_out=5, labeler=None)
    splits = load(spec)
    assert splits.labeler is None
    assert splits.notes["labeler"] == "none: the data set has no labels"
    assert splits.notes["counts"] == {"train": {"images": 10}, "held_out": {"images": 5}}
    with pytest.raises(LeadlineError, match=r"labeler=5 asks for labelled images"):
        load(spec.model_copy(update={"labeler": 5}))
    with pytest.raises(LeadlineError, match="classes cat were asked for, but data set 'folder' has no labels"):
        load(spec.model_copy(update={"classes": ("cat",)}))
    with pytest.raises(LeadlineError, match="65 images are wanted"):
        load(spec.model_copy(update={"num_images": 60}))


def test_a_link_in_a_circle_is_not_followed(pets: Path) -> None:
    (pets / "cat" / "circle.png").symlink_to("circle.png")
    assert list_images(pets).links == {"cat/circle.png"}
    files = load_images(f"imagefolder:{pets}", max_unreadable_share=0.1).notes["unreadable"]["files"]
    assert files == ["cat/circle.png: a link that leads out of the folder, to a folder or in a circle: not followed"]
