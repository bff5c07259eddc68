"""Values per image -> a Measurement with its interval."""

from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit.intervals import around, mean_interval, standard_error
from leadline.records import Measurement

STUDENT = "Student t over images"
LINEARISED = "Student t over images, ratio linearised"
ROUNDING = 1e-12


def mean_of(
    name: str,
    values: Float[np.ndarray, " n"],
    *,
    unit: str = "",
    direction: str = "",
    level: float = 0.95,
    group: str | None = None,
    method: str = STUDENT,
    floor: float | None = None,
    ceiling: float | None = None,
    **params: Any,
) -> Measurement:
    """The mean of one value per image (or other independent unit) with its Student interval.

    None where all values are alike: what others would be is not known from that. floor, ceiling: what no value can
    pass; an end of the interval that does is cut there, and `method`, the interval's words, says so.
    """
    ends = mean_interval(values, level)
    if ends is not None and values.min() == values.max():
        ends = None
    return Measurement(
        name=name,
        value=float(values.mean(dtype=np.float64)),
        **_interval(ends, level, method, floor, ceiling),
        n=len(values),
        unit=unit,
        direction=direction,
        group=group,
        params=params,
    )


def ratio_of(
    name: str,
    above: Float[np.ndarray, " n"],
    below: Float[np.ndarray, " n"],
    *,
    unit: str = "",
    direction: str = "",
    level: float = 0.95,
    floor: float | None = None,
    **params: Any,
) -> Measurement:
    """Mean over mean of two values per image, with the interval of a ratio of means over the same images.

    Not measurable where the mean below the line is 0; without an interval where all images have one ratio. floor: as
    `mean_of` has it.
    """
    scale = float(below.mean(dtype=np.float64))
    if scale == 0:
        reason = "what it would be a share of is 0 at every point"
        return Measurement.not_measurable(name, reason, unit=unit, direction=direction, params=params)
    value, n = float(above.mean(dtype=np.float64)) / scale, len(above)
    error = standard_error(above - value * below) / scale if n > 1 else 0.0
    # Of one ratio for all images the rest is rounding.
    ends = around(value, error, n, level) if error > ROUNDING * abs(value) else None
    return Measurement(
        name=name,
        value=value,
        **_interval(ends, level, LINEARISED, floor, None),
        n=n,
        unit=unit,
        direction=direction,
        params=params,
    )


def _interval(
    ends: tuple[float, float] | None, level: float, method: str, floor: float | None, ceiling: float | None
) -> dict[str, Any]:
    """The fields of a Measurement's interval, cut at what no value can pass; none where there are no ends."""
    if ends is None:
        return {}
    lower, upper = ends
    if floor is not None and lower < floor:
        lower, method = floor, f"{method}, cut at {floor:g}"
    if ceiling is not None and upper > ceiling:
        upper, method = ceiling, f"{method}, cut at {ceiling:g}"
    return {"lower": lower, "upper": upper, "level": level, "method": method}
