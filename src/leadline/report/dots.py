"""Rows of dots with their intervals: the same things measured on several sets, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from leadline.report.content import Plot
from leadline.report.plots import LEVEL_DASHES, MARKERS, MUTED, PAPER, SERIES, Level, Point, folded, inline, styled
from leadline.report.words import plain

ROW_INCHES = 0.42
"""Height of a row of dots."""
ROW_GAP = 0.28
"""Distance of two series within a row, as a part of its height."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of dots: a point per series, its value in `y`, None where there is none."""

    label: str
    points: tuple[Point | None, ...]


def draw_rows(
    rows: Sequence[Row],
    series: Sequence[str],
    *,
    name: str,
    alt: str,
    caption: str,
    x_label: str,
    level: Level | None = None,
    factor: int = 1,
) -> Plot:
    """Values of several series side by side as dots with their intervals, a row for each thing measured.

    series: their names, in the order of each row's points; all but the first are drawn hollow. level: what all rows
    are compared with. x begins at 0; factor: its unit (100: per cent).
    """
    with styled():
        figure = Figure(figsize=(5.1, 1.15 + ROW_INCHES * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for index, label in enumerate(series):
            offset = (index - (len(series) - 1) / 2) * ROW_GAP
            places = [(place + offset, p) for place, row in enumerate(rows) if (p := row.points[index]) is not None]
            _draw_dots(axes, places, label, index, factor)
        if level is not None:
            x = level.y * factor
            axes.axvline(x, color=MUTED, linewidth=1.1, linestyle=LEVEL_DASHES, label=plain(level.label))
        axes.set_xlabel(plain(x_label))
        axes.set_xlim(0, max(axes.get_xlim()[1], 1e-9))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.xaxis.grid(True)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(rows)), [folded(plain(row.label), 28) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, pad=8)
        figure.legend(
            loc="outside upper left", ncols=len(series) + 1, frameon=False, handlelength=1.6, columnspacing=1.4
        )
        return Plot(svg=inline(figure, name, plain(alt)), alt=plain(alt), caption=plain(caption))


def _draw_dots(axes: Axes, places: Sequence[tuple[float, Point]], label: str, style: int, factor: int) -> None:
    colour = SERIES[style % len(SERIES)]
    for y, point in places:
        if point.lower is not None and point.upper is not None:
            axes.plot([point.lower * factor, point.upper * factor], [y, y], color=colour, linewidth=1.2, zorder=2)
    axes.plot(
        [p.y * factor for _, p in places],
        [y for y, _ in places],
        linestyle="none",
        color=colour,
        marker=MARKERS[style % len(MARKERS)],
        markersize=6,
        markeredgewidth=1.3,
        markerfacecolor=PAPER if style else colour,
        clip_on=False,
        zorder=3,
        label=plain(label),
    )
