"""What a data set gives to the loader: ids and labels of everything cheaply, pixels only of what was chosen."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageOps, UnidentifiedImageError

from leadline.errors import LeadlineError
from leadline.recipe import DataSpec
from leadline.registry import Registry

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""The only decoders that foreign bytes may reach: others of PIL's start programs (EPS) or read further files."""
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image that could not be decoded."""

    reason: str


Readable = Image.Image | Unreadable


@dataclass(frozen=True, kw_only=True)
class Source:
    """A whole data set, not yet decoded.

    ids: one per image, unique. labels: int64 [n], indices into `classes`, or None when there are none.
    read: ascending indices -> for each an image or the reason why there is none, in that order.
    flag: the name of a yes/no column -> whether each image has it; None where there are no columns.
    captions: what each image shows, in words; none where none were asked for.
    notes: what was found beside the images, for the run's record.
    """

    name: str
    ids: Sequence[str]
    read: Callable[[Sequence[int]], Iterator[Readable]]
    labels: Int[np.ndarray, " n"] | None = None
    classes: tuple[str, ...] = ()
    flag: Callable[[str], Bool[np.ndarray, " n"]] | None = None
    captions: Sequence[str] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


DATASETS: Registry[Callable[[DataSpec], Source]] = Registry("data set")


def array_source(
    name: str, pixels: np.ndarray, labels: Int[np.ndarray, " n"], classes: tuple[str, ...], ids: Sequence[str]
) -> Source:
    """A source over grey images [n, h, w] that are in memory already."""

    def read(indices: Sequence[int]) -> Iterator[Readable]:
        return (Image.fromarray(pixels[i]) for i in indices)

    return Source(name=name, ids=ids, read=read, labels=labels, classes=classes)


def open_image(file: Path | bytes) -> Readable:
    """The decoded image of a file or of a file's content: the first frame of an animation, upright by its EXIF
    orientation; or why there is none.

    PIL's limit against decompression bombs counts as a reason, at its warning level.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        # PIL's own message holds a memory address, and the record of a run must not.
        return Unreadable(f"no image in one of the formats {', '.join(FORMATS)}")
    # A decoder of foreign bytes may raise anything: whatever it is, this file is unreadable and the next one is not.
    except Exception as error:
        return Unreadable(f"{type(error).__name__}: {error}")


def printable(text: str) -> str:
    """The text with line ends, control characters and bytes that are no UTF-8 written as \\n, \\x1b, \\udcff.

    Names of foreign files are shown on a terminal, which would obey them, and saved as UTF-8, which cannot hold them.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def refuse_unused(spec: DataSpec, *names: str) -> None:
    """Raise LeadlineError when one of the fields `names`, which this data set has no use for, is set."""
    for name in names:
        value = getattr(spec, name)
        if value is not None:
            raise LeadlineError(
                f"data set {spec.dataset!r} has no use for {name} (given: {value!r}): leave out --set data.{name}"
            )


def require_path(spec: DataSpec, what: str) -> str:
    """spec.path, or a LeadlineError that says what it has to name."""
    if not spec.path:
        raise LeadlineError(f"data set {spec.dataset!r} needs --set data.path=…: {what}")
    return spec.path


def require_label_groups(spec: DataSpec) -> None:
    """Raise LeadlineError unless `groups` is None or "label": this data set has no other attribute."""
    if spec.groups not in (None, "label"):
        raise LeadlineError(
            f"data set {spec.dataset!r} has the one grouping 'label', not {spec.groups!r}: "
            "leave out --set data.groups (--groups)"
        )
