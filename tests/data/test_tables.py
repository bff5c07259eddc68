"""Parquet files and Hugging Face data sets as sources."""

import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leadline.data import DATASETS, load, load_images
from leadline.data.source import Unreadable
from leadline.data.tables import open_cell
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec


def png(value: int) -> bytes:
    with io.BytesIO() as file:
        Image.new("L", (4, 4), value).save(file, format="PNG")
        return file.getvalue()


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """Two files of 300 rows in row groups of 100: encoded bytes of value row mod 256, and a boolean."""
    for part in range(2):
        rows = range(300 * part, 300 * part + 300)
        table = pa.table({"picture": [png(i % 256) for i in rows], "odd": [i % 2 == 1 for i in rows]})
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=100)
    return tmp_path


def test_rows_are_found_across_files_row_groups_and_batches(blobs: Path) -> None:
    everything = load_images(str(blobs), groups="odd")
    assert everything.pixels[:, 0, 0, 0].tolist() == [i % 256 for i in range(600)]
    assert everything.classes == ("not odd", "odd")
    splits = load(DataSpec(dataset="parquet", path=str(blobs), groups="odd", shares="odd:1", num_images=50))
    for name, pixels in zip(splits.train.ids, splits.train.pixels, strict=True):
        file, row = name.split(":")
        index = int(row) + (300 if file == "part-1.parquet" else 0)
        assert index % 2 == 1
        assert pixels[0, 0, 0] == index % 256
    assert splits.notes["image_column"] == "picture"
    assert splits.notes["groups"] == "odd"


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        ("Male", {"not Male": 5783, "Male": 4217}),
        ("Blond_Hair", {"not Blond_Hair": 8548, "Blond_Hair": 1452}),
        (
            "Blond_Hair*Male",
            {
                "not Blond_Hair, not Male": 10_000 - 4217 - (1452 - 81),
                "not Blond_Hair, Male": 4217 - 81,
                "Blond_Hair, not Male": 1452 - 81,
                "Blond_Hair, Male": 81,
            },
        ),
    ],
)
def test_the_groups_of_the_real_celeba(real_data: Path, groups: str, counts: dict[str, int]) -> None:
    source = DATASETS["parquet"](DataSpec(dataset="parquet", path=str(real_data / "celeba10k"), groups=groups))
    assert source.labels is not None
    assert dict(zip(source.classes, np.bincount(source.labels).tolist(), strict=True)) == counts


def test_the_real_celeba_cropped(real_data: Path) -> None:
    path = str(real_data / "celeba10k" / "train-00000-of-00001.parquet")
    spec = DataSpec(
        dataset="parquet", path=path, groups="Male", shares="not Male:0.75,Male:0.25", num_images=80, image_size=64,
        fit="crop", labeler=40,
    )  # fmt: skip
    splits = load(spec)
    assert splits.train.shape == (3, 64, 64)
    assert splits.train.counts() == {"not Male": 60, "Male": 20}
    assert splits.notes["conversion"] == "RGB, 89×109 cropped at the centre and resized (Lanczos) to 64×64"


def test_cells_lead_only_into_their_own_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.png").write_bytes(png(7))
    (tmp_path / "secret.png").write_bytes(png(9))
    (home / "link.png").symlink_to(tmp_path / "secret.png")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        found = open_cell({"bytes": None, "path": path}, home)
        assert isinstance(found, Unreadable)
        assert "leads out of the folder" in found.reason
    assert isinstance(open_cell({"bytes": None, "path": "a.png"}, home), Image.Image)
    assert isinstance(open_cell(png(1), home), Image.Image)
    assert open_cell(None, home) == open_cell({"bytes": None, "path": None}, home) == Unreadable("the row has no image")


@pytest.mark.parametrize(
    ("columns", "fields", "message"),
    [
        ({"a": [png(0)], "b": [png(1)]}, {}, "2 columns hold images: choose one of the columns a, b with"),
        ({"x": [1]}, {}, "no column holds images: choose one of the columns x"),
        ({"a": [png(0)], "x": [1]}, {"image_column": "x"}, "column 'x' holds int64, not images"),
        ({"picture": [png(0)]}, {"image_column": "pictures"}, "no column 'pictures': did you mean 'picture'"),
        ({"a": [png(0)], "Male": [True]}, {"groups": "Mal"}, "no column 'Mal': did you mean 'Male'"),
        ({"a": [png(0)]}, {"split": "train"}, "'parquet' has no use for split"),
    ],
)
def test_columns_are_chosen_by_name(
    tmp_path: Path, columns: dict[str, list[object]], fields: dict[str, str], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(LeadlineError, match=message):
        load(DataSpec(dataset="parquet", path=str(tmp_path / "t.parquet"), **fields))


def test_the_column_asked_for_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [png(3)], "b": [png(5)]}), tmp_path / "t.parquet")
    assert load_images(str(tmp_path), image_column="b").pixels.max() == 5


def test_parquet_that_cannot_be_read_is_named(blobs: Path) -> None:
    with pytest.raises(LeadlineError, match="there is no file or folder /no/such"):
        load(DataSpec(dataset="parquet", path="/no/such"))
    pq.write_table(pa.table({"other": [1]}), blobs / "part-9.parquet")
    with pytest.raises(LeadlineError, match=r"part-9.parquet has other columns than .*part-0.parquet"):
        load_images(str(blobs))
    (blobs / "part-9.parquet").write_bytes(b"PAR1")
    with pytest.raises(LeadlineError, match=r"part-9.parquet cannot be read as Parquet"):
        load_images(str(blobs))
    (blobs / "part-9.parquet").unlink()
    file = blobs / "part-1.parquet"
    content = bytearray(file.read_bytes())
    content[10:3000] = bytes(2990)
    file.write_bytes(content)
    with pytest.raises(LeadlineError, match=r"part-1.parquet cannot be read as Parquet"):
        load_images(str(blobs))


@pytest.fixture
def animals() -> datasets.Dataset:
    animal = datasets.ClassLabel(names=["cat", "dog", "owl"])
    features = datasets.Features({"image": datasets.Image(), "animal": animal, "n": datasets.Value("int32")})
    rows = {
        "image": [Image.new("L", (4, 4), i) for i in range(20)],
        "animal": [i % 2 for i in range(20)],
        "n": [3] * 20,
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set(animals: datasets.Dataset, tmp_path: Path) -> None:
    animals.save_to_disk(tmp_path / "saved")
    images = load_images(f"hf:{tmp_path / 'saved'}")
    assert images.counts() == {"cat": 10, "dog": 10, "owl": 0}
    assert images.pixels[:, 0, 0, 0].tolist() == list(range(20))
    assert images.notes["groups"] == "animal"
    spec = DataSpec(dataset="huggingface", path=str(tmp_path / "saved"), classes="dog", num_images=5, labeler=6)
    splits = load(spec)
    assert splits.train.pixels[:, 0, 0, 0].tolist() == [int(name) for name in splits.train.ids]
    assert all(int(name) % 2 for name in splits.train.ids)
    assert splits.labeler is not None
    assert splits.labeler.counts() == {"cat": 3, "dog": 3, "owl": 0}
    with pytest.raises(LeadlineError, match=r"holds the one split None: leave out --set data.split=train"):
        load(spec.model_copy(update={"split": "train"}))


def test_the_splits_of_a_saved_dictionary(animals: datasets.Dataset, tmp_path: Path) -> None:
    parts = datasets.DatasetDict({"train": animals.select(range(12)), "test": animals.select(range(12, 20))})
    parts.save_to_disk(tmp_path / "saved")
    assert len(load_images(str(tmp_path / "saved"))) == 12
    images = load_images(str(tmp_path / "saved"), split="test")
    assert images.pixels[:, 0, 0, 0].tolist() == list(range(12, 20))
    with pytest.raises(LeadlineError, match="has no split 'tests': did you mean 'test'"):
        load_images(str(tmp_path / "saved"), split="tests")


def test_a_folder_that_load_dataset_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for i in range(6):
        file = tmp_path / "pets" / ("cat" if i < 4 else "dog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(i))
    images = load_images(f"hf:{tmp_path / 'pets'}")
    assert images.counts() == {"cat": 4, "dog": 2}
    assert sorted(images.pixels[:, 0, 0, 0].tolist()) == list(range(6))
    with pytest.raises(LeadlineError, match="cannot be loaded: ValueError: Unknown split"):
        load_images(f"hf:{tmp_path / 'pets'}", split="nope")


def test_parquet_keeps_the_class_names_of_hugging_face(animals: datasets.Dataset, tmp_path: Path) -> None:
    animals.to_parquet(tmp_path / "a.parquet")
    assert load_images(str(tmp_path / "a.parquet")).counts() == {"cat": 10, "dog": 10, "owl": 0}


def test_nothing_is_fetched_without_leave(tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match=r"no folder no/such here; .*--set data.download=true"):
        load(DataSpec(dataset="huggingface", path="no/such"))
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(LeadlineError, match=r"is a file: read a .parquet file with the data set parquet"):
        load(DataSpec(dataset="huggingface", path=str(tmp_path / "a.parquet")))


def test_an_offline_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(path: str, split: str) -> None:
        raise ConnectionError(f"Couldn't reach '{path}' ({split}) on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(LeadlineError, match="no/such cannot be loaded: ConnectionError: Couldn't reach"):
        load(DataSpec(dataset="huggingface", path="no/such", download=True))


def test_a_damaged_image_in_a_table_is_replaced(tmp_path: Path) -> None:
    cells = [png(i) for i in range(9)]
    cells[4] = cells[4][:50]
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    images = load_images(str(tmp_path), max_unreadable_share=0.2)
    assert np.array_equal(images.pixels[:, 0, 0, 0], [0, 1, 2, 3, 5, 6, 7, 8])
    assert images.notes["unreadable"]["files"][0].startswith("t.parquet:4: ")
