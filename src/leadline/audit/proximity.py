"""The training images near each image, in one space: nearest, first of another picture, mean over a neighbourhood."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from leadline.audit.context import AuditContext, Part
from leadline.audit.neighbors import nearest_neighbors

SUMMARY = 64
"""Parts of an image whose means are compared before its pixels are."""
PAIRS = 1024
"""Pairs of images compared at a time."""
OWN_NEIGHBORS = 4
DEEPER = 4
"""Times as many neighbours are looked at where all that were found repeat one picture."""
ENTRIES = 2**22
"""Neighbours held at a time by a deeper search (about 0.2 GiB): it may go down to the whole training set."""


@dataclass(frozen=True)
class Nearest:
    """Distances [q, k] to the nearest training images, ascending, their indices, and whether mirrored images met."""

    distances: Float[np.ndarray, "q k"]
    indices: Int[np.ndarray, "q k"]
    mirrored: Bool[np.ndarray, "q k"]


@dataclass(frozen=True)
class Judged:
    """A set of images in one space: nearest training images, and distances that leave out repeats of the nearest.

    others [q, m]: to the nearest training images that are other pictures than the nearest one, ascending, NaN where
    the training set holds no more. own [q]: from the nearest training image to its own nearest other picture.
    """

    nearest: Nearest
    others: Float[np.ndarray, "q m"]
    own: Float[np.ndarray, " q"]

    @property
    def first(self) -> Float[np.ndarray, " q"]:
        """Distance d1 to the nearest training image."""
        return self.nearest.distances[:, 0]

    @property
    def second(self) -> Float[np.ndarray, " q"]:
        """Distance d2 to the first training image of another picture."""
        return self.others[:, 0]

    @property
    def neighborhood(self) -> Float[np.ndarray, " q"]:
        """Mean distance to the nearest image and to all of `others` that there are."""
        mean: np.ndarray = np.nanmean(np.column_stack([self.first, self.others]), axis=1)
        return mean

    @property
    def neighbors(self) -> int:
        """Fewest images behind a `neighborhood`."""
        return 1 + int((~np.isnan(self.others)).sum(1).min())


class Pictures:
    """Which training images show the same picture: within `rms` (root mean square per value) of each other.

    flips: mirror images show the same picture too.
    """

    def __init__(self, pixels: UInt8[np.ndarray, "n c h w"], rms: float, flips: bool) -> None:
        self._pixels, self._rms = pixels, rms
        size = math.prod(pixels.shape[1:])
        self._parts = min(SUMMARY, size)
        self._limit = size / (size - size % self._parts) * (rms + 1e-3) ** 2
        self._summary = _part_means(pixels, self._parts)
        self._mirrored = _part_means(pixels[..., ::-1], self._parts) if flips else None

    def same(self, first: Int[np.ndarray, " m"], second: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Whether training images first[i] and second[i] show the same picture."""
        found = self._within(first, second, self._summary, lambda x: x)
        if self._mirrored is not None:
            found |= self._within(first, second, self._mirrored, lambda x: x[..., ::-1])
        return found

    def _within(
        self,
        first: Int[np.ndarray, " m"],
        second: Int[np.ndarray, " m"],
        summary: Float[np.ndarray, "n parts"],
        turn: Callable[[np.ndarray], np.ndarray],
    ) -> Bool[np.ndarray, " m"]:
        found = first == second if summary is self._summary else np.zeros(len(first), bool)
        for start in range(0, len(first), PAIRS):
            rows = slice(start, start + PAIRS)
            # The mean square of parts' means is never larger than that of all their values: most pairs end here.
            near = np.square(self._summary[first[rows]] - summary[second[rows]]).mean(1) <= self._limit
            left = start + np.flatnonzero(near & ~found[rows])
            difference = self._pixels[first[left]].astype(np.float32) - turn(self._pixels[second[left]])
            found[left] = np.square(difference).mean((1, 2, 3), dtype=np.float64) <= self._rms**2
        return found


class Surroundings:
    """Training images as neighbours of other images in one space.

    space: None for pixels (distances: root mean square per value, 0–255), else the name of a feature space
    (distances of vectors of unit length, √(2 - 2 cos)). With spec.flips an image and its mirror image are both
    compared, and a training image counts with the smaller distance.
    """

    def __init__(self, context: AuditContext, space: str | None, pictures: Pictures) -> None:
        self.context, self.space, self.pictures = context, space, pictures
        self.size = len(context.training)
        self._training = self._vectors("training", False)

    def judge(self, part: Part, k: int) -> Judged:
        """The k nearest of every image of a part, the rest of its Carlini neighbourhood, and the anchors' own."""
        nearest = self.nearest(part, min(k, self.size))
        anchors = nearest.indices[:, 0]
        rows = np.arange(len(anchors))
        others = self.others(part, nearest, anchors, self.context.spec.carlini_neighbors - 1, rows)
        met, place = np.unique(anchors, return_inverse=True)
        near_met = self.nearest("training", min(OWN_NEIGHBORS, self.size), met)
        own = self.others("training", near_met, met, 1, met)[:, 0]
        return Judged(nearest, others, own[place])

    def nearest(self, part: Part, k: int, rows: Int[np.ndarray, " r"] | None = None) -> Nearest:
        """The k nearest training images of a part's images, or of those at `rows`."""
        plain = self._search(self._chosen(part, rows, False), k)
        if not self.context.spec.flips:
            return plain
        return merged(plain, self._search(self._chosen(part, rows, True), k))

    def others(
        self, part: Part, nearest: Nearest, anchors: Int[np.ndarray, " q"], wanted: int, rows: Int[np.ndarray, " q"]
    ) -> Float[np.ndarray, "q wanted"]:
        """Distances to the nearest `wanted` training images that are other pictures than anchors, ascending.

        nearest: of the images of the part at `rows`; searched deeper for those alone where it holds too few. NaN
        fills what the whole training set does not hold.
        """
        found = self._other_pictures(nearest, anchors, wanted)
        k = nearest.indices.shape[1]
        deeper = min(DEEPER * k, self.size)
        # What stands in the last place is NaN where fewer were found.
        left = np.flatnonzero(np.isnan(found[:, -1])) if k < deeper else np.arange(0)
        step = max(1, ENTRIES // deeper)
        for block in (left[start : start + step] for start in range(0, len(left), step)):
            searched = self.nearest(part, deeper, rows[block])
            found[block] = self.others(part, searched, anchors[block], wanted, rows[block])
        return found

    def _other_pictures(
        self, nearest: Nearest, anchors: Int[np.ndarray, " q"], wanted: int
    ) -> Float[np.ndarray, "q wanted"]:
        """Distances to the first `wanted` among the nearest that are other pictures than anchors, NaN behind them."""
        found = np.full((len(anchors), wanted), np.nan)
        k = nearest.indices.shape[1]
        other = ~self.pictures.same(nearest.indices.flatten(), np.repeat(anchors, k)).reshape(-1, k)
        order = np.argsort(~other, axis=1, kind="stable")[:, :wanted]
        distances = np.where(other, nearest.distances, np.nan)
        found[:, : order.shape[1]] = np.take_along_axis(distances, order, 1)
        return found

    def _search(self, queries: np.ndarray, k: int) -> Nearest:
        metric: Literal["l2", "cosine"] = "l2" if self.space is None else "cosine"
        values, indices = nearest_neighbors(queries, self._training, k, metric, device=self.context.device)
        if self.space is None:
            distances = values / math.sqrt(math.prod(self.context.training.shape))
        else:
            distances = np.sqrt(np.maximum(0, 2 - 2 * values))
        return Nearest(distances, indices, np.zeros(indices.shape, bool))

    def _chosen(self, part: Part, rows: Int[np.ndarray, " r"] | None, flipped: bool) -> np.ndarray:
        vectors = self._vectors(part, flipped)
        return vectors if rows is None else vectors[rows]

    def _vectors(self, part: Part, flipped: bool) -> np.ndarray:
        if self.space is not None:
            return self.context.features(part, self.space, flipped=flipped)
        pixels = self.context.part(part).pixels
        return pixels[..., ::-1] if flipped else pixels


def told(distances: Float[np.ndarray, "*n"], in_pixels: bool) -> Float[np.ndarray, "*n"]:
    """Distances as they are told: in pixels as they are, of features as cosines."""
    return distances if in_pixels else 1 - distances**2 / 2


def merged(plain: Nearest, flipped: Nearest) -> Nearest:
    """The k nearest of images and of their mirror images together; a training image counts once, at its nearer."""
    k = plain.indices.shape[1]
    distances = np.concatenate([plain.distances, flipped.distances], 1)
    indices = np.concatenate([plain.indices, flipped.indices], 1)
    mirrored = np.arange(2 * k) >= k
    order = np.lexsort((np.broadcast_to(mirrored, indices.shape), distances, indices), axis=1)
    distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
    distances[:, 1:][indices[:, 1:] == indices[:, :-1]] = np.inf
    nearer = np.lexsort((indices, distances), axis=1)[:, :k]
    return Nearest(
        np.take_along_axis(distances, nearer, 1),
        np.take_along_axis(indices, nearer, 1),
        np.take_along_axis(mirrored[order], nearer, 1),
    )


def _part_means(pixels: UInt8[np.ndarray, "n c h w"], parts: int) -> Float[np.ndarray, "n parts"]:
    """Means of equal parts of each image, float32; what is left over at the end is in none."""
    width = math.prod(pixels.shape[1:]) // parts
    means = np.empty((len(pixels), parts), np.float32)
    for start in range(0, len(pixels), PAIRS):
        chunk = pixels[start : start + PAIRS]
        flat = chunk.reshape(len(chunk), -1)[:, : parts * width]
        means[start : start + PAIRS] = flat.reshape(-1, parts, width).mean(2, dtype=np.float32)
    return means
