"""Measurements and the audit's own tables -> tables of the page."""

from collections.abc import Sequence
from typing import Any

from leadline.records import Measurement, Table
from leadline.report.content import Cell, TableView
from leadline.report.findings import (
    BOUNDS,
    NO_CLASS,
    all_groups,
    compared_share,
    headline_groups,
    sampler_text,
    training_share,
)
from leadline.report.views import RunView
from leadline.report.words import (
    interval_note,
    like,
    measurement_cell,
    not_measurable,
    number,
    params_text,
    plain,
    quoted,
    setting,
    table_cell,
)

Views = Sequence[RunView]
SETS = {"samples": "generated", "held_out": "held-out real", "training": "training"}


def known(value: int | float | str | None) -> Cell:
    """A cell with a number or text, a dash where there is none."""
    if value is None:
        return Cell(text="–", muted=True)
    return Cell(text=value) if isinstance(value, str) else Cell(text=number(value), numeric=True)


def overview(views: Views) -> TableView:
    """One row per run, by depth: what it is, how it was sampled, what came out."""
    group = next((g for view in views for g in headline_groups(view)[:1]), None)
    columns = ["Run", "Depth", "Parameters", "Training steps", "Sampler", "Images"]
    columns += [f"Share of {quoted(group)}", f"{quoted(group)} in training data"] if group is not None else []
    columns += ["Unclassified", "Nearest training image", "Mean pairwise distance"]
    rows, shown = [], []
    for view in views:
        found = [] if group is None else [compared_share(view, group), training_share(view, group)]
        nearest = view.against_k("nearest_distance", "samples")
        found += [
            view.first("share", "unclassified", set="samples"),
            nearest[0] if nearest else None,
            view.first("mean_pairwise_distance", set="samples"),
        ]
        facts = (
            view.depth,
            view.header.model.get("parameters"),
            None if view.recipe is None else view.recipe.train.steps,
            sampler_text(view),
            next((m.n for m in view.find("share", set="samples") + nearest if m.n is not None), None),
        )
        rows.append((Cell(text=view.name), *map(known, facts), *map(measurement_cell, found)))
        shown += found
    units = dict.fromkeys(f"{m.name} in {m.unit}" for m in shown if m is not None and m.unit and m.name != "share")
    return TableView(
        key="overview",
        caption="Runs by depth (number of down blocks)" if len(views) > 1 else "The run",
        columns=tuple(columns),
        rows=tuple(rows),
        note=" ".join(
            filter(None, (interval_note(shown, methods=False), f"Units: {'; '.join(units)}." if units else ""))
        ),
    )


def shares(view: RunView) -> TableView:
    """Shares of every class, and how far they are from the training data."""
    comparisons = ("share_difference", "share_ratio", "share_amplification")
    rows, shown = [], []
    for group in [*all_groups(view), *NO_CLASS]:
        of_all = view.first("share", group, set="samples")
        if group in NO_CLASS:
            if of_all is not None:
                rows.append((Cell(text=group), measurement_cell(of_all), *[Cell(text="–", muted=True)] * 6))
            continue
        found = [of_all, compared_share(view, group), training_share(view, group)]
        found += [view.first(name, group) for name in comparisons]
        rows.append((Cell(text=plain(group)), *map(measurement_cell, found), _bounds(found[3])))
        shown += found
    return TableView(
        key="shares",
        caption=f"{view.name}: shares by class",
        columns=(
            "Class",
            "Share of all images",
            "Share of recognised images",
            "Share of training data",
            "Difference",
            "Ratio",
            "share_amplification",
            "Difference if none / all unclassified were of it",
        ),
        rows=tuple(rows),
        note="Compared with the training data are the images recognised as one of its classes. " + interval_note(shown),
    )


def _bounds(difference: Measurement | None) -> Cell:
    if difference is None or not set(BOUNDS) <= set(difference.params):
        return Cell(text="–", muted=True)
    ends = [like(difference, difference.params[name], ending=False) for name in BOUNDS]
    return Cell(text=f"{' / '.join(ends)} points", numeric=True)


def neighbours(views: Views, name: str) -> TableView:
    """Distance or similarity to the k nearest training images as the papers' Table 3: a row per run and set."""
    ks = _ks(views, name)
    rows, shown = [], []
    for view in views:
        for subset in ("samples", "held_out"):
            found = [view.first(name, set=subset, k=k) for k in ks] or [view.first(name, set=subset)]
            if any(m is not None for m in found):
                n = next((m.n for m in found if m is not None and m.n is not None), None)
                cells = (Cell(text=view.name), Cell(text=SETS[subset]), known(n), *map(measurement_cell, found))
                rows.append(cells)
                shown += found
    return TableView(
        key=name,
        caption=f"{name}: mean over the k nearest training images",
        columns=("Run", "Images", "n", *([f"k = {k}" for k in ks] or ["Value"])),
        rows=tuple(rows),
        note=_about(shown),
    )


def plain_distances(views: Views) -> TableView | None:
    """The same distances as plain Euclidean ones, which depend on the image size, and how many images are exact copies.

    None where the audit gives no such params.
    """
    ks = _ks(views, "nearest_distance")
    rows = []
    for view in views:
        for subset in ("samples", "held_out"):
            found = [view.first("nearest_distance", set=subset, k=k) for k in ks]
            params = next((m.params for m in found if m is not None and "l2" in m.params), None)
            if params is not None:
                distances = [known(None if m is None else m.params.get("l2")) for m in found]
                facts = (known(params.get("image_size")), known(params.get("identical_to_training")))
                rows.append((Cell(text=view.name), Cell(text=SETS[subset]), *facts, *distances))
    if not rows:
        return None
    return TableView(
        key="plain_distances",
        caption="The same as plain Euclidean distance over all pixel values, and exact copies",
        columns=("Run", "Images", "Image size, px", "Identical to a training image", *(f"k = {k}" for k in ks)),
        rows=tuple(rows),
    )


def _ks(views: Views, name: str) -> list[int]:
    return sorted({m.params["k"] for view in views for m in view.find(name) if "k" in m.params})


def diversity(views: Views) -> TableView:
    """Mean pairwise distance of every run and its training data."""
    rows, shown = [], []
    for view in views:
        for subset in ("samples", "training"):
            found = view.first("mean_pairwise_distance", set=subset)
            n = None if found is None else found.n
            rows.append((Cell(text=view.name), Cell(text=SETS[subset]), known(n), measurement_cell(found)))
            shown.append(found)
    columns = ("Run", "Images", "n", "Mean pairwise distance")
    return TableView(
        key="mean_pairwise_distance",
        caption="Mean pairwise distance",
        columns=columns,
        rows=tuple(rows),
        note=_about(shown),
    )


def _about(measurements: Sequence[Measurement | None]) -> str:
    """Unit, space and direction of the values of one table, and what their intervals are."""
    found = [m for m in measurements if m is not None and m.value is not None]
    units = "; ".join(dict.fromkeys(m.unit for m in found if m.unit))
    spaces = "; ".join(dict.fromkeys(str(m.params["space"]) for m in found if "space" in m.params))
    directions = "; ".join(dict.fromkeys(m.direction for m in found if m.direction))
    parts = (
        f"Measured in {spaces}." if spaces else "",
        f"Unit: {units}." if units else "",
        f"Direction: {directions}." if directions else "",
        interval_note(found),
    )
    return " ".join(part for part in parts if part)


def long(view: RunView, names: Sequence[str], caption: str) -> TableView:
    """One measurement per row: name, options, value with interval, unit, n, direction, method."""
    rows = [_long_row(m) for name in names for m in view.find(name)]
    columns = ("Measurement", "Of", "Value", "Unit", "n", "Direction", "Interval by")
    return TableView(key="measurements", caption=f"{view.name}: {caption}", columns=columns, rows=tuple(rows))


def _long_row(m: Measurement) -> tuple[Cell, ...]:
    of = ", ".join(part for part in (m.group, params_text(m)) if part)
    value = measurement_cell(m)
    return (Cell(text=m.name), Cell(text=of), value, *map(known, (m.unit or None, m.n, m.direction or None, m.method)))


def not_measured(views: Views, names: Sequence[str]) -> list[str]:
    """One sentence per measurement that could not be made, with the reason; equal ones once."""
    sentences: dict[str, None] = {}
    for view in views:
        for m in (m for name in names for m in view.find(name) if m.value is None):
            of = SETS.get(str(m.params.get("set")), "")
            tags = ", ".join(part for part in (m.group or "", of) if part)
            sentences[f"{view.name}: {m.name}{f' ({tags})' if tags else ''} is {not_measurable(m)}"] = None
    return list(sentences)


def of_audit(view: RunView, table: Table) -> TableView:
    """A table of the audit as it is."""
    rows = tuple(tuple(table_cell(value) for value in row) for row in table.rows)
    caption = f"{view.name}: {table.title}"
    return TableView(key=table.name, caption=caption, columns=table.columns, rows=rows, note=table.note)


def confusion(table: Table, names: str) -> TableView:
    """The confusion matrix: counts, each shaded by how it stands to the largest of its row."""
    rows = []
    for name, *counts in table.rows:
        largest = max((c for c in counts if isinstance(c, int | float)), default=0)
        rows.append((Cell(text=setting(name)), *(_shaded(count, largest) for count in counts)))
    return TableView(
        key=table.name,
        caption=f"{names}: {table.title}",
        columns=table.columns,
        rows=tuple(rows),
        note=" ".join(filter(None, (table.note, "Rows are true classes, columns what the labeler said."))),
        style="matrix",
    )


def _shaded(count: Any, largest: int | float) -> Cell:
    if not isinstance(count, int | float):
        return table_cell(count)
    return Cell(text=number(count), numeric=True, shade=count / largest if largest else 0.0)
