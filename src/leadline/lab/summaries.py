"""Values per image -> a Measurement with its interval."""

from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit.intervals import mean_interval
from leadline.records import Measurement

STUDENT = "Student t over images"


def mean_of(
    name: str,
    values: Float[np.ndarray, " n"],
    *,
    unit: str = "",
    direction: str = "",
    level: float = 0.95,
    group: str | None = None,
    **params: Any,
) -> Measurement:
    """The mean of one value per image (or other independent unit) with its Student interval."""
    ends = mean_interval(values, level)
    return Measurement(
        name=name,
        value=float(values.mean(dtype=np.float64)),
        lower=None if ends is None else ends[0],
        upper=None if ends is None else ends[1],
        level=None if ends is None else level,
        method=None if ends is None else STUDENT,
        n=len(values),
        unit=unit,
        direction=direction,
        group=group,
        params=params,
    )
