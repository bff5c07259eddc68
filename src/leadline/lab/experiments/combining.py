"""Numbers of several models put together: over training runs, over noise levels, between the ends of the axis."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from leadline.lab.summaries import mean_of
from leadline.records import Measurement

OWN = ("model", "train_seed")
"""Params that tell the runs of one recipe apart."""
BOUND = "bound"
"""Param of a number that is a bound, which is found, not chosen: it tells no two numbers apart."""
OVER_RUNS = "Student t over training runs"
OVER_LEVELS = "the levels' intervals averaged, never too narrow"
RECOVERED = "Zou and Donner 2008, the two ends independent"
UNLIKE_BOUNDS = (
    "one training run gives a bound from below, another one from above: the mean over runs is neither; see each run "
    "alone (--seeds with one number)"
)
NO_INTERVAL: dict[str, Any] = {"lower": None, "upper": None, "level": None, "method": None}


def merged(found: Sequence[Measurement]) -> list[Measurement]:
    """One Measurement per number of a recipe: that of its only run, or the mean over its runs.

    found: of all runs. Of several runs the interval is Student's over the runs, no longer over images; where a run's
    number is not measurable, neither is the mean. Where a number is a bound, so is the mean, without an interval: on
    one side it is open. Of bounds from below and from above there is no mean.
    """
    return [_over_runs(group) for group in _groups(found, (*OWN, BOUND))]


def _over_runs(group: Sequence[Measurement]) -> Measurement:
    first = next((m for m in group if BOUND in m.params), group[0])
    params = _without(first.params, OWN)
    absent = next((m for m in group if m.value is None), None)
    if absent is not None or len(group) == 1:
        return (absent or first).model_copy(update={"params": params})
    words: dict[str, Any] = {"unit": first.unit, "direction": first.direction, "group": first.group}
    if len({m.params[BOUND] for m in group if BOUND in m.params}) > 1:
        params = _without(params, (BOUND,))
        return Measurement.not_measurable(first.name, UNLIKE_BOUNDS, n=len(group), params=params, **words)
    mean = mean_of(first.name, np.array([m.value for m in group], dtype=np.float64), method=OVER_RUNS, **words)
    return mean.model_copy(update={"params": params, **(NO_INTERVAL if BOUND in params else {})})


def averaged(found: Sequence[Measurement]) -> list[Measurement]:
    """Each number's mean over the noise levels at which every model has it; param num_sigmas says how many.

    Its interval is as wide as those of the levels on average: the standard error of a mean is at most the mean of the
    standard errors, however the levels, which share their images, hang together.
    """
    absent = {(m.name, m.params["sigma"]) for m in found if m.value is None}
    usable = [m for m in found if (m.name, m.params["sigma"]) not in absent]
    return [_over_levels(group) for group in _groups(usable, ("sigma", BOUND))]


def _over_levels(group: Sequence[Measurement]) -> Measurement:
    first = group[0]
    params = {**_without(first.params, ("sigma",)), "num_sigmas": len(group)}
    ends = [(m.lower, m.upper) for m in group if m.lower is not None and m.upper is not None]
    bounds = NO_INTERVAL
    if len(ends) == len(group):
        lower, upper = (math.fsum(side) / len(group) for side in zip(*ends, strict=True))
        bounds = {"lower": lower, "upper": upper, "method": f"{first.method}; {OVER_LEVELS}"}
    value = math.fsum(m.value for m in group if m.value is not None) / len(group)
    return first.model_copy(update={"value": value, "params": params, **bounds})


def change(found: Sequence[Measurement], axis: str) -> Measurement | None:
    """The number at the end of the axis minus that at its start, `NAME_change`, params from and to.

    found: one number at several places. Interval: Zou and Donner (2008), from both ends' intervals, which are taken as
    independent. Not measurable where an end is a bound. None where there are not two places.
    """
    ordered = sorted((m for m in found if m.value is not None), key=lambda m: float(m.params[axis]))
    if len(ordered) < 2:
        return None
    first, last = ordered[0], ordered[-1]
    params = {**_without(last.params, (axis, BOUND)), "from": first.params[axis], "to": last.params[axis]}
    name, words = f"{last.name}_change", f"above 0: rises; {last.direction}" if last.direction else "above 0: rises"
    known = [f"{m.params[BOUND]} {m.value:.4g} at {m.params[axis]:,}" for m in (first, last) if BOUND in m.params]
    if known:
        reason = f"the {'ends are bounds' if len(known) > 1 else 'end is a bound'} ({', '.join(known)}), not a number"
        return Measurement.not_measurable(name, reason, unit=last.unit, direction=words, params=params)
    # Both have values, and ends where they have intervals: the filter above and `Measurement` see to it.
    a, b = float(first.value or 0), float(last.value or 0)
    bounds: dict[str, Any] = {}
    if None not in (first.lower, first.upper, last.lower, last.upper):
        (al, au), (bl, bu) = (_ends(first), _ends(last))
        lower, upper = b - a - math.hypot(b - bl, au - a), b - a + math.hypot(bu - b, a - al)
        bounds = {"lower": lower, "upper": upper, "level": last.level, "method": RECOVERED}
    return Measurement(name=name, value=b - a, unit=last.unit, direction=words, params=params, **bounds)


def _ends(m: Measurement) -> tuple[float, float]:
    return float(m.lower or 0), float(m.upper or 0)


def _groups(found: Sequence[Measurement], apart: Collection[str]) -> list[list[Measurement]]:
    """Measurements that differ in nothing but the params `apart`."""
    groups: dict[str, list[Measurement]] = {}
    for m in found:
        groups.setdefault(repr((m.name, m.group, sorted(_without(m.params, apart).items()))), []).append(m)
    return list(groups.values())


def _without(params: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in names}
