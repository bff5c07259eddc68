"""The images most likely to be copies, beside the training images nearest to them."""

import numpy as np

from leadline.audit.proximity import Judged
from leadline.records import ImageSet, Panel

WORDS = {"samples": "generated", "held_out": "held-out"}
NAMES = {"samples": "nearest_neighbors", "held_out": "nearest_neighbors_held_out"}
SHOWN_NEIGHBORS = 4


def suspects_panel(images: ImageSet, training: ImageSet, found: Judged, part: str, rows: int) -> Panel:
    """The `rows` images with the smallest d1/d2, most suspicious first, each followed by its nearest training images.

    found: all images in pixels. Images without a d2, the distance to the first training image of another picture than
    the nearest, stand behind the others, by d1.
    """
    nearest, first, second = found.nearest, found.first, found.second
    ratios = np.where(first == 0, 0.0, first / np.where(second > 0, second, np.nan))
    order = np.lexsort((first, np.where(np.isnan(ratios), np.inf, ratios)))[:rows]
    shown = min(SHOWN_NEIGHBORS, nearest.indices.shape[1])
    words = WORDS[part]
    tiles, captions = [], []
    for row in order:
        tiles.append([images.pixels[row], *training.pixels[nearest.indices[row, :shown]]])
        ratio = "no d2" if np.isnan(ratios[row]) else f"d1/d2 {ratios[row]:.2f}"
        captions.append(f"{words} {_id(images.ids, row)}, {ratio}")
        for index, distance, mirrored in zip(
            nearest.indices[row, :shown], nearest.distances[row, :shown], nearest.mirrored[row], strict=False
        ):
            captions.append(f"{_id(training.ids, index)}: {distance:.1f}{', mirrored' if mirrored else ''}")
    return Panel(
        name=NAMES[part],
        title=f"The {len(order)} {words} images most likely to be copies",
        tiles=np.array(tiles),
        caption=(
            f"Left: the {words} images with the smallest d1/d2, of {len(images):,}: the distance to the nearest "
            "training image over that to the first which is another picture. Right of each: its nearest training "
            "images, with their distance (RMS per value, 0–255)."
        ),
        captions=tuple(captions),
        column_titles=(words, *(f"nearest {j + 1}" for j in range(shown))),
    )


def _id(ids: tuple[str, ...], index: int | np.integer) -> str:
    return ids[index] if ids else f"#{index}"
