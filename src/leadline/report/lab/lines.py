"""Measurements over the noise level -> lines on a logarithmic axis, and tables with a row per level."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Plot, TableView
from leadline.report.drawings import point
from leadline.report.plots import Line, Point, draw
from leadline.report.words import brief_cell, interval_note, number, plain, short

CENTRAL = 1.5
"""Headlines speak of the measured noise level nearest to it: between pure noise and the clean image."""


@dataclass(frozen=True)
class Series:
    """One line or column: the measurements of a name with these params, over sigma."""

    label: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


def of(result: TheoryResult, series: Series) -> dict[float, Measurement]:
    """By noise level, ascending."""
    found = {float(m.params["sigma"]): m for m in result.find(series.name, **series.params) if "sigma" in m.params}
    return dict(sorted(found.items()))


def central(levels: Mapping[float, Measurement]) -> float | None:
    """The level with a value that is nearest to CENTRAL, in ratio."""
    known = [sigma for sigma, m in levels.items() if m.value is not None]
    return min(known, key=lambda sigma: abs(math.log(sigma / CENTRAL)), default=None)


def decades(values: Sequence[int | float]) -> list[float]:
    """Powers of ten from the one below the least to the one above the largest: ticks."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def over_sigma(
    result: TheoryResult,
    wanted: Sequence[Series],
    *,
    name: str,
    caption: str,
    y_label: str,
    log_y: bool = False,
    factor: int = 1,
) -> list[Plot]:
    """One plot of the series that have values; none where no one has. log_y: values up to 0 have no place. factor:
    unit of the y axis (100: per cent, points)."""
    lines, told = [], []
    for style, series in enumerate(wanted):
        found = [p for sigma, m in of(result, series).items() if (p := point(sigma, m)) is not None]
        points = [_above_0(p) for p in found if p.y > 0] if log_y else found
        if points:
            lines.append(Line(label=series.label, points=tuple(points), style=style))
            told.append(f"{series.label}: {', '.join(f'{number(factor * p.y)} at σ = {short(p.x)}' for p in points)}")
    if not lines:
        return []
    return [
        draw(
            lines,
            name=name,
            alt=f"{caption} {'. '.join(told)}.",
            caption=caption,
            x_label="noise level σ",
            y_label=y_label,
            x_ticks=decades([p.x for line in lines for p in line.points]),
            log_y=log_y,
            factor=factor,
        )
    ]


def _above_0(place: Point) -> Point:
    """On a logarithmic axis a bar that reaches 0 ends a decade below its point."""
    low = place.lower is not None and place.lower <= 0
    return replace(place, lower=place.y / 10) if low else place


def sigma_table(
    result: TheoryResult,
    columns: Sequence[Series],
    *,
    key: str,
    caption: str,
    note: str = "",
    beside: Callable[[Measurement], str] | None = None,
) -> TableView:
    """A row per noise level, falling, and a column per series. beside: words after a value."""
    found = [of(result, series) for series in columns]
    levels = sorted({sigma for by_level in found for sigma in by_level}, reverse=True)
    rows = [(Cell(text=short(sigma)), *(_cell(by_level.get(sigma), beside) for by_level in found)) for sigma in levels]
    intervals = interval_note([m for by_level in found for m in by_level.values()])
    return TableView(
        key=key,
        caption=plain(caption),
        columns=("σ", *(plain(series.label) for series in columns)),
        rows=tuple(rows),
        note=f"{intervals} Each interval is for its own value. {note}".strip() if intervals else note,
    )


def _cell(found: Measurement | None, beside: Callable[[Measurement], str] | None) -> Cell:
    return brief_cell(found, "" if beside is None or found is None else beside(found))


def reasons(found: Sequence[Measurement]) -> list[str]:
    """Why numbers are missing, each reason once, with the noise levels that it is given for."""
    levels: dict[str, list[float]] = {}
    for m in found:
        if m.reason is not None:
            levels.setdefault(m.reason, []).extend([m.params["sigma"]] if "sigma" in m.params else [])
    return [
        f"Not measurable{_at(sorted(set(sigmas), reverse=True))}: {reason.rstrip('.')}."
        for reason, sigmas in levels.items()
    ]


def _at(sigmas: Sequence[float]) -> str:
    return f" at σ = {', '.join(map(short, sigmas))}" if sigmas else ""


def bound(m: Measurement) -> str:
    """`at most` or `at least` of a number that is a bound from one side; empty of any other."""
    return side if (side := str(m.params.get("bound"))) in ("at most", "at least") else ""


def verdict(m: Measurement, above: str, below: str) -> str:
    """What the interval of a difference decides: `above`, `below`, or that it does not."""
    if m.reason is not None:
        return f"not decided: {m.reason}"
    if m.lower is None or m.upper is None:
        return "not decided: there is no interval"
    return above if m.lower > 0 else below if m.upper < 0 else "not decided: the interval holds 0"
