"""Which measurements stand in which plot. Every plot has its main numbers in words beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from leadline.records import Measurement
from leadline.report.content import Plot
from leadline.report.dots import Row, draw_rows
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.shares import all_groups, compared_share, corrected_share, headline_groups, training_share
from leadline.report.spaces import MOST_SPACES, anchor, in_space, measured_spaces
from leadline.report.views import RunView
from leadline.report.words import SETS, like, measurement_text, number, percent, quoted

Views = Sequence[RunView]
Found = Mapping[str, Measurement | None]
"""Name of a run -> its measurement."""
REPLICATE_GAP = 0.09
"""Distance on the x axis of two runs at one depth."""
MOST_LINES = 4
"""Classes drawn in one plot; more would hide each other, the table has them all."""
MOST_ROWS = 12
"""Classes drawn below each other."""
BESIDE = 0.07
"""Distance on the x axis of two readings of one run."""


def axis(views: Views) -> tuple[list[str], str]:
    """Names of the places on the x axis and its title: depths when every run has one and none was steered otherwise
    than the others, else the runs themselves."""
    if all(view.depth is not None for view in views) and len({view.steering for view in views}) == 1:
        return list(
            dict.fromkeys(view.depth for view in views if view.depth is not None)
        ), "depth (number of down blocks)"
    return [view.label for view in views], "run"


def point(x: int | float, measurement: Measurement | None) -> Point | None:
    """The measurement as a point with its interval; None where there is no finite value to draw."""
    m = measurement
    if m is None or m.value is None or math.isinf(m.value):
        return None
    finite = [end if end is not None and math.isfinite(end) else None for end in (m.lower, m.upper)]
    return Point(x=x, y=m.value, lower=finite[0], upper=finite[1])


def _lines(views: Views, found: Found, places: Sequence[str], label: str, style: int = 0) -> list[Line]:
    """One line over depth per kind of member; several runs at one depth stand side by side, not joined."""
    lines: list[Line] = []
    for member in dict.fromkeys(view.member for view in views):
        chosen = [view for view in views if view.member == member]
        at = [_place(view, places) for view in chosen]
        beside = [at[:i].count(x) - (at.count(x) - 1) / 2 for i, x in enumerate(at)]
        moved = [x + REPLICATE_GAP * step for x, step in zip(at, beside, strict=True)]
        points = [p for x, view in zip(moved, chosen, strict=True) if (p := point(x, found[view.name])) is not None]
        if points:
            words = f"{label}, {member} matched" if member else label
            joined = len(set(at)) == len(at)
            lines.append(Line(label=words, points=tuple(points), style=style + len(lines), joined=joined))
    return lines


def _moved(line: Line) -> Line:
    """A line's points to the right of where they belong, hollow and not joined."""
    points = tuple(replace(p, x=p.x + BESIDE) for p in line.points)
    return replace(line, points=points, hollow=True, joined=False)


def _place(view: RunView, places: Sequence[str]) -> int:
    return places.index(view.label if view.label in places else str(view.depth))


def _told(views: Views, found: Found) -> str:
    words = {view.label: found[view.name] for view in views}
    return "; ".join(f"{name}: {measurement_text(m) if m is not None else 'not measured'}" for name, m in words.items())


def over_runs(
    views: Views,
    series: Mapping[str, Found],
    *,
    name: str,
    of: str,
    caption: str,
    y_label: str,
    beside: tuple[str, Found] | None = None,
    baseline: Found | None = None,
    baseline_words: str = "training data",
    level: Level | None = None,
    style: int = 0,
    from_zero: bool = False,
    factor: int = 1,
) -> Plot | None:
    """Measurements against depth, or run by run: a line per series (label -> found). None where nothing can be drawn.

    of: what is drawn, as the alternative text begins. beside: another reading of the same, its name first, drawn hollow
    to the right of it. baseline: what the series are compared with: a level where it is one number for all runs, else
    hollow points. level: a fixed one. style: that of the first line.
    """
    views = [view for view in views if view.drawn]
    if not views:
        return None
    places, x_label = axis(views)
    lines: list[Line] = []
    for label, found in series.items():
        lines += _lines(views, found, places, label, style + len(lines))
    if not lines:
        return None
    told = [f"{label}: {_told(views, found)}" for label, found in series.items()]
    if beside is not None:
        label, found = beside
        lines += [_moved(line) for line in _lines(views, found, places, label, style + len(lines))]
        told.append(f"{label}: {_told(views, found)}")
    levels = [level] if level is not None else []
    if baseline is not None:
        known = list(dict.fromkeys(m.value for m in baseline.values() if m is not None and m.value is not None))
        if len(known) == 1:
            levels.append(Level(y=known[0], label=f"{baseline_words} {_written(baseline)}"))
        else:
            points = _lines(views, baseline, places, baseline_words, style + len(lines))
            lines += [replace(line, hollow=True, joined=False) for line in points]
        values = _written(baseline) if len(known) == 1 else _told(views, baseline) if known else "not measured"
        told.append(f"{baseline_words}: {values}")
    return draw(
        lines,
        name=name,
        alt=f"{of} against {x_label}. {'. '.join(told)}.",
        caption=caption,
        x_label=x_label,
        y_label=y_label,
        levels=levels,
        categories=places,
        from_zero=from_zero,
        factor=factor,
    )


def _written(found: Found) -> str:
    """The first value there is, as the page writes it."""
    return next((like(m, m.value) for m in found.values() if m is not None and m.value is not None), "")


def bias(views: Views) -> list[Plot]:
    """Share of the answer's classes against depth as in the papers' Figure 4, and their amplification."""
    groups = list(dict.fromkeys(group for view in views for group in headline_groups(view)))[:MOST_LINES]
    plots = [_share_plot(views, group, index) for index, group in enumerate(groups)]
    by_class = [_shares_by_class(view, index) for index, view in enumerate(views) if view.drawn]
    return [plot for plot in (*plots, *by_class, _amplification_plot(views, groups)) if plot is not None]


def _share_plot(views: Views, group: str, index: int) -> Plot | None:
    """As labelled; where it is corrected for the labeler's errors, that, and as labelled hollow beside it."""
    labeled: Found = {view.name: compared_share(view, group) for view in views}
    corrected: Found = {view.name: corrected_share(view, group) for view in views}
    is_corrected = any(corrected.values())
    bars = "for the number of images alone"
    if is_corrected:
        bars = "filled: corrected for the labeler's errors, which the bar holds too; hollow: as labelled"
    return over_runs(
        views,
        {f"{quoted(group)}, corrected": corrected} if is_corrected else {quoted(group): labeled},
        beside=("as labelled", labeled) if is_corrected else None,
        name=f"share-{index}",
        of=f"Share of {quoted(group)}",
        caption=f"Share of {quoted(group)} in the generated images. Bars: intervals, {bars}; "
        "dashed: its share in the training data.",
        y_label=f"share of {quoted(group)}, %",
        baseline={view.name: training_share(view, group) for view in views},
        from_zero=True,
        factor=100,
    )


def _shares_by_class(view: RunView, index: int) -> Plot | None:
    """All classes of one run below each other: corrected, as labelled, in the training data; of two, nothing new."""
    groups = all_groups(view)
    if not 2 < len(groups) <= MOST_ROWS:
        return None
    series = {"corrected": corrected_share, "as labelled": compared_share, "training data": training_share}
    found = {name: [point(0, share(view, group)) for group in groups] for name, share in series.items()}
    drawn = {name: points for name, points in found.items() if any(points)}
    told = "; ".join(
        f"{name}: " + ", ".join(f"{g} {percent(p.y)}" for g, p in zip(groups, points, strict=True) if p is not None)
        for name, points in drawn.items()
    )
    columns = zip(*drawn.values(), strict=True)
    return draw_rows(
        [Row(label=group, points=points) for group, points in zip(groups, columns, strict=True)],
        list(drawn),
        name=f"shares-by-class-{index}",
        alt=f"Shares of the classes, {view.name}. {told}.",
        caption=f"{view.name}: shares among the images of the training data's classes. Bars: intervals.",
        x_label="share, %",
        factor=100,
    )


def _amplification_plot(views: Views, groups: Sequence[str]) -> Plot | None:
    return over_runs(
        views,
        {quoted(group): {view.name: view.first("share_amplification", group) for view in views} for group in groups},
        name="amplification",
        of="share_amplification",
        caption="share_amplification, the log-odds ratio of the share in the generated images and in the training "
        "data. Bars: intervals; dashed: none. An infinite value (a share of 0 or 1) is left to the table.",
        y_label="share_amplification",
        level=Level(y=0.0, label="none"),
    )


def neighbours(views: Views) -> list[Plot]:
    """Distance and similarity to the k nearest training images against k, held-out real images beside them.

    A plot per space, of features no more than the first few.
    """
    wanted = [("nearest_distance", "distance", space) for space in measured_spaces(views, "nearest_distance")]
    similar = measured_spaces(views, "nearest_similarity")[:MOST_SPACES]
    wanted += [("nearest_similarity", "cosine similarity", space) for space in similar]
    return [plot for found in wanted if (plot := _against_k(views, *found)) is not None]


def _against_k(views: Views, name: str, word: str, space: str | None) -> Plot | None:
    lines: list[Line] = []
    told: list[str] = []
    baselines: set[tuple[Point, ...]] = set()
    views = [view for view in views if view.drawn]
    for index, view in enumerate(views):
        for subset, hollow in (("samples", False), ("held_out", True)):
            found = view.against_k(name, subset, space)
            points = tuple(p for m in found if (p := point(m.params.get("k", 0), m)) is not None)
            if not points or (hollow and points in baselines):
                continue
            label = SETS["held_out"] if hollow else view.label
            style = len(views) if hollow else index
            baselines |= {points} if hollow else set()
            lines.append(Line(label=label, points=points, style=style, hollow=hollow))
            values = ", ".join(f"k = {number(p.x)}: {number(p.y)}" for p in points)
            told.append(f"{label}: {values}")
    if not lines:
        return None
    unit = next((m.unit for view in views for m in view.find(name, space=space) if m.unit), "")
    return draw(
        lines,
        name=f"{name.replace('_', '-')}-{anchor(space)}",
        alt=f"{word.capitalize()} to the k nearest training images{in_space(space)} against k. {'; '.join(told)}.",
        caption=f"Mean {word} to the k nearest training images{in_space(space)}"
        f"{f' ({unit})' if unit and unit not in word else ''}. "
        "Hollow marker: held-out real images, the baseline. Bars: intervals.",
        x_label="k, number of nearest training images",
        y_label=word,
        x_ticks=sorted({p.x for line in lines for p in line.points}),
    )


def curves(views: Views) -> list[Plot]:
    """Training loss against step."""
    lines, told = [], []
    for index, view in enumerate(view for view in views if view.drawn):
        points = tuple(Point(x=r["step"], y=r["loss"]) for r in view.curve if _drawable(r))
        if points:
            lines.append(Line(label=view.label, points=points, style=index, markers=False))
            told.append(f"{view.label}: {number(points[-1].y)} at step {number(points[-1].x)}")
    if not lines:
        return []
    return [
        draw(
            lines,
            name="curves",
            alt=f"Training loss against step. Last values: {'; '.join(told)}.",
            caption="Training loss, mean squared error of the predicted noise, logarithmic scale.",
            x_label="training step",
            y_label="loss",
            log_y=True,
        )
    ]


def _drawable(record: dict[str, Any]) -> bool:
    step, loss = record.get("step"), record.get("loss")
    return isinstance(step, int | float) and isinstance(loss, int | float) and 0 < loss < float("inf")
