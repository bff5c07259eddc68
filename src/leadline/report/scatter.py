"""Two measurements against each other: settings as points with both intervals, joined in their order."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from leadline.report.content import Plot
from leadline.report.plots import (
    DASHES,
    INK,
    LEVEL_DASHES,
    MARKED,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    Level,
    Point,
    inline,
    styled,
)
from leadline.report.words import MINUS, plain

START = "X"
"""Marker of the point where all paths begin."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One setting: its value on either axis, in `y` of a Point; label: what stands beside it; strong: filled."""

    x: Point
    y: Point
    label: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Path:
    """Settings of one kind, in their order."""

    label: str
    spots: tuple[Spot, ...]


def draw_paths(
    start: Spot,
    paths: Sequence[Path],
    *,
    name: str,
    alt: str,
    caption: str,
    x_label: str,
    y_label: str,
    level: Level | None = None,
    x_factor: int = 1,
) -> Plot:
    """Paths from one start over two measurements, with the intervals of both.

    level: a dashed line at one value of the x axis, its label in the legend. x_factor: unit of the x axis (100: per
    cent).
    """
    with styled():
        figure = Figure(figsize=(5.1, 3.7), layout="constrained")
        axes = figure.add_subplot()
        if level is not None:
            x = level.y * x_factor
            axes.axvline(x, color=MUTED, linewidth=1.1, linestyle=LEVEL_DASHES, label=plain(level.label))
        for style, path in enumerate(paths):
            _draw_path(axes, start, path, style, x_factor)
        _draw_spot(axes, start, INK, START, x_factor)
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        axes.grid(True)
        axes.set_axisbelow(True)
        axes.margins(0.09)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))
        figure.legend(loc="outside upper left", ncols=1, frameon=False, handlelength=2.6)
        return Plot(svg=inline(figure, name, plain(alt)), alt=plain(alt), caption=plain(caption))


def _draw_path(axes: Axes, start: Spot, path: Path, style: int, x_factor: int) -> None:
    colour, marker = SERIES[style % len(SERIES)], MARKERS[style % len(MARKERS)]
    whole = (start, *path.spots)
    axes.plot(
        [spot.x.y * x_factor for spot in whole],
        [spot.y.y for spot in whole],
        color=colour,
        linestyle=DASHES[style % len(DASHES)],
        linewidth=1.1,
        marker=marker,
        markevery=slice(1, None),
        label=plain(path.label),
        zorder=3,
        **MARKED,
    )
    for spot in path.spots:
        _draw_spot(axes, spot, colour, marker, x_factor)


def _draw_spot(axes: Axes, spot: Spot, colour: str, marker: str, x_factor: int) -> None:
    x, y = spot.x.y * x_factor, spot.y.y
    if spot.x.lower is not None and spot.x.upper is not None:
        ends = [spot.x.lower * x_factor, spot.x.upper * x_factor]
        axes.plot(ends, [y, y], color=colour, linewidth=0.9, alpha=0.55, zorder=2)
    if spot.y.lower is not None and spot.y.upper is not None:
        axes.plot([x, x], [spot.y.lower, spot.y.upper], color=colour, linewidth=0.9, alpha=0.55, zorder=2)
    face = colour if spot.strong else PAPER
    axes.plot([x], [y], color=colour, marker=marker, markerfacecolor=face, zorder=4, **MARKED)
    axes.annotate(
        plain(spot.label), (x, y), xytext=(5, 4), textcoords="offset points", color=colour, fontsize=8, zorder=5
    )
