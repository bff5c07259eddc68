"""Which measurements stand in which plot. Every plot has its main numbers in words beside it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from leadline.records import Measurement
from leadline.report.content import Plot
from leadline.report.findings import compared_share, headline_groups, training_share
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.views import RunView
from leadline.report.words import measurement_text, number, percent, quoted

Views = Sequence[RunView]
Found = Mapping[str, Measurement | None]
"""Name of a run -> its measurement."""
REPLICATE_GAP = 0.09
"""Distance on the x axis of two runs at one depth."""
MOST_LINES = 4
"""Classes drawn in one plot; more would hide each other, the table has them all."""


def axis(views: Views) -> tuple[list[str], str]:
    """Names of the places on the x axis and its title: depths when every run has one, else the runs themselves."""
    if all(view.depth is not None for view in views):
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


def _place(view: RunView, places: Sequence[str]) -> int:
    return places.index(view.depth if view.depth is not None and view.depth in places else view.label)


def _told(views: Views, found: Found) -> str:
    words = {view.label: found[view.name] for view in views}
    return "; ".join(f"{name}: {measurement_text(m) if m is not None else 'not measured'}" for name, m in words.items())


def bias(views: Views) -> list[Plot]:
    """Share of the answer's classes against depth as in the papers' Figure 4, and their amplification."""
    groups = list(dict.fromkeys(group for view in views for group in headline_groups(view)))[:MOST_LINES]
    plots = [_share_plot(views, group, index) for index, group in enumerate(groups)]
    return [plot for plot in (*plots, _amplification_plot(views, groups)) if plot is not None]


def _share_plot(views: Views, group: str, index: int) -> Plot | None:
    places, x_label = axis(views)
    found = {view.name: compared_share(view, group) for view in views}
    lines = _lines(views, found, places, quoted(group))
    if not lines:
        return None
    of_training = (training_share(view, group) for view in views)
    known = dict.fromkeys(m.value for m in of_training if m is not None and m.value is not None)
    data = f"; training data: {', '.join(map(percent, known))}" if known else ""
    return draw(
        lines,
        name=f"share-{index}",
        alt=f"Share of {quoted(group)} against {x_label}. {_told(views, found)}{data}.",
        caption=f"Share of {quoted(group)} in the generated images. Bars: intervals, for the number of images alone; "
        "dashed: its share in the training data.",
        x_label=x_label,
        y_label=f"share of {quoted(group)}, %",
        levels=[Level(y=value, label=f"training data {percent(value)}") for value in known],
        categories=places,
        from_zero=True,
        factor=100,
    )


def _amplification_plot(views: Views, groups: Sequence[str]) -> Plot | None:
    places, x_label = axis(views)
    lines: list[Line] = []
    told = []
    for group in groups:
        found = {view.name: view.first("share_amplification", group) for view in views}
        lines += _lines(views, found, places, quoted(group), len(lines))
        told.append(f"{quoted(group)}: {_told(views, found)}")
    if not lines:
        return None
    return draw(
        lines,
        name="amplification",
        alt=f"share_amplification against {x_label}. {'. '.join(told)}. None is 0.",
        caption="share_amplification, the log-odds ratio of the share in the generated images and in the training "
        "data. Bars: intervals; dashed: none. An infinite value (a share of 0 or 1) is left to the table.",
        x_label=x_label,
        y_label="share_amplification",
        levels=[Level(y=0.0, label="none")],
        categories=places,
    )


def diversity(views: Views) -> list[Plot]:
    """Mean pairwise distance against depth, the training data's own dashed."""
    places, x_label = axis(views)
    found = {view.name: view.first("mean_pairwise_distance", set="samples") for view in views}
    lines = _lines(views, found, places, "generated", 1)
    if not lines:
        return []
    real = {view.name: view.first("mean_pairwise_distance", set="training") for view in views}
    known = {m.value: None for m in real.values() if m is not None and m.value is not None}
    levels = [Level(y=value, label=f"training data {number(value, 3)}") for value in known]
    return [
        draw(
            lines,
            name="diversity",
            alt=f"Mean pairwise distance against {x_label}. {_told(views, found)}; training data: "
            f"{', '.join(number(value) for value in known) or 'not measured'}.",
            caption="Mean pairwise distance of the generated images. Bars: intervals; dashed: the training data.",
            x_label=x_label,
            y_label="mean pairwise distance",
            levels=levels,
            categories=places,
        )
    ]


def neighbours(views: Views) -> list[Plot]:
    """Distance and similarity to the k nearest training images against k, held-out real images beside them."""
    wanted = (("nearest_distance", "distance"), ("nearest_similarity", "cosine similarity"))
    return [plot for name, word in wanted if (plot := _against_k(views, name, word)) is not None]


def _against_k(views: Views, name: str, word: str) -> Plot | None:
    lines: list[Line] = []
    told: list[str] = []
    baselines: set[tuple[Point, ...]] = set()
    for index, view in enumerate(views):
        for subset, hollow in (("samples", False), ("held_out", True)):
            found = view.against_k(name, subset)
            points = tuple(p for m in found if (p := point(m.params.get("k", 0), m)) is not None)
            if not points or (hollow and points in baselines):
                continue
            label = "held-out real" if hollow else view.label
            style = len(views) if hollow else index
            baselines |= {points} if hollow else set()
            lines.append(Line(label=label, points=points, style=style, hollow=hollow))
            values = ", ".join(f"k = {number(p.x)}: {number(p.y)}" for p in points)
            told.append(f"{label}: {values}")
    if not lines:
        return None
    unit = next((m.unit for view in views for m in view.find(name) if m.unit), "")
    return draw(
        lines,
        name=name.replace("_", "-"),
        alt=f"{word.capitalize()} to the k nearest training images against k. {'; '.join(told)}.",
        caption=f"Mean {word} to the k nearest training images{f' ({unit})' if unit not in word else ''}. "
        "Hollow marker: held-out real images, the baseline. Bars: intervals.",
        x_label="k, number of nearest training images",
        y_label=word,
        x_ticks=sorted({p.x for line in lines for p in line.points}),
    )


def curves(views: Views) -> list[Plot]:
    """Training loss against step."""
    lines, told = [], []
    for index, view in enumerate(views):
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
