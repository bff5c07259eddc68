"""What a landscape is made of: toy points in the plane, or the images of a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.data import load
from leadline.errors import LeadlineError
from leadline.lab.sources import data_spec
from leadline.progress import ProgressCallback, silent
from leadline.theory.energy import toy

NO_LABELS = "the data has no labels: --set data.groups=COLUMN, or a data set with classes"
CLASSES = ("majority", "minority")
MOST_IMAGES = 500
"""Images that are taken where no number is given."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points with their classes: values float64 [n, d], labels [n]. shape: (c, h, w) where they are images.

    facts: what the record keeps of them. Without labels there is one class, named by the empty string.
    """

    name: str
    values: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    shape: tuple[int, int, int] | None = None
    facts: dict[str, Any]

    @property
    def followed(self) -> int:
        """The class whose share is followed: the largest, of several alike the first."""
        return int(torch.bincount(self.labels, minlength=len(self.classes)).argmax())

    @property
    def majority(self) -> bool:
        """Whether the followed class is one: ahead of the next by more than 1 % of the points, and a tenth or more
        above an even share; a single class is. Otherwise it is merely the one that is followed."""
        counts = torch.bincount(self.labels, minlength=len(self.classes)).sort(descending=True).values.tolist()
        if len(counts) == 1:
            return True
        total, ahead = len(self.labels), counts[0] - counts[1]
        return bool(100 * ahead > total and 10 * len(counts) * counts[0] >= 11 * total)

    @property
    def labelled(self) -> bool:
        """Whether the points have classes."""
        return self.classes != ("",)

    def digest(self) -> str:
        """16 hex digits of values and labels."""
        digest = hashlib.sha256(self.values.numpy().astype("<f8").tobytes())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def toy_points(layout: str, num_points: int, share: float, seed: int, replicate: int = 0) -> Points:
    """A drawing of a toy landscape: clusters, grid or moons. Raises LeadlineError as `leadline.theory.energy.toy`."""
    values, labels = toy(layout, num_points, share, seed, replicate)
    return Points(
        name=layout,
        values=values,
        labels=labels,
        classes=CLASSES,
        facts={"toy": layout, "num_points": num_points, "share": share, "seed": seed},
    )


def image_points(
    train: str, overrides: Sequence[str] = (), num_points: int | None = None, *, progress: ProgressCallback = silent
) -> Points:
    """Training images of a data set, pixels in [-1, 1], with the classes that occur among them.

    train: digits, mnist:PATH, a path; overrides: --set data.… . num_points: how many, in the shares that are asked
    for; default: data.num_images, else all up to 500.
    """
    spec = data_spec(train, overrides)
    if num_points is not None and spec.num_images is not None:
        raise LeadlineError("--num-points and --set data.num_images say the same: leave one out")
    if num_points is not None:
        spec = spec.model_copy(update={"num_images": num_points})
    images = load(spec, progress).train
    if spec.num_images is None and len(images) > MOST_IMAGES:
        spec = spec.model_copy(update={"num_images": MOST_IMAGES})
        images = load(spec, progress).train
    if len(images) < 2:
        raise LeadlineError(f"a landscape needs two images or more, {train} gives {len(images)}: --num-points")
    pixels = torch.from_numpy(np.ascontiguousarray(images.images())).double()
    labels, classes = np.zeros(len(images), dtype=np.int64), ("",)
    if images.labels is not None:
        present, labels = np.unique(images.labels, return_inverse=True)
        classes = tuple(images.classes[each] for each in present)
    return Points(
        name=images.name,
        values=pixels.flatten(1),
        labels=torch.from_numpy(labels).long(),
        classes=classes,
        shape=images.shape,
        facts={"data": spec.model_dump(mode="json"), "fingerprint": images.fingerprint()},
    )
