"""Parquet shards: lossless, and readable by Hugging Face's own library."""

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leadline.data import load_images
from leadline.data.shards import read_rows, read_shards, write_shard
from leadline.errors import LeadlineError


def random_pixels(n: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, 5, 7), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_round_trip_is_lossless(tmp_path: Path, channels: int) -> None:
    pixels = random_pixels(10, channels)
    for i, start in enumerate((0, 4, 8)):
        part = slice(start, start + 4)
        indices = list(range(10))[part]
        write_shard(
            tmp_path / f"shard-{i}.parquet", pixels[part], {"index": indices, "sampler": ["ddim"] * len(indices)}
        )
    read, columns = read_shards(tmp_path)
    assert np.array_equal(read, pixels)
    assert columns == {"index": list(range(10)), "sampler": ["ddim"] * 10}
    read, columns = read_shards(tmp_path, limit=6)
    assert np.array_equal(read, pixels[:6])
    assert columns["index"] == list(range(6))


def test_single_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    pixels = random_pixels(230, 1)
    for i, part in enumerate((slice(0, 210), slice(210, 230))):
        write_shard(tmp_path / f"shard-{i}.parquet", pixels[part], {"index": list(range(230))[part]})
    rows = [229, 3, 209, 210, 3]
    read, columns = read_rows(tmp_path, rows)
    assert np.array_equal(read, pixels[rows])
    assert columns == {"index": rows}
    for wrong in ([230], [-1], []):
        with pytest.raises(LeadlineError, match="holds 230 images: row"):
            read_rows(tmp_path, wrong)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_datasets_opens_a_shard_as_images(tmp_path: Path, channels: int, mode: str) -> None:
    pixels = random_pixels(3, channels)
    file = tmp_path / "s.parquet"
    write_shard(file, pixels, {"index": [5, 6, 7], "name": ["a", "b", "c"]})
    loaded = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded["index"][:] == [5, 6, 7]
    assert loaded["name"][:] == ["a", "b", "c"]
    image = loaded[1]["image"]
    assert image.mode == mode
    expected = pixels[1, 0] if channels == 1 else pixels[1].transpose(1, 2, 0)
    assert np.array_equal(np.asarray(image), expected)


def test_a_shard_is_a_data_set_like_any_other(tmp_path: Path) -> None:
    pixels = random_pixels(4, 3)
    write_shard(tmp_path / "s.parquet", pixels, {"kind": ["a", "b", "a", "a"]})
    images = load_images(str(tmp_path), groups="kind")
    assert np.array_equal(images.pixels, pixels)
    assert images.counts() == {"a": 3, "b": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [1, 2]}, "names other than 'image'"),
        ({"index": [1]}, "columns of 2 values .* column 'index' has 1"),
        ({"x": [1, "a"]}, "only integers or only text"),
        ({"x": [0.5, 0.5]}, "only integers or only text"),
    ],
)
def test_bad_columns_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        write_shard(tmp_path / "s.parquet", random_pixels(2, 1), columns)


def test_two_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match="1 or 3 channels, not 2"):
        write_shard(tmp_path / "s.parquet", random_pixels(1, 2), {})


def test_folders_that_hold_no_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match=r"holds no images in .parquet files"):
        read_shards(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(LeadlineError, match="has no column 'image', only x"):
        read_shards(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LeadlineError, match=r"a.parquet cannot be read as Parquet"):
        read_shards(tmp_path)


def test_shards_of_different_shapes_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", random_pixels(1, 1), {})
    write_shard(tmp_path / "b.parquet", random_pixels(1, 3), {})
    with pytest.raises(LeadlineError, match=r"shape \(3, 5, 7\) after some of \(1, 5, 7\)"):
        read_shards(tmp_path)
