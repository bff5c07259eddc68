"""Feature vectors read a few at a time, in float64, so that memory maps of any length can be summed over."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from leadline.errors import LeadlineError

CHUNK_ROWS = 4096


def float64_rows(
    features: Float[np.ndarray, "n d"], *, unit_length: bool = False
) -> Iterator[tuple[slice, Float[np.ndarray, "m d"]]]:
    """(rows, float64 [m, d]) of all of [n, d], each brought to length 1 where asked.

    Raises LeadlineError on a value that is not finite and, for unit length, on a vector of length 0.
    """
    for start in range(0, len(features), CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, len(features)))
        wide = features[rows].astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1)
        if not np.isfinite(lengths).all():
            raise LeadlineError(f"features of image {start + int(np.argmin(np.isfinite(lengths)))} are not finite")
        if unit_length:
            if not lengths.all():
                raise LeadlineError(
                    f"features of image {start + int(np.argmin(lengths))} have length 0, so they have no direction to "
                    "compare: leave the image out, or choose another encoder (--encoder)"
                )
            wide /= lengths[:, None]
        yield rows, wide
