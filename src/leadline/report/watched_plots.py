"""What is drawn of watched trainings: one bank of seeds over the steps, a line per run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from leadline.looks import HELD_OUT_LOSS, TRAINING_LOSS, UNRECOGNISED
from leadline.records import AuditResult, Measurement
from leadline.report.content import Figure, Plot
from leadline.report.drawings import MOST_LINES, point
from leadline.report.images import draw_panel
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.shares import compared_share, headline_groups, training_share
from leadline.report.spaces import LABELER, PIXELS
from leadline.report.views import RunView
from leadline.report.words import like, number, percent, plain, quoted

Views = Sequence[RunView]
Get = Callable[[RunView], Measurement | None]
"""What is read off a run as it was at one look."""
STRIP = "watched "
"""As `leadline.across.watched` begins the name of a run's strip."""


def at(view: RunView, look: int) -> RunView:
    """The run as it was at one of its looks: the look's measurements are its audit."""
    return replace(view, audit=AuditResult(measurements=view.looks[look].measurements))


def last(view: RunView) -> RunView:
    """The run as it was at its last look."""
    return at(view, len(view.looks) - 1)


def drawn_groups(views: Views) -> list[str]:
    """The classes that are drawn."""
    return list(dict.fromkeys(group for view in views for group in headline_groups(last(view))))[:MOST_LINES]


def plots(views: Views) -> list[Plot]:
    groups = drawn_groups(views)
    found = [_share_plot(views, group, i) for i, group in enumerate(groups)]
    found.append(
        _over_steps(
            views,
            lambda view: view.first(UNRECOGNISED),
            name="watched-unrecognised",
            of="Images that are not recognised",
            caption="Share of the bank's images that are labelled as no class of the training data: unclassified, or "
            "of another class. Where it is high, the shares of the classes rest on few images that a labeler chose.",
            y_label="not recognised, %",
            factor=100,
        )
    )
    found += [_against_loss(views, group, i) for i, group in enumerate(groups)]
    found.append(
        _over_steps(
            views,
            copy_rate,
            name="watched-copies",
            of="Copy rate",
            caption="Share of the bank's images that count as copies of a training image: d1/d2 in pixels.",
            y_label="copies, %",
            factor=100,
        )
    )
    found.append(
        _over_steps(
            views,
            pairwise_distance,
            name="watched-distance",
            of="Mean pairwise distance",
            caption="Mean squared distance between two images of the bank, labeler features of unit length. Dashed: "
            "the training data.",
            y_label="mean pairwise distance",
            level=lambda view: view.first("mean_pairwise_distance", set="training", space=LABELER),
        )
    )
    found.append(_losses(views))
    return [plot for plot in found if plot is not None]


def copy_rate(view: RunView) -> Measurement | None:
    return view.first("nearest_copy_rate", set="samples", space=PIXELS, rule="d1/d2")


def pairwise_distance(view: RunView) -> Measurement | None:
    return view.first("mean_pairwise_distance", set="samples", space=LABELER)


def kernel_distance(view: RunView) -> Measurement | None:
    return view.first("kernel_distance", set="samples", space=LABELER)


def labeled_training_share(view: RunView, group: str) -> Measurement | None:
    """The class's share in the training data as the labeler sees it, with which its share in the bank is compared."""
    m = view.first("labeled_difference", group)
    if m is None or m.value is None:
        return training_share(view, group)
    return Measurement(name="share", value=m.params["training_share_as_labeled"], group=group)


def _share_plot(views: Views, group: str, index: int) -> Plot | None:
    name = quoted(group)
    return _over_steps(
        views,
        lambda view: compared_share(view, group),
        name=f"watched-share-{index}",
        of=f"Share of {name}",
        caption=f"Share of {name} among the recognised images of the bank. Bars: intervals, each look by itself; "
        "dashed: the training data as the same labeler sees it.",
        y_label=f"share of {name}, %",
        level=lambda view: labeled_training_share(view, group),
        factor=100,
    )


def _over_steps(
    views: Views,
    get: Get,
    *,
    name: str,
    of: str,
    caption: str,
    y_label: str,
    level: Get | None = None,
    factor: int = 1,
) -> Plot | None:
    """A measurement over the steps, a line per run; None where it was never measured."""
    lines, told = [], []
    for index, view in enumerate(views):
        found = [(look.step, get(at(view, i))) for i, look in enumerate(view.looks)]
        points = tuple(p for step, m in found if (p := point(step, m)) is not None)
        if points:
            lines.append(Line(label=view.label, points=points, style=index))
            words = (f"step {step:,} {like(m, m.value)}" for step, m in found if m is not None and m.value is not None)
            told.append(f"{view.label}: {', '.join(words)}")
    if not lines:
        return None
    levels = _levels(views, level) if level is not None else []
    return draw(
        lines,
        name=name,
        alt=f"{of} over training steps. {'. '.join(told)}.",
        caption=caption,
        x_label="training step",
        y_label=y_label,
        levels=levels,
        from_zero=True,
        factor=factor,
    )


def _levels(views: Views, get: Get) -> list[Level]:
    """What the training data has; one level for each value that the runs know."""
    known = [m for view in views if (m := get(last(view))) is not None and m.value is not None]
    by_value = {m.value: m for m in known if m.value is not None}
    return [Level(y=value, label=f"training data {like(m, value)}") for value, m in by_value.items()]


def _losses(views: Views) -> Plot | None:
    lines, told = [], []
    for index, view in enumerate(views):
        for name, hollow in ((TRAINING_LOSS, False), (HELD_OUT_LOSS, True)):
            found = [(look.step, look.find(name)) for look in view.looks]
            points = tuple(Point(x=step, y=m.value) for step, m in found if m is not None and m.value)
            if points:
                label = f"{view.label}{', held out' if hollow else ''}"
                lines.append(Line(label=label, points=points, style=index, hollow=hollow, joined=not hollow))
                told.append(f"{label}: {number(points[0].y)} to {number(points[-1].y)}")
    if not lines:
        return None
    return draw(
        lines,
        name="watched-losses",
        alt=f"Losses of the averaged weights over training steps, first to last. {'; '.join(told)}.",
        caption="Loss of the averaged weights on a fixed bank of noised training images and, hollow, of held-out ones; "
        "logarithmic scale.",
        x_label="training step",
        y_label="loss",
        log_y=True,
    )


def _against_loss(views: Views, group: str, index: int) -> Plot | None:
    lines, told = [], []
    for style, view in enumerate(views):
        found = [(look.find(TRAINING_LOSS), compared_share(at(view, i), group)) for i, look in enumerate(view.looks)]
        known = [(loss.value, m) for loss, m in found if loss is not None and loss.value is not None]
        points = tuple(p for loss, m in known if (p := point(loss, m)) is not None)
        if points:
            lines.append(Line(label=view.label, points=points, style=style))
            told.append(f"{view.label}: {', '.join(f'{number(p.x, 3)} {percent(p.y)}' for p in points)}")
    if not lines:
        return None
    name = quoted(group)
    return draw(
        lines,
        name=f"watched-loss-share-{index}",
        alt=f"Share of {name} over falling training loss. {'. '.join(told)}.",
        caption=f"Share of {name} among the recognised images over the training loss of the same look, falling to the "
        "right: lines that lie on each other tell of runs that differ in how far they have come.",
        x_label="training loss of the averaged weights",
        y_label=f"share of {name}, %",
        levels=_levels(views, lambda view: labeled_training_share(view, group)),
        x_falls=True,
        from_zero=True,
        factor=100,
    )


def strips(views: Views) -> list[Figure]:
    found = []
    for view in views:
        for panel in view.across.panels if view.across is not None else ():
            if plain(panel.name) == f"{STRIP}{view.folder}":
                found.append(draw_panel(panel, view.name))
    return [figure for figure in found if figure is not None]
