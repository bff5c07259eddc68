"""Horizontal intervals below each other about a line at 0: which differences reach beyond their interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from leadline.report.content import Plot
from leadline.report.plots import INK, MUTED, PAPER, SERIES, inline, styled
from leadline.report.words import MINUS, plain

EDGE = 8.0
"""Largest value on the axis."""
CHARACTERS = 78
"""How many characters fit above a bar."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of horizontal intervals: its name above it on the left, words on the right; strong: a filled marker."""

    label: str
    words: str
    value: float
    lower: float
    upper: float
    strong: bool


def draw_bars(bars: Sequence[Bar], *, name: str, alt: str, caption: str, x_label: str) -> Plot:
    """Intervals below each other about a line at 0, the first on top; what lies beyond the edge ends in an arrow."""
    edge = min(EDGE, 1.08 * max(1.0, *(abs(end) for bar in bars for end in (bar.lower, bar.upper))))
    with styled():
        figure = Figure(figsize=(5.1, 0.75 + 0.4 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=1.1)
        for row, bar in enumerate(bars):
            _draw_bar(axes, bar, row, edge)
        axes.set_xlim(-edge, edge)
        axes.set_ylim(len(bars) - 0.3, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", MINUS)))
        axes.xaxis.grid(True)
        axes.set_axisbelow(True)
        axes.set_xlabel(plain(x_label))
        return Plot(svg=inline(figure, name, plain(alt)), alt=plain(alt), caption=plain(caption))


def _draw_bar(axes: Axes, bar: Bar, row: int, edge: float) -> None:
    colour = SERIES[0] if bar.strong else MUTED
    ends = [min(edge, max(-edge, end)) for end in (bar.lower, bar.upper)]
    axes.plot(ends, [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
    if abs(bar.value) < edge:
        face = colour if bar.strong else PAPER
        axes.plot([bar.value], [row], marker="o", color=colour, markersize=5.5, markerfacecolor=face)
    else:
        marker = ">" if bar.value > 0 else "<"
        axes.plot([math.copysign(edge, bar.value)], [row], marker=marker, color=colour, markersize=7, clip_on=False)
    words, label = plain(bar.words), plain(bar.label)
    room = CHARACTERS - len(words)
    shown = label if len(label) <= room else label[: max(1, room - 1)] + "…"
    # On paper of their own, so that no grid line runs through the words.
    style: Any = {"va": "center", "color": INK, "fontsize": 8, "bbox": {"facecolor": PAPER, "linewidth": 0, "pad": 0.6}}
    axes.text(-edge, row - 0.4, shown, ha="left", **style)
    axes.text(edge, row - 0.4, words, ha="right", **style)
