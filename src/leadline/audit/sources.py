"""What people hand to `measure`, as image sets: arrays, tensors, paths, names of data sets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.records import ImageSet, Splits

Images = ImageSet | np.ndarray | torch.Tensor | str | Path


def image_set(
    given: Images,
    name: str,
    *,
    like: ImageSet | None = None,
    groups: str | None = None,
    progress: ProgressCallback = silent,
) -> ImageSet:
    """Any form of images as a checked ImageSet.

    given: an ImageSet; uint8 or float [n, c, h, w] (floats in [-1, 1]), an array or tensor; a folder, Parquet file
    or DATASET[:PATH] that `leadline.data.load_images` reads, converted to the channels and size of `like`.
    groups: the column with the classes, for what is read from there. Raises LeadlineError when there are no images,
    or they are not as large as those of `like`.
    """
    if isinstance(given, str | Path):
        from leadline.data import load_images

        fields: dict[str, Any] = {} if groups is None else {"groups": groups}
        images = load_images(str(given), like, progress=progress, **fields)
    elif isinstance(given, ImageSet):
        images = given
    else:
        images = ImageSet(name=name, pixels=to_pixels(given, name))
    if len(images) == 0:
        raise LeadlineError(f"{name}: no images were given")
    if like is not None and images.shape != like.shape:
        raise LeadlineError(
            f"{name} are {_size(images)}, but {like.name!r} is {_size(like)} (channels × height × width): "
            "convert one of them (--set data.image_size=, --set data.channels=)"
        )
    return images


def reference_splits(
    given: Images | Splits, groups: str | None, like: ImageSet | None, progress: ProgressCallback = silent
) -> Splits:
    """The training data, with held-out and labeler images where they come along."""
    if groups is not None and not isinstance(given, str | Path):
        raise LeadlineError(
            f"groups={groups!r} names a column of a data set that is loaded by name; "
            "an image set brings its classes as its labels"
        )
    if isinstance(given, Splits):
        return replace(given, train=image_set(given.train, "reference images", like=like))
    return Splits(train=image_set(given, "reference images", like=like, groups=groups, progress=progress))


def to_pixels(images: "np.ndarray | torch.Tensor", name: str) -> np.ndarray:
    """uint8 [n, c, h, w] from uint8, or from floats in [-1, 1] rounded to the nearest of 256 values.

    Raises LeadlineError on another shape or type, values that are not finite or lie outside, and floats none of
    which is below 0, because those are in [0, 1].
    """
    array: np.ndarray[Any, Any] = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        hint = "; these look like channels last: move the last axis to the second" if _channels_last(array) else ""
        raise LeadlineError(f"{name}: images are [n, c, h, w] with c of 1 or 3, not {list(array.shape)}{hint}")
    if array.dtype == np.uint8 or array.size == 0:
        pixels: np.ndarray = array.astype(np.uint8, copy=False)
        return pixels
    if array.dtype.kind != "f":
        raise LeadlineError(f"{name}: images are uint8, or floats in [-1, 1], not {array.dtype}")
    bad = ~np.isfinite(array).all((1, 2, 3))
    if bad.any():
        raise LeadlineError(
            f"{name}: {int(bad.sum())} of {len(array)} images hold values that are not finite (first: image "
            f"{int(bad.argmax())}): leave them out, or see why the model makes them"
        )
    low, high = float(array.min()), float(array.max())
    if low < -1 or high > 1:
        raise LeadlineError(f"{name}: float images lie in [-1, 1], but these run from {low:g} to {high:g}: scale them")
    if low >= 0 and high > 0:
        raise LeadlineError(
            f"{name}: float images lie in [-1, 1], but no value is below 0, as if they were in [0, 1]: "
            "give 2 * images - 1, or uint8"
        )
    rounded: np.ndarray = np.rint((array.astype(np.float32) + 1) * 127.5).astype(np.uint8)
    return rounded


def _channels_last(array: np.ndarray) -> bool:
    return array.ndim == 4 and array.shape[3] in (1, 3)


def _size(images: ImageSet) -> str:
    return "×".join(str(side) for side in images.shape)
