"""CelebA: where it is looked for, and the real one where LEADLINE_DATA has it."""

import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leadline.data import DATASETS, load, load_images
from leadline.data.splits import plan_splits
from leadline.errors import LeadlineError
from leadline.presets import preset
from leadline.recipe import DataSpec


def png(value: int) -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (4, 5), (value, value, value)).save(file, format="PNG")
        return file.getvalue()


def rows(number: int) -> dict[str, list[object]]:
    """Image i is all i; every second one is Male, every third Young."""
    return {
        "image": [{"bytes": png(i), "path": None} for i in range(number)],
        "Male": [i % 2 == 0 for i in range(number)],
        "Young": [i % 3 == 0 for i in range(number)],
    }


def write(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True)
    file = folder / "part.parquet"
    pq.write_table(pa.table(rows(number)), file)
    return file


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A hub whose copy has 12 images; the calls that reached it. No test here goes to the network."""
    calls: list[tuple[str, str]] = []

    def load_dataset(path: str, split: str) -> datasets.Dataset:
        calls.append((path, split))
        boolean = datasets.Value("bool")
        features = datasets.Features({"image": datasets.Image(), "Male": boolean, "Young": boolean})
        return datasets.Dataset.from_dict(rows(12), features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


@pytest.fixture
def empty_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data sets, none of them CelebA."""
    monkeypatch.setenv("LEADLINE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_path_comes_first_then_leadline_data_then_the_hub(
    tmp_path: Path, empty_data: Path, hub: list[tuple[str, str]]
) -> None:
    file = write(tmp_path / "mine", 6)
    assert len(load_images("celeba", download=True)) == 12
    assert hub == [("flwrlabs/celeba", "train")]
    write(empty_data / "celeba10k", 9)
    assert len(load_images("celeba", download=True)) == 9
    assert len(load_images(f"celeba:{file}")) == len(load_images(f"celeba:{file.parent}")) == 6
    assert len(hub) == 1


def test_the_attributes_are_the_groups_wherever_it_comes_from(empty_data: Path) -> None:
    fetched = load_images("celeba", groups="Young*Male", download=True)
    write(empty_data / "celeba10k", 12)
    local = load_images("celeba", groups="Young*Male")
    assert local.counts() == {"not Young, not Male": 4, "not Young, Male": 4, "Young, not Male": 2, "Young, Male": 2}
    assert fetched.fingerprint() == local.fingerprint()
    assert (fetched.name, local.name) == ("flwrlabs/celeba", "celeba10k")


@pytest.mark.usefixtures("empty_data")
def test_the_hub_has_splits(hub: list[tuple[str, str]]) -> None:
    load_images("celeba", split="valid", download=True)
    assert hub == [("flwrlabs/celeba", "valid")]


def test_files_have_no_splits(empty_data: Path) -> None:
    write(empty_data / "celeba10k", 6)
    with pytest.raises(LeadlineError, match="'celeba' has no use for split .*leave out --set data.split"):
        load_images("celeba", split="valid", download=True)


WAYS = r"--set data\.path=.*LEADLINE_DATA to a folder that has them in celeba10k/.*--set data\.download=true"


def test_without_leave_nothing_is_fetched(
    empty_data: Path, hub: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LeadlineError, match=f"celeba: there is no folder {empty_data / 'celeba10k'}: .*{WAYS}"):
        load(DataSpec(dataset="celeba"))
    monkeypatch.delenv("LEADLINE_DATA")
    with pytest.raises(LeadlineError, match=f"celeba: LEADLINE_DATA is not set: .*{WAYS}"):
        load(DataSpec(dataset="celeba"))
    assert not hub


def test_a_path_that_is_not_there_is_never_replaced_by_the_hub(tmp_path: Path, hub: list[tuple[str, str]]) -> None:
    with pytest.raises(LeadlineError, match=r"data\.path: there is no file or folder"):
        load(DataSpec(dataset="celeba", path=str(tmp_path / "nowhere"), download=True))
    assert not hub


def test_an_attribute_that_is_misspelt(empty_data: Path) -> None:
    write(empty_data / "celeba10k", 6)
    with pytest.raises(LeadlineError, match="no column 'Mal': did you mean 'Male'"):
        load(DataSpec(dataset="celeba", groups="Mal"))


def test_the_preset_fits_into_the_real_ten_thousand(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,217 of the 10,000 are men: 6,000 and 1,000 in those shares, and all that is left for the labeler."""
    monkeypatch.setenv("LEADLINE_DATA", str(real_data))
    spec = preset("celeba-gender").data
    source = DATASETS["celeba"](spec)
    assert source.labels is not None
    plan = plan_splits(source.labels, source.classes, spec)
    numbers = [np.bincount(source.labels[part]).tolist() for part in (plan.train, plan.held_out, plan.labeler)]
    assert source.classes == ("not Male", "Male")
    assert numbers == [[3470, 2530], [578, 422], [5783 - 3470 - 578, 4217 - 2530 - 422]]


def test_the_debug_preset_loads_from_the_real_celeba(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_DATA", str(real_data))
    splits = load(preset("celeba-gender-debug").data)
    assert splits.train.shape == (3, 16, 16)
    assert splits.notes == {
        "dataset": "celeba10k",
        "classes": ["not Male", "Male"],
        "image_column": "image",
        "groups": "Male",
        "chosen_classes": ["not Male", "Male"],
        "conversion": "RGB, 89×109 resized (Lanczos) to 16×16",
        "unreadable": {"count": 0, "tried": 640, "share": 0.0, "files": []},
        "counts": {
            "train": {"not Male": 116, "Male": 84},
            "held_out": {"not Male": 23, "Male": 17},
            "labeler": {"not Male": 200, "Male": 200},
        },
        "identical_held_out": 0,
    }
