"""Maps of an energy landscape: height lines, basins by class, points, minima, flow lines."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leadline.records import TheoryResult
from leadline.report.content import Plot
from leadline.report.plots import INK, MARKERS, MUTED, PAPER, SERIES, inline, styled
from leadline.report.words import counted, number, plain

NUM_HEIGHTS = 9
GROUND = 0.16
"""Opacity of a basin's ground."""
TIED = "x"
UNNAMED = "points"


def draw_maps(result: TheoryResult) -> Plot:
    """The maps of a result, one beside the other, each with its tau and its number of minima."""
    arrays, taus = result.arrays, result.settings["maps"]["tau"]
    names = [plain(name) for name in result.settings["classes"]] or [UNNAMED]
    columns = min(2, len(taus))
    rows = -(-len(taus) // columns)
    with styled():
        figure = Figure(figsize=(3.7 * columns, 3.6 * rows + 0.4), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        told = []
        for number_of, (axes, tau) in enumerate(zip(places, taus, strict=False)):
            found = {
                name: arrays[f"map{number_of}_{name}"] for name in ("x", "y", "energy", "basin", "minima", "winner")
            }
            found |= {"flows": arrays[f"map{number_of}_flows"]}
            _draw(axes, found, arrays["map_points"], arrays["labels"], len(names))
            words = f"τ = {number(tau, 3)}: {counted(len(found['minima']), 'minimum', 'minima')}"
            axes.set_title(words, fontsize=9)
            told.append(words)
        for axes in places[len(taus) :]:
            axes.set_axis_off()
        _legend(figure, names)
        alt = f"Maps of the energy with points, minima and basins. {'; '.join(told)}."
        svg = inline(figure, "maps", alt)
    caption = (
        "Thin lines: height lines of the energy, at nine quantiles of each map. Small markers: points; hollow: minima, "
        "in the shape of the class that wins the soft vote there; pale ground: the class of the minimum that the flow "
        "from there ends in; dark lines: the flow from an even grid of starts."
    )
    return Plot(svg=svg, alt=alt, caption=caption)


def _look(index: int) -> tuple[str, str]:
    """Colour and marker of a class: both differ for the first 42."""
    return SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]


def _draw(axes: Axes, found: dict[str, np.ndarray], points: np.ndarray, labels: np.ndarray, classes: int) -> None:
    x, y = found["x"], found["y"]
    for index in range(classes):
        colour, marker = _look(index)
        inside = (found["basin"] == index).astype(float)
        if inside.any():
            axes.contourf(x, y, inside, levels=[0.5, 1.5], colors=[colour], alpha=GROUND)
        mine = points[labels == index]
        axes.plot(*mine.T, color=colour, marker=marker, markersize=2.2, markeredgewidth=0, linestyle="none", zorder=4)
    heights = np.unique(np.quantile(found["energy"], np.linspace(0.03, 0.92, NUM_HEIGHTS)))
    if len(heights) > 1:
        axes.contour(x, y, found["energy"], levels=heights, colors=[MUTED], linewidths=0.5, linestyles="solid")
    for line in found["flows"].transpose(1, 2, 0):
        axes.plot(*line, color=INK, linewidth=0.6, alpha=0.75, zorder=2)
    for index in (-1, *range(classes)):
        colour, marker = (MUTED, TIED) if index < 0 else _look(index)
        mine = found["minima"][found["winner"] == index]
        axes.plot(
            *mine.T,
            color=colour,
            marker=marker,
            markersize=6,
            markeredgewidth=1.1,
            markerfacecolor=PAPER,
            linestyle="none",
            zorder=3,
        )
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), aspect="equal", xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, color=MUTED, linewidth=0.6)


def _legend(figure: Figure, names: list[str]) -> None:
    handles = []
    for index, name in enumerate(names):
        colour, marker = _look(index)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none", label=name))
    hollow: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 6, "linestyle": "none"}
    handles.append(Line2D([], [], color=INK, marker="o", label="minimum", **hollow))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
