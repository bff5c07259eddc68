"""Images to look at: the first samples, and training images drawn at random."""

import numpy as np

from leadline.records import ImageSet, Panel
from leadline.rng import numpy_generator_for

GRID_SIDE = 8


def samples_panel(samples: ImageSet) -> Panel:
    """The first 64 samples in their order, 8 to a row; fewer where there are fewer, in full rows."""
    return _grid(samples, "samples", "Samples", "The first {shown} of {n:,} samples, in their order, none picked.")


def training_panel(training: ImageSet) -> Panel:
    """64 training images drawn at random, the same ones in every audit of this training set."""
    generator = numpy_generator_for(0, "audit training panel")
    drawn = np.sort(generator.permutation(len(training))[: GRID_SIDE**2])
    caption = f"{{shown}} of {len(training):,} training images, drawn at random."
    return _grid(training.take(drawn), "training", "Training images", caption)


def _grid(images: ImageSet, name: str, title: str, caption: str) -> Panel:
    columns = min(GRID_SIDE, len(images))
    rows = min(GRID_SIDE, len(images) // columns)
    tiles = np.array(images.pixels[: rows * columns]).reshape(rows, columns, *images.shape)
    return Panel(name=name, title=title, tiles=tiles, caption=caption.format(shown=rows * columns, n=len(images)))
