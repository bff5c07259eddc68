"""MNIST and its drop-in replacements: IDX files, plain or gzip, parsed here with every size checked."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from leadline.data.source import DATASETS, Source, array_source, refuse_unused, require_label_groups
from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import DataSpec

SPLITS = {"train": "train", "test": "t10k"}
"""Name of the split -> how its files' names begin."""
MAX_BYTES = 1 << 31
"""A header that promises more than this is not believed: MNIST has 47 MB."""


@DATASETS.register("mnist")
def mnist(spec: DataSpec) -> Source:
    """The IDX files of a folder, grey. split: train (default), test or all.

    Looked for in data.path, else in $LEADLINE_DATA/mnist, else in the folder that an earlier download filled;
    with data.download, torchvision fetches what is not there.
    """
    refuse_unused(spec, "image_column")
    require_label_groups(spec)
    wanted = spec.split or "train"
    if wanted not in (*SPLITS, "all"):
        raise LeadlineError(
            f"mnist has no split {wanted!r}: {did_you_mean(wanted, (*SPLITS, 'all'))} (--set data.split=…)"
        )
    splits = tuple(SPLITS) if wanted == "all" else (wanted,)
    folder = _folder(spec, splits)
    parts = [_split(folder, split) for split in splits]
    if len({images.shape[1:] for images, _ in parts}) > 1:
        raise LeadlineError(f"{folder}: the images of train and test differ in size: choose one with --set data.split=")
    pixels = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    if len(labels) and labels.max() > 9:
        raise LeadlineError(f"{folder}: labels are digits 0 to 9, but the files hold {labels.max()}")
    ids = [f"{split}/{row}" for split, (images, _) in zip(splits, parts, strict=True) for row in range(len(images))]
    return array_source("mnist", pixels, labels, tuple("0123456789"), ids)


def idx_file(folder: Path, split: str, kind: str) -> Path | None:
    """The IDX file of a split; kind is images-idx3 or labels-idx1. Plain before gzip, either spelling of the name."""
    names = [f"{SPLITS[split]}-{spelling}-ubyte" for spelling in (kind, kind.replace("-idx", ".idx"))]
    candidates = [folder / (name + suffix) for suffix in ("", ".gz") for name in names]
    return next((file for file in candidates if file.is_file()), None)


def read_idx(file: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The uint8 array of an IDX file: magic 0x0000 08 <dimensions>, big-endian sizes, then the values.

    Raises LeadlineError when the magic number, the sizes or the length do not fit.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if header[:4] != bytes((0, 0, 8, dimensions)):
                raise LeadlineError(
                    f"{file}: an IDX file of {dimensions}-dimensional bytes begins with 0000080{dimensions}, "
                    f"this one with {header[:4].hex() or 'nothing'}"
                )
            shape = tuple(int(size) for size in np.frombuffer(header[4 : len(header) // 4 * 4], dtype=">u4"))
            expected = math.prod(shape) if len(shape) == dimensions else 0
            if not 0 < expected <= MAX_BYTES:
                raise LeadlineError(f"{file}: cannot hold an array of sizes {shape}: the file is damaged")
            # One byte more than expected: a longer file is noticed, and a gzip bomb is not unpacked.
            values = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LeadlineError(f"{file} cannot be read, fetch it again: {error}") from None
    if len(values) != expected:
        found = f"only {len(values):,}" if len(values) < expected else "more"
        raise LeadlineError(f"{file}: sizes {shape} need {expected:,} bytes, there are {found}: fetch it again")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def cache_folder() -> Path:
    """Where a download without data.path goes: leadline/mnist in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leadline" / "mnist"


def _split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    images_file, labels_file = (idx_file(folder, split, kind) for kind in ("images-idx3", "labels-idx1"))
    if images_file is None or labels_file is None:
        raise LeadlineError(f"{folder}: the images or the labels of the {split} split are missing")
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise LeadlineError(f"{folder}: the {split} split has {len(images):,} images but {len(labels):,} labels")
    return images, labels


def _folder(spec: DataSpec, splits: tuple[str, ...]) -> Path:
    """The folder that holds the files of all `splits`, filled by a download where that is allowed."""
    if spec.path is not None:
        roots = [Path(spec.path)]
    else:
        shared = os.environ.get("LEADLINE_DATA")
        roots = [Path(shared) / "mnist"] if shared else []
        roots.append(cache_folder())
    # torchvision's downloads lie in MNIST/raw.
    folders = [folder for root in roots for folder in (root, root / "MNIST" / "raw")]
    for folder in folders:
        if all(idx_file(folder, split, "images-idx3") for split in splits):
            return folder
    if not spec.download:
        raise LeadlineError(
            f"mnist: no IDX files (train-images-idx3-ubyte[.gz], …) in {' or '.join(str(root) for root in roots)}: "
            "name their folder with --set data.path=…, set the environment variable LEADLINE_DATA to a folder "
            "that has them in mnist/, or fetch them with --set data.download=true"
        )
    _download(roots[-1])
    return roots[-1] / "MNIST" / "raw"


def _download(root: Path) -> None:
    from torchvision.datasets import MNIST

    try:
        MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise LeadlineError(
            f"mnist could not be fetched ({error}): get the four IDX files elsewhere and name their folder "
            "with --set data.path=…"
        ) from error
