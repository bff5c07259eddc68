"""IDX files: the real ones where LEADLINE_DATA has them, and damaged ones made here."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision

from leadline.data import DATASETS, load, load_images
from leadline.data.mnist import cache_folder, read_idx
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_split(folder: Path, prefix: str, number: int, spelling: str = "-idx") -> None:
    """`number` images of 4×4 px, image i all i, labels i mod 10."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.broadcast_to(np.arange(number)[:, None, None], (number, 4, 4))
    (folder / f"{prefix}-images{spelling}3-ubyte").write_bytes(idx(images))
    (folder / f"{prefix}-labels{spelling}1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(number) % 10)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without MNIST: no LEADLINE_DATA, an empty cache."""
    monkeypatch.delenv("LEADLINE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_real_mnist(real_data: Path) -> None:
    source = DATASETS["mnist"](DataSpec(dataset="mnist", path=str(real_data / "mnist")))
    assert source.labels is not None
    counts = np.bincount(source.labels)
    assert (len(source), counts[6], counts[9]) == (60_000, 5918, 5949)
    # The first label of MNIST is a 5, and the mean pixel of its training images is .1307 (the usual normalisation).
    assert source.labels[0] == 5
    pixels = read_idx(real_data / "mnist" / "train-images-idx3-ubyte.gz", 3)
    assert pixels.shape == (60_000, 28, 28)
    assert pixels.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert np.array_equal(np.asarray(next(source.read([59_999]))), pixels[59_999])


def test_the_real_mnist_in_shares_padded(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_DATA", str(real_data))
    spec = DataSpec(
        dataset="mnist", split="test", shares="6:0.9,9:0.1", num_images=500, held_out=50, image_size=32, fit="pad"
    )
    splits = load(spec)
    assert (splits.train.counts()["6"], splits.train.counts()["9"]) == (450, 50)
    assert splits.train.shape == (1, 32, 32)
    assert splits.notes["conversion"] == "grey, 28×28 padded with black to 32×32"
    assert splits.train.pixels[:, :, :2].max() == 0


@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
def test_splits_of_a_folder(home: Path, spelling: str) -> None:
    write_split(home / "m", "train", 30, spelling)
    write_split(home / "m", "t10k", 20, spelling)
    sizes = {split: len(load_images(f"mnist:{home / 'm'}", split=split)) for split in ("train", "test", "all")}
    assert sizes == {"train": 30, "test": 20, "all": 50}
    everything = load_images(f"mnist:{home / 'm'}", split="all")
    assert everything.ids[29:31] == ("train/29", "test/0")
    assert everything.pixels[:, 0, 0, 0].tolist() == [*range(30), *range(20)]
    assert everything.labels is not None
    assert everything.labels.tolist() == [i % 10 for i in (*range(30), *range(20))]


def test_without_a_path_leadline_data_comes_first_then_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(cache_folder() / "MNIST" / "raw", "train", 20)
    assert len(load_images("mnist")) == 20
    write_split(home / "data" / "mnist", "train", 30)
    monkeypatch.setenv("LEADLINE_DATA", str(home / "data"))
    assert len(load_images("mnist")) == 30


@pytest.mark.usefixtures("home")
def test_a_missing_mnist_names_all_ways_to_get_it() -> None:
    message = r"no IDX files .*--set data.path=.*LEADLINE_DATA.*--set data.download=true"
    with pytest.raises(LeadlineError, match=message):
        load(DataSpec(dataset="mnist"))


def test_download_is_left_to_torchvision(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: str, download: bool) -> None:
        assert download
        write_split(Path(root) / "MNIST" / "raw", "train", 40)

    monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
    assert len(load_images("mnist", download=True)) == 40
    assert (home / "cache" / "leadline" / "mnist").is_dir()


@pytest.mark.usefixtures("home")
def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: str, download: bool) -> None:
        raise RuntimeError(f"Error downloading to {root} {download}")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    with pytest.raises(LeadlineError, match=r"could not be fetched \(Error downloading.*--set data.path="):
        load_images("mnist", download=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((3, 2, 2)))[:-1], r"sizes \(3, 2, 2\) need 12 bytes, there are only 11"),
        (idx(np.zeros((3, 2, 2))) + b"x", "need 12 bytes, there are more"),
        (idx(np.zeros(12)), "begins with 00000803, this one with 00000801"),
        (b"", "this one with nothing"),
        (b"\x00\x00\x08\x03\x00\x00", "the file is damaged"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "cannot hold an array of sizes"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(LeadlineError, match=message):
        read_idx(tmp_path / "x", 3)
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    with pytest.raises(LeadlineError, match=message):
        read_idx(tmp_path / "x.gz", 3)


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b"no gzip" + b, lambda b: b[:20] + b"\xff" * 9])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: object) -> None:
    content = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (9, 4, 4))))
    (tmp_path / "x.gz").write_bytes(damage(content))  # type: ignore[operator]
    with pytest.raises(LeadlineError, match="cannot be read, fetch it again"):
        read_idx(tmp_path / "x.gz", 3)


def test_inconsistent_folders_are_refused(home: Path) -> None:
    folder = home / "m"
    write_split(folder, "train", 30)
    labels = folder / "train-labels-idx1-ubyte.gz"
    for values, message in ((np.arange(20) % 10, "30 images but 20 labels"), (np.arange(30), "hold 29")):
        labels.write_bytes(gzip.compress(idx(values)))
        with pytest.raises(LeadlineError, match=message):
            load_images(f"mnist:{folder}")
    labels.unlink()
    with pytest.raises(LeadlineError, match="the images or the labels of the train split are missing"):
        load_images(f"mnist:{folder}")
    with pytest.raises(LeadlineError, match="no split 'validation': known: all, test, train"):
        load_images(f"mnist:{folder}", split="validation")
