"""Measured values -> one inline <svg> each: coloured by the page's CSS, readable without colour, no pyplot."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from leadline.report.content import Plot
from leadline.report.words import MINUS, plain, short

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
INK, MUTED, RULE, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{index:02x}" for index in range(1, 7))
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"} | {
    colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)
}
"""Colours that matplotlib writes -> the page's CSS variables, so that one drawing serves light, dark and paper."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours and dashes: 42 lines differ
DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (7, 2, 1.5, 2)), (0, (2, 1)), (0, (8, 2)))
LEVEL_DASHES = (0, (4, 3))
MARKED: dict[str, Any] = {"markersize": 5.5, "markeredgewidth": 1.3}
"""Size of a point."""
LINE_HEIGHT = 0.075
"""Height of a line of text as a part of the axes' height."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "leadline",
    "text.parse_math": False,  # a class named $x^$ is text
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One value to draw. x: its place on the axis (a category's index, or a number). hollow: whatever its line is."""

    x: int | float
    y: int | float
    lower: float | None = None
    upper: float | None = None
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points that are drawn alike, with the words that stand at their end, if any. style: index of marker, dash and
    colour."""

    label: str
    points: tuple[Point, ...]
    style: int = 0
    joined: bool = True
    hollow: bool = False
    markers: bool = True


@dataclass(frozen=True, kw_only=True)
class Level:
    """A dashed horizontal line over the whole width: what the lines are compared with."""

    y: float
    label: str


def draw(
    lines: Sequence[Line],
    *,
    name: str,
    alt: str,
    caption: str,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    categories: Sequence[str] = (),
    x_ticks: Sequence[int | float] = (),
    x_marks: Sequence[float] = (),
    x_falls: bool = False,
    from_zero: bool = False,
    log_y: bool = False,
    factor: int = 1,
) -> Plot:
    """One plot of lines and levels.

    name: prefix of the drawing's ids, unique on the page. alt: its main numbers in words. categories: names of the
    places 0, 1, … of the x axis. x_ticks: the only ticks, on an axis of even steps in the logarithm. x_marks: places
    on the x axis that a dashed line marks. x_falls: larger values of x stand to the left. factor: unit of the y axis
    (100: per cent).
    """
    with styled():
        figure = Figure(figsize=(5.1, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        axes.yaxis.grid(True)
        axes.set_axisbelow(True)
        for line in lines:
            _draw_line(axes, line, factor)
        for level in levels:
            axes.axhline(level.y * factor, color=MUTED, linewidth=1.1, linestyle=LEVEL_DASHES)
        for mark in x_marks:
            axes.axvline(mark, color=MUTED, linewidth=1.1, linestyle=LEVEL_DASHES)
        _x_axis(axes, categories, x_ticks)
        if x_falls:
            axes.invert_xaxis()
        _y_axis(axes, from_zero=from_zero, log=log_y)
        _label_ends(axes, lines, levels, factor)
        return Plot(svg=inline(figure, name, plain(alt)), alt=plain(alt), caption=plain(caption))


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib set up for the page."""
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        # The reader's browser has the glyphs that matplotlib's own font lacks; the text stays text.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def _draw_line(axes: Axes, line: Line, factor: int) -> None:
    colour = SERIES[line.style % len(SERIES)]
    marker = MARKERS[line.style % len(MARKERS)] if line.markers else None
    xs = [p.x for p in line.points]
    ys = [p.y * factor for p in line.points]
    axes.plot(
        xs,
        ys,
        color=colour,
        linestyle=DASHES[line.style % len(DASHES)] if line.joined else "none",
        linewidth=1.4,
        marker=marker,
        markerfacecolor=PAPER if line.hollow else colour,
        zorder=3,
        **MARKED,
    )
    for point, y in zip(line.points, ys, strict=True):
        if point.hollow:
            axes.plot([point.x], [y], color=colour, marker=marker, markerfacecolor=PAPER, zorder=4, **MARKED)
        if point.lower is not None and point.upper is not None:
            arms = [[max(0.0, y - point.lower * factor)], [max(0.0, point.upper * factor - y)]]
            axes.errorbar([point.x], [y], yerr=arms, color=colour, elinewidth=1.2, capsize=3.5, fmt="none", zorder=2)


def _x_axis(axes: Axes, categories: Sequence[str], x_ticks: Sequence[int | float]) -> None:
    if categories:
        axes.set_xticks(range(len(categories)), [folded(plain(c)) for c in categories])
        axes.set_xlim(-0.5, len(categories) - 0.5)
    elif x_ticks:
        if min(x_ticks) > 0 and len(x_ticks) > 1:
            axes.set_xscale("log")
        axes.set_xticks(x_ticks, [short(x) for x in x_ticks])
        axes.set_xticks([], minor=True)
    else:
        whole = all(float(x).is_integer() for line in axes.get_lines() for x in np.asarray(line.get_xdata()))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))


def _y_axis(axes: Axes, *, from_zero: bool, log: bool) -> None:
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", MINUS)))
    if from_zero:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1e-9))


def folded(text: str, width: int = 14) -> str:
    """The text in lines of about `width` characters; a word of more than twice as many is broken and cut."""
    words = [part for word in text.split() for part in _broken(word, width)]
    lines = [""]
    for word in words:
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(line for line in lines if line)


def _broken(word: str, width: int) -> list[str]:
    if len(word) <= 2 * width:
        return [word]
    return [word[:width], f"{word[width : 2 * width - 1]}…"]


def _label_ends(axes: Axes, lines: Sequence[Line], levels: Sequence[Level], factor: int) -> None:
    """Write each line's name to the right of its last point, moved apart where two would cover each other."""
    wanted = [(line.points[-1].y, line.label, SERIES[line.style % len(SERIES)]) for line in lines if line.label]
    wanted += [(level.y, level.label, MUTED) for level in levels]
    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    places = [float(to_axes.transform((x, y * factor))[1]) for y, _, _ in wanted]
    labels = [folded(plain(label), 20) for _, label, _ in wanted]
    heights = [LINE_HEIGHT * (1 + label.count("\n")) for label in labels]
    for (_, _, colour), label, place in zip(wanted, labels, spread(places, heights), strict=True):
        axes.text(1.02, place, label, transform=axes.transAxes, va="center", color=colour)


def spread(places: Sequence[float], heights: Sequence[float], top: float = 1.0) -> list[float]:
    """Middles of labels of these heights, none over another: pushed up where they meet, down again from `top`."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + (heights[below] + heights[above]) / 2)
    for highest in order[-1:]:
        moved[highest] = min(moved[highest], max(top, places[highest]))
    for above, below in pairwise(reversed(order)):
        moved[below] = min(moved[below], moved[above] - (heights[below] + heights[above]) / 2)
    return moved


def inline(figure: Figure, name: str, alt: str) -> str:
    """The figure as one <svg> element: ids made unique by `name`, colours and fonts handed to the page's CSS."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib just now
    for unused in root.findall(f"{{{SVG}}}metadata"):
        root.remove(unused)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key == f"{{{XLINK}}}href":
                element.set(key, value.replace("#", f"#{name}-"))
            elif key == "style":
                element.set(key, _themed(value))
            elif key == "clip-path":
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode")


def _themed(style: str) -> str:
    for colour, variable in THEME.items():
        style = style.replace(colour, variable)
    return re.sub(r"(font:[^;]*?[\d.]+px) [^;]*", r"\1 var(--sans)", style)
