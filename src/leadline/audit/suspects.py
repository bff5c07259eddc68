"""The images most likely to be copies: beside the training images nearest to them, and as a list."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline.audit.proximity import Judged, told
from leadline.records import ImageSet, Panel, Table

WORDS = {"samples": "generated", "held_out": "held-out"}
NAMES = {"samples": "nearest_neighbors", "held_out": "nearest_neighbors_held_out"}
SHOWN_NEIGHBORS = 4
LISTED = 50
"""Samples listed in each space."""

SuspectRow = tuple[str, str, str, float, float | None, float | None, str | None]


def suspects_panel(
    images: ImageSet, training: ImageSet, found: Judged, part: str, space: str | None, rows: int
) -> Panel:
    """The `rows` images with the smallest d1/d2, most suspicious first, each followed by its nearest training images.

    found: all images in a space, None for pixels. Images without a d2, the distance to the first training image of
    another picture than the nearest, stand behind the others, by d1.
    """
    nearest, ratios = found.nearest, _first_to_second(found)
    order = _by_suspicion(found, np.zeros(len(images), bool))[:rows]
    shown = min(SHOWN_NEIGHBORS, nearest.indices.shape[1])
    words = WORDS[part]
    tiles, captions = [], []
    for row in order:
        tiles.append([images.pixels[row], *training.pixels[nearest.indices[row, :shown]]])
        ratio = "no d2" if np.isnan(ratios[row]) else f"d1/d2 {ratios[row]:.2f}"
        captions.append(f"{words} {_id(images.ids, row)}, {ratio}")
        values = told(nearest.distances[row, :shown], space is None)
        for index, value, mirrored in zip(nearest.indices[row], values, nearest.mirrored[row], strict=False):
            closeness = f"{value:.1f}" if space is None else f"cosine {value:.3f}"
            captions.append(f"{_id(training.ids, index)}: {closeness}{', mirrored' if mirrored else ''}")
    return Panel(
        name=NAMES[part] if space is None else f"{NAMES[part]}_{_safe(space)}",
        title=f"The {len(order)} {words} images most likely to be copies, "
        f"in {'pixels' if space is None else f'{space} features'}",
        tiles=np.array(tiles),
        caption=(
            f"Left: the {words} images with the smallest d1/d2, of {len(images):,}: the distance to the nearest "
            "training image over that to the first which is another picture. Right of each: its nearest training "
            f"images, with their {'distance (RMS per value, 0–255)' if space is None else 'cosine similarity'}."
        ),
        captions=tuple(captions),
        column_titles=(words, *(f"nearest {j + 1}" for j in range(shown))),
    )


def suspect_rows(
    images: ImageSet, training: ImageSet, found: Judged, counted: Mapping[str, Bool[np.ndarray, " n"]], name: str
) -> list[SuspectRow]:
    """Rows of `suspects_table` of one space, named: images that a rule counts as copies, then the others, by d1/d2.

    found: all images in the space; counted: which of them each rule counts as copies.
    """
    by_any = np.any([np.zeros(len(images), bool), *counted.values()], axis=0)
    firsts, ratios = told(found.first, name == "pixels"), _first_to_second(found)
    carlini = _ratio(found.first, np.where(np.isnan(found.second), np.nan, found.neighborhood))
    return [
        (
            _id(images.ids, row),
            name,
            _id(training.ids, found.nearest.indices[row, 0]),
            float(firsts[row]),
            _or_none(ratios[row]),
            _or_none(carlini[row]),
            ", ".join(rule for rule, copies in counted.items() if copies[row]) or None,
        )
        for row in _by_suspicion(found, by_any)[:LISTED]
    ]


def suspects_table(rows: Sequence[SuspectRow]) -> Table:
    """The samples most likely to be copies, space by space."""
    return Table(
        name="suspicious_images",
        title=f"Samples most likely to be copies, up to {LISTED} in each space",
        columns=("id", "space", "nearest training id", "d1", "d1/d2", "d1/mean of nearest", "counted by"),
        rows=tuple(rows),
        note="First those that a rule counts as copies, then the others, by d1/d2. d1: to the nearest training image, "
        "in pixels RMS per value (0–255), of features a cosine; d2: to the first which is another picture; mean of "
        "nearest: as in Carlini's ratio. #3: the image at index 3, as it has no name.",
    )


def _by_suspicion(found: Judged, counted: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Indices of all images: those counted first, then by d1/d2, images without a d2 last, then by d1."""
    ratios = _first_to_second(found)
    return np.lexsort((found.first, np.where(np.isnan(ratios), np.inf, ratios), ~counted))


def _first_to_second(found: Judged) -> Float[np.ndarray, " n"]:
    return _ratio(found.first, found.second)


def _ratio(first: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """first / other; 0 where first is, NaN where there is no other."""
    return np.where(first == 0, 0.0, first / np.where(other > 0, other, np.nan))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _id(ids: tuple[str, ...], index: int | np.integer) -> str:
    return ids[index] if ids else f"#{index}"


def _safe(space: str) -> str:
    """A space's name as part of the name of a file."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", space)
