"""How a person names images on the command line: a path, or DATASET[:PATH]."""

from pathlib import Path

from leadline.data.folders import folder_kind
from leadline.data.mnist import SPLITS, idx_file
from leadline.data.source import DATASETS, EXTENSIONS
from leadline.data.tables import is_saved_dataset, parquet_files
from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import DataSpec

ALIASES = {"hf": "huggingface"}


def parse_source(text: str) -> DataSpec:
    """digits, mnist:/data/mnist, imagefolder:faces, hf:NAME or a plain path -> the DataSpec that names it.

    The kind of a plain path is found out by looking: a .parquet file or a folder of them, a data set saved by
    Hugging Face, IDX files, sub-folders with images, a folder of images. A data set's name comes before a path of
    that name: write ./digits for a folder digits. Raises LeadlineError with the nearest known names.
    """
    name, colon, path = text.partition(":")
    name = ALIASES.get(name, name)
    if name in DATASETS:
        if colon and not path:
            raise LeadlineError(f"{text!r} names no path: write {name}:PATH, or {name} alone")
        return DataSpec(dataset=name, path=path or None)
    place = Path(text)
    # Path("") is the current folder, which nobody means by an empty word.
    if text and place.exists():
        return DataSpec(dataset=_kind(place), path=text)
    known = did_you_mean(name, (*DATASETS, *ALIASES))
    raise LeadlineError(f"{text!r} is neither a file or folder nor a data set ({known})")


def _kind(place: Path) -> str:
    """The data set that reads `place`."""
    if place.is_file():
        if place.suffix == ".parquet":
            return "parquet"
        raise LeadlineError(f"{place} is one file, and not .parquet: name a folder of images or a .parquet file")
    if is_saved_dataset(place):
        return "huggingface"
    if parquet_files(place):
        return "parquet"
    if any(idx_file(place, split, "images-idx3") for split in SPLITS):
        return "mnist"
    kind = folder_kind(place)
    if kind is None:
        raise LeadlineError(
            f"{place} holds neither .parquet files nor images ({', '.join(sorted(EXTENSIONS))}) nor IDX files"
        )
    return kind
