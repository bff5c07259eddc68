"""The section on diversity: mean distances over all pairs, within and between classes, and Vendi scores."""

from collections.abc import Sequence

from leadline.records import Measurement
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.drawings import over_runs
from leadline.report.spaces import MOST_SPACES, anchor, in_space, measured_spaces, of_space
from leadline.report.tables import known, not_measured, reading
from leadline.report.views import RunView, missing_runs, nothing_to_show
from leadline.report.words import SETS, brief_cell, interval_note, like, plain

Views = Sequence[RunView]
PAIRS = ("mean_pairwise_lpips", "mean_pairwise_feature_distance")
"""Distances of which there are also those within classes and between them."""
MEASURES = ("mean_pairwise_distance", *PAIRS, "vendi_score")
WORDS = {
    "mean_pairwise_distance": "Mean pairwise distance",
    "mean_pairwise_lpips": "Mean pairwise LPIPS",
    "mean_pairwise_feature_distance": "Mean pairwise feature distance (uncalibrated)",
    "vendi_score": "Vendi score",
}
MOST_ALONE = 2
"""Drawings of a single run, which show no more than two numbers each: the table has them all."""
LISTED_CLASSES = 3
"""Classes up to which all their pairs are listed with intervals; of more, a matrix has the values."""


def diversity_section(views: Views) -> Section:
    """How much the generated images differ from each other, the training data's images beside them."""
    title = "Diversity: how much the images differ"
    measured = [view for view in views if view.measured(MEASURES)]
    missing = not_measured(views, MEASURES)
    if not measured:
        return Section(id="diversity", title=title, lead=nothing_to_show(views, "diversity"), caveats=missing)
    by_class = [table for view in measured for table in class_tables(view)]
    return Section(
        id="diversity",
        title=title,
        lead="How far apart two images are on average, over all pairs. The total falls by itself when one class takes "
        f"over, so read it beside the {'distances within each class and the ' if by_class else ''}shares.",
        figures=plots(measured),
        tables=[overall(measured), *by_class, reading(measured, WORDS)],
        caveats=missing_runs(views, measured) + missing,
    )


def plots(views: Views) -> list[Plot]:
    """Mean pairwise distances against depth, the training data's own dashed; of each kind the first spaces."""
    drawn = []
    for name in MEASURES:
        for space in measured_spaces(views, name)[:MOST_SPACES]:
            words = f"{WORDS[name]}{in_space(space)}"
            drawn.append(
                over_runs(
                    views,
                    {SETS["samples"]: _of_all(views, name, "samples", space)},
                    name=f"{name.replace('_', '-')}-{anchor(space)}",
                    of=words,
                    caption=f"{words} of the generated images. Bars: intervals; dashed: the training data.",
                    y_label=WORDS[name].split(" (")[0].replace("Mean", "mean"),
                    baseline=_of_all(views, name, "training", space),
                    style=1,
                )
            )
    found = [plot for plot in drawn if plot is not None]
    return found if len(views) > 1 else found[:MOST_ALONE]


def _of_all(views: Views, name: str, subset: str, space: str | None) -> dict[str, Measurement | None]:
    return {view.name: _whole(view, name, subset, space) for view in views}


def _whole(view: RunView, name: str, subset: str, space: str | None) -> Measurement | None:
    """The measurement over all pairs of a set's images."""
    return view.first(name, set=subset, space=space, pairs="all" if name in PAIRS else None)


def overall(views: Views) -> TableView:
    """A row per measure, space and run: generated images beside training images."""
    rows, shown = [], []
    for name in MEASURES:
        for space in measured_spaces(views, name):
            for view in views:
                found = [_whole(view, name, subset, space) for subset in ("samples", "training")]
                if not any(found):
                    continue
                numbers = [cell for m in found for cell in (brief_cell(m), known(None if m is None else m.n))]
                rows.append((Cell(text=WORDS[name]), Cell(text=of_space(space)), Cell(text=view.name), *numbers))
                shown += found
    return TableView(
        key="diversity",
        caption="Mean distance over all pairs of images, and Vendi scores (the effective number of different images)",
        columns=("Measure", "Space", "Run", "Generated", "n", "Training data", "n"),
        rows=tuple(rows),
        note=interval_note(shown, methods=False),
    )


def class_tables(view: RunView) -> list[TableView]:
    """Distances within each class and between classes: listed with intervals for few classes, else a matrix."""
    tables = []
    for name in PAIRS:
        for space in measured_spaces([view], name):
            within = view.find(name, space=space, pairs="within")
            classes = list(dict.fromkeys(m.group for m in within if m.group is not None and m.value is not None))
            if classes:
                make = _listed if len(classes) <= LISTED_CLASSES else _matrix
                tables.append(make(view, name, space, classes))
    return tables


def _pair(view: RunView, name: str, space: str | None, subset: str, a: str, b: str) -> Measurement | None:
    if a == b:
        return view.first(name, a, space=space, set=subset, pairs="within")
    found = (view.first(name, f"{x} × {y}", space=space, set=subset, pairs="between") for x, y in ((a, b), (b, a)))
    return next((m for m in found if m is not None), None)


def _listed(view: RunView, name: str, space: str | None, classes: Sequence[str]) -> TableView:
    pairs = [(a, a) for a in classes] + [(a, b) for i, a in enumerate(classes) for b in classes[i + 1 :]]
    rows, shown = [], []
    for a, b in pairs:
        found = [_pair(view, name, space, subset, a, b) for subset in ("samples", "training")]
        title = f"within {a}" if a == b else f"{a} × {b}"
        rows.append((Cell(text=plain(title)), *map(brief_cell, found)))
        shown += found
    return TableView(
        key=f"{name}_by_class",
        caption=f"{view.name}: {WORDS[name]}{in_space(space)} by class",
        columns=("Pairs", "Generated", "Training data"),
        rows=tuple(rows),
        note=interval_note(shown, methods=False),
    )


def _matrix(view: RunView, name: str, space: str | None, classes: Sequence[str]) -> TableView:
    found = {(a, b): _pair(view, name, space, "samples", a, b) for a in classes for b in classes}
    largest = max((m.value for m in found.values() if m is not None and m.value is not None), default=0.0)
    rows = []
    for a in classes:
        beside = [_pair(view, name, space, "training", a, b) for b in classes]
        cells = [_shaded(found[a, b], other, largest) for b, other in zip(classes, beside, strict=True)]
        rows.append((Cell(text=plain(a)), *cells))
    return TableView(
        key=f"{name}_by_class",
        caption=f"{view.name}: {WORDS[name]}{in_space(space)} by class",
        columns=("Class", *map(plain, classes)),
        rows=tuple(rows),
        note="On the diagonal within a class, else between two. Below each value: the training data's. The intervals "
        "are in the JSON.",
        style="matrix",
    )


def _shaded(m: Measurement | None, training: Measurement | None, largest: float) -> Cell:
    detail = "" if training is None or training.value is None else like(training, training.value)
    if m is None or m.value is None:
        return Cell(text="–", detail=detail, muted=True)
    return Cell(text=like(m, m.value), detail=detail, numeric=True, shade=m.value / largest if largest else 0.0)
