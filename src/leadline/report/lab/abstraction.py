"""The page of `leadline theory abstraction`: P1's Figure 3 redrawn, and the shares level by level against the law."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path

from leadline.records import Measurement, Table, TheoryResult
from leadline.report.content import Cell, Finding, Plot, Section, TableView
from leadline.report.drawings import point
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.plots import MUTED, SERIES, Line, Point, draw, inline, styled
from leadline.report.words import (
    counted,
    interval_note,
    like,
    listed,
    measurement_cell,
    measurement_text,
    number,
    percent,
    percentage,
    plain,
    table_cell,
)

FOLLOWED = "class 1"
LIGHTEST = 0.12
"""Opacity of the last class: the first is solid, those between in even steps."""
GRID_INCHES, GAP_INCHES, TITLE_INCHES, LABEL_INCHES = 0.72, 0.06, 0.24, 0.085
MOST_LETTERS = 14
CLAIM = (
    "2505.17560, Figure 3, says that balanced grids stay near 50 % and that a larger imbalance is amplified more. In "
    "points no step can do so throughout, since a share cannot pass 100 %; log-odds have no such end."
)


@PAGES.register("abstraction")
def page(result: TheoryResult) -> LabPage:
    """The answer, Figure 3, the shares in per cent and in log-odds, the steps' gains, the law."""
    settings = result.settings
    grid = f"{settings['size']}×{settings['size']} cells, windows of {settings['window']}×{settings['window']}"
    return LabPage(
        title="Abstraction of a grid of class minima",
        findings=[_answer(result)],
        caveats=_caveats(result),
        facts=[grid, f"ties: {settings['ties']}", f"{counted(settings['replicates'], 'grid')} per mixture"],
        sections=[_figure_3(result), _levels(result), _gains(result), *_classes(result)],
    )


def _names(result: TheoryResult) -> list[str]:
    return list(result.settings["mixtures"])


def _of(result: TheoryResult, name: str, mixture: str, step: int, group: str = FOLLOWED) -> Measurement:
    return result.find(name, group, mixture=mixture, step=step)[0]


def _answer(result: TheoryResult) -> Finding:
    """What the first step adds to each mixture, in points and in log-odds; where the levels end; the law."""
    last = result.settings["levels"]
    sentences = [
        ("In log-odds", _odds_step(result)),
        (f"After {counted(last, 'step')}", _ends(result, last)),
        ("Against the law", _against_law(result)),
        ("The paper", CLAIM),
    ]
    return Finding(run="Abstraction", headline=_first_step(result), sentences=tuple(sentences))


def _first_step(result: TheoryResult) -> str:
    found = {name: _of(result, "share_difference", name, 1) for name in _names(result)}
    words = listed(f"{_points(m)} from {name}" for name, m in found.items())
    most = max(found, key=lambda name: found[name].value or 0)
    end = f"; the largest gain is from {most}" if len(found) > 1 else ""
    return f"the first step changes the share of {FOLLOWED} by {words}{end}."


def _points(gain: Measurement) -> str:
    """+9.6 points; or that the interval holds 0."""
    held = gain.lower is not None and gain.upper is not None and gain.lower <= 0 <= gain.upper
    return like(gain, gain.value or 0.0) + (" (the interval holds 0)" if held else "")


def _odds_step(result: TheoryResult) -> str:
    gains = {}
    for name in _names(result):
        before, after = (_of(result, "share_log_odds", name, step).value for step in (0, 1))
        if before is not None and after is not None and math.isfinite(before) and math.isfinite(after):
            gains[name] = (before, after - before)
    if not gains:
        return "Before or after the first step all grids are of a single class: its log-odds are infinite."
    words = listed(f"{number(gain, 3, signed=True)} from {name}" for name, (_, gain) in gains.items())
    start = {name: result.settings["mixtures"][name][0] for name in gains}
    upward = [gains[name][1] for name in sorted(gains, key=lambda name: start[name]) if start[name] >= 0.5]
    if len(upward) < 2:
        return f"First step: {words}."
    grows = "grows with" if all(a < b for a, b in pairwise(upward)) else "does not grow throughout with"
    return f"First step: {words}. From even shares upward the gain {grows} the share."


def _ends(result: TheoryResult, last: int) -> str:
    words = []
    for name in _names(result):
        after, start = _of(result, "share", name, last), result.settings["mixtures"][name][0]
        held = after.lower is not None and after.upper is not None and after.lower <= start <= after.upper
        words.append(f"{name} at {measurement_text(after)}{', no change to be seen' if held else ''}")
    return f"{'; '.join(words)}."


def _against_law(result: TheoryResult) -> str:
    [deviation] = result.find("largest_deviation_from_law")
    if deviation.value is None:
        return f"{measurement_text(deviation)}."
    chance = deviation.params["chance of as much, about"]
    return (
        f"The means of the grids differ from the exact law by at most {number(deviation.value, 2)} standard errors in "
        f"{counted(deviation.n or 0, 'comparison')}; under the law as much or more would have a chance "
        f"of about {number(chance, 2)}, were the comparisons normal and independent."
    )


def _caveats(result: TheoryResult) -> list[str]:
    told = [
        "A model of class minima on a grid, with independent neighbours: no network and no data are in it. Whether an "
        "encoder's levels merge minima in this way is not shown by it."
    ]
    if result.settings["ties"] in ("majority", "minority"):
        told.append(
            "These ties look at the whole grid, so its cells are not independent: the law drawn is that of large "
            "grids, and small levels differ from it."
        )
    return told


def _figure_3(result: TheoryResult) -> Section:
    names = _names(result)
    rows = [_grids(result, index) for index in range(len(names))]
    classes = len(result.settings["mixtures"][names[0]])
    told = "; ".join(
        f"{name}: {', '.join(percent(_followed(grid)) for grid in row)}" for name, row in zip(names, rows, strict=True)
    )
    alt = plain(f"Grids of each mixture, level by level, with the share of {FOLLOWED}. {told}.")
    with styled():
        svg = inline(_table_of_grids([_short_name(name) for name in names], rows, classes), "figure-3", alt)
    shown = f"{rows[0][0].shape[0]}×{rows[0][0].shape[1]} cells"
    caption = (
        f"One grid of each mixture ({shown}), and what each step makes of it; above each the share of {FOLLOWED}, "
        f"drawn {'dark; the other class is light' if classes == 2 else 'darkest; the others in falling shades'}."
    )
    return Section(
        id="figure-3",
        title="Figure 3 redrawn",
        lead="A step takes every window of cells for one cell of its most frequent class.",
        figures=[Plot(svg=svg, alt=alt, caption=plain(caption))],
    )


def _table_of_grids(labels: Sequence[str], rows: Sequence[Sequence[np.ndarray]], classes: int) -> Figure:
    """A row of grids for each label, the share of the followed class above each grid.

    Placed by hand: matplotlib's own layout takes seconds for so many axes.
    """
    left = LABEL_INCHES * max(map(len, labels)) + 0.2
    width, height = left + (GRID_INCHES + GAP_INCHES) * len(rows[0]), (GRID_INCHES + TITLE_INCHES) * len(rows)
    figure = Figure(figsize=(width, height))
    for y, (label, row) in enumerate(zip(labels, rows, strict=True)):
        bottom = height - (y + 1) * (GRID_INCHES + TITLE_INCHES)
        for x, grid in enumerate(row):
            place = (left + x * (GRID_INCHES + GAP_INCHES), bottom, GRID_INCHES, GRID_INCHES)
            axes = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
            _draw_grid(axes, grid, classes)
            axes.set_title(f"{percentage(_followed(grid))} %", fontsize=8, pad=3)
            if x == 0:
                axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    return figure


def _short_name(name: str) -> str:
    """The name of a mixture where there is little room."""
    text = plain(name)
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def _followed(grid: Int[np.ndarray, "h w"]) -> float:
    return float((grid == 0).mean())


def _grids(result: TheoryResult, index: int) -> list[Int[np.ndarray, "h w"]]:
    """The shown grid of a mixture and its levels."""
    found: list[np.ndarray] = []
    while (name := f"grid_{index}_{len(found)}") in result.arrays:
        found.append(result.arrays[name])
    return found


def _draw_grid(axes: Axes, grid: Int[np.ndarray, "h w"], classes: int) -> None:
    """Cells in shades that need no colour: the last class as ground, one shape on it for each of the others."""
    h, w = grid.shape
    axes.set_facecolor((SERIES[0], LIGHTEST))
    for value in range(classes - 1):
        opacity = 1 - (1 - LIGHTEST) * value / (classes - 1)
        shape = Path.make_compound_path(*_runs(grid == value))
        axes.add_collection(PathCollection([shape], facecolors=SERIES[0], alpha=opacity, linewidths=0))
    axes.set(xlim=(0, w), ylim=(h, 0), aspect="equal", xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, color=MUTED, linewidth=0.6)


def _runs(cells: np.ndarray) -> list[Path]:
    """The rectangles of cells side by side in each row: fewer shapes than one per cell."""
    edges = np.diff(np.pad(cells.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [
        Path([(a, y), (b, y), (b, y + 1), (a, y + 1), (a, y)], closed=True)
        for (y, a), (_, b) in zip(starts.tolist(), stops.tolist(), strict=True)
    ]


def _levels(result: TheoryResult) -> Section:
    names, last = _names(result), result.settings["levels"]
    lead = (
        f"Means over {counted(result.settings['replicates'], 'grid')} of each mixture as points, with intervals where "
        f"they are wider than the points; lines: the exact law."
    )
    columns = ("Mixture", *(f"step {step}" if step else "start" for step in range(last + 1)))
    shares = {name: [_of(result, "share", name, step) for step in range(last + 1)] for name in names}
    table = TableView(
        key="levels",
        caption=f"Share of {FOLLOWED}, mean over the grids",
        columns=columns,
        rows=tuple((Cell(text=plain(name)), *map(measurement_cell, row)) for name, row in shares.items()),
        note=interval_note([m for found in shares.values() for m in found]),
        style="dense",
    )
    return Section(
        id="levels",
        title="Share by level",
        lead=lead,
        figures=[
            *_plot(result, "share", "law", "share", f"share of {FOLLOWED} (%)", 100),
            *_plot(result, "share_log_odds", "law_log_odds", "log-odds", f"log-odds of {FOLLOWED}", 1),
        ],
        tables=[table, *_law_by_level(result, columns)],
    )


def _law_by_level(result: TheoryResult, columns: tuple[str, ...]) -> list[TableView]:
    """The law's shares, and how far the grids are from them."""
    rows = []
    for index, name in enumerate(_names(result)):
        if (law := result.arrays.get(f"law_{index}")) is not None:
            apart = result.arrays[f"deviation_{index}"]
            cells = [_law_cell(*pair) for pair in zip(law[:, 0].tolist(), apart[:, 0].tolist(), strict=True)]
            rows.append((Cell(text=plain(name)), *cells))
    if not rows:
        return []
    note = (
        "Below a share: mean of the grids minus law, in standard errors (se); none where fewer than 5 cells of a class "
        "are to be expected in all grids together."
    )
    caption = f"Share of {FOLLOWED} by the exact law, in per cent"
    return [TableView(key="law_by_level", caption=caption, columns=columns, rows=tuple(rows), note=note, style="dense")]


def _law_cell(share: float, apart: float) -> Cell:
    detail = "" if math.isnan(apart) else f"{number(round(apart, 2), 2, signed=True)} se"
    return Cell(text=f"{100 * share:.2f}", detail=detail, numeric=True)


def _plot(result: TheoryResult, name: str, law: str, word: str, label: str, factor: int) -> list[Plot]:
    """Law as lines, simulation as points with their intervals; none where no value is finite."""
    lines, told = [], []
    for style, mixture in enumerate(_names(result)):
        found = [_of(result, name, mixture, step) for step in range(result.settings["levels"] + 1)]
        points = tuple(p for step, m in enumerate(found) if (p := point(step, m)) is not None)
        curve = result.arrays.get(f"{law}_{style}")
        shown = () if curve is None else _finite(curve[: len(points) + 1, 0])
        if shown:
            lines.append(Line(label=mixture, points=shown, style=style, markers=False))
        if points:
            lines.append(Line(label="" if shown else mixture, points=points, style=style, joined=False))
        values = ", ".join(number(factor * p.y, 3) for p in points)
        told.append(f"{mixture}: {values or 'infinite at every level'}")
    end = ". Levels whose grids were all of one class have no finite log-odds." if factor == 1 else "."
    drawn: dict[str, Any] = {
        "name": name.replace("_", "-"),
        "alt": f"{word} of {FOLLOWED} by level. {'; '.join(told)}.",
        "caption": f"{word[0].upper()}{word[1:]} of {FOLLOWED} against the number of steps. Lines: exact law{end}",
    }
    return [draw(lines, **drawn, x_label="abstraction steps", y_label=label, factor=factor)] if lines else []


def _finite(curve: Float[np.ndarray, " levels"]) -> tuple[Point, ...]:
    return tuple(Point(x=step, y=float(y)) for step, y in enumerate(curve) if math.isfinite(y))


def _gains(result: TheoryResult) -> Section:
    names, last = _names(result), result.settings["levels"]
    found = {name: [_of(result, "share_difference", name, step) for step in range(1, last + 1)] for name in names}
    table = TableView(
        key="gains",
        caption=f"What each step adds to the share of {FOLLOWED}",
        columns=("Mixture", *(f"step {step}" for step in range(1, last + 1))),
        rows=tuple((Cell(text=plain(name)), *map(measurement_cell, row)) for name, row in found.items()),
        note=interval_note([m for row in found.values() for m in row]),
        style="dense",
    )
    return Section(
        id="gains",
        title="Gain by step",
        lead="A share of nearly 100 % can gain no more points: compare gains in log-odds too.",
        tables=[table, *(_law_table(t) for t in result.tables if t.name == "law")],
    )


def _law_table(table: Table) -> TableView:
    rows = tuple(tuple(table_cell(value) for value in row) for row in table.rows)
    return TableView(key="law", caption=table.title, columns=table.columns, rows=rows, note=table.note)


def _classes(result: TheoryResult) -> list[Section]:
    """Of three classes or more: every class's share at both ends."""
    names, last = _names(result), result.settings["levels"]
    classes = len(result.settings["mixtures"][names[0]])
    if classes == 2:
        return []
    rows = []
    for name in names:
        for group in (f"class {index + 1}" for index in range(classes)):
            ends = [_of(result, "share", name, step, group) for step in (0, 1, last)]
            rows.append((Cell(text=plain(f"{name}, {group}")), *map(measurement_cell, ends)))
    table = TableView(
        key="classes",
        caption="Share of every class",
        columns=("Class", "start", "step 1", f"step {last}"),
        rows=tuple(rows),
        note=interval_note(result.find("share")),
        style="dense",
    )
    return [Section(id="classes", title="All classes", lead="", tables=[table])]
