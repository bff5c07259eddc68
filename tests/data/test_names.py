"""Names of sources on the command line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from leadline.data import parse_source
from leadline.errors import LeadlineError


def make(place: Path, *names: str) -> None:
    for name in names:
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            pq.write_table(pa.table({"x": [1]}), file)
        elif file.suffix == ".png":
            Image.new("L", (4, 4)).save(file)
        else:
            file.touch()


@pytest.mark.parametrize(
    ("text", "dataset", "path"),
    [
        ("digits", "digits", None),
        ("mnist", "mnist", None),
        ("mnist:/data/mnist", "mnist", "/data/mnist"),
        ("imagefolder:faces", "imagefolder", "faces"),
        ("hf:owner/name", "huggingface", "owner/name"),
        ("huggingface:owner/name", "huggingface", "owner/name"),
    ],
)
def test_names_of_data_sets(text: str, dataset: str, path: str | None) -> None:
    spec = parse_source(text)
    assert (spec.dataset, spec.path) == (dataset, path)


@pytest.mark.parametrize(
    ("names", "dataset"),
    [
        (("a.png", "notes.txt"), "folder"),
        (("cat/a.png", "dog/b.png"), "imagefolder"),
        (("a.parquet", "cat/a.png"), "parquet"),
        (("dataset_info.json", "state.json"), "huggingface"),
        (("dataset_dict.json",), "huggingface"),
        (("t10k-images-idx3-ubyte.gz",), "mnist"),
    ],
)
def test_the_kind_of_a_folder_is_found_out(tmp_path: Path, names: tuple[str, ...], dataset: str) -> None:
    make(tmp_path, *names)
    spec = parse_source(str(tmp_path))
    assert (spec.dataset, spec.path) == (dataset, str(tmp_path))


def test_a_parquet_file(tmp_path: Path) -> None:
    make(tmp_path, "a.parquet")
    assert parse_source(str(tmp_path / "a.parquet")).dataset == "parquet"


def test_a_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "digits", "a.png")
    monkeypatch.chdir(tmp_path)
    assert parse_source("digits").dataset == "digits"
    assert parse_source("./digits").dataset == "folder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digit", "neither a file or folder nor a data set .*did you mean 'digits'"),
        ("mnits:/data", "did you mean 'mnist'"),
        ("mnist:", "names no path: write mnist:PATH, or mnist alone"),
        ("", "neither a file or folder"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        parse_source(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "neither .parquet files nor images"),
        (("a.png", "cat/b.png"), r"both directly \(1\) and in sub-folders \(1\): say folder:.* or imagefolder:"),
    ],
)
def test_folders_of_no_clear_kind_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(LeadlineError, match=message):
        parse_source(str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(LeadlineError, match=r"is one file, and not .parquet"):
        parse_source(str(tmp_path / "a.txt"))
