"""scikit-learn's embedded 8×8 handwritten digits (UCI, 1,797 images): no network, no files."""

import numpy as np

from leadline.data.source import DATASETS, Source, array_source, refuse_unused, require_label_groups
from leadline.recipe import DataSpec


@DATASETS.register("digits")
def digits(spec: DataSpec) -> Source:
    """The 1,797 digits, grey 8×8; the values 0..16 become round(255 · v / 16)."""
    from sklearn.datasets import load_digits

    refuse_unused(spec, "path", "split", "image_column")
    require_label_groups(spec)
    values, labels = load_digits(return_X_y=True)
    pixels = ((values.reshape(-1, 8, 8).astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    ids = [str(row) for row in range(len(pixels))]
    return array_source("digits", pixels, labels.astype(np.int64), tuple("0123456789"), ids)
