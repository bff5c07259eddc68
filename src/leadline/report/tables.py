"""Measurements and the audit's own tables -> tables of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from leadline.records import Measurement, Table
from leadline.report.content import Cell, TableView
from leadline.report.findings import calibrated_rate, sampler_text
from leadline.report.shares import compared_share, corrected_share, headline_groups, powered_share, training_share
from leadline.report.spaces import in_space
from leadline.report.views import RunView, who
from leadline.report.words import (
    DIFFERENCE,
    SETS,
    brief_cell,
    interval_note,
    listed,
    measurement_cell,
    not_measurable,
    number,
    p_text,
    params_text,
    quoted,
    setting,
    table_cell,
)

Views = Sequence[RunView]
UNITS_TOLD = ("nearest_distance", "mean_pairwise_distance")
"""Columns of the overview whose title cannot hold their unit."""
MOST_TAGS = 4
"""Kinds of one measurement that a sentence names one by one."""


def known(value: int | float | str | None) -> Cell:
    """A cell with a number or text, a dash where there is none."""
    if value is None:
        return Cell(text="–", muted=True)
    return Cell(text=value) if isinstance(value, str) else Cell(text=number(value), numeric=True)


def overview(views: Views) -> TableView:
    """One row per run, by depth: what it is, how it was sampled, what came out; no column that no run fills."""
    group = next((g for view in views for g in headline_groups(view)[:1]), None)
    copies = any(calibrated_rate(view) is not None for view in views)
    found = [_overview_row(view, group, copies=copies) for view in views]
    filled = [title for title in found[0] if any(row[title] is not None for row in found)]
    shown = [value for row in found for value in row.values() if isinstance(value, Measurement)]
    rows = []
    for view, row in zip(views, found, strict=True):
        rows.append((Cell(text=view.name), *(_overview_cell(row[title]) for title in filled)))
    units = dict.fromkeys(f"{m.name} in {m.unit}" for m in shown if m.unit and m.name in UNITS_TOLD)
    return TableView(
        key="overview",
        caption="Runs by depth (number of down blocks)" if len(views) > 1 else "The run",
        columns=("Run", *filled),
        rows=tuple(rows),
        note=" ".join(
            filter(None, (interval_note(shown, methods=False), f"Units: {'; '.join(units)}." if units else ""))
        ),
    )


def _overview_row(view: RunView, group: str | None, *, copies: bool) -> dict[str, Measurement | int | str | None]:
    nearest = view.against_k("nearest_distance", "samples")
    facts: dict[str, Measurement | int | str | None] = {
        "Depth": view.depth,
        "Parameters": view.header.model.get("parameters"),
        "Training steps": None if view.recipe is None else view.recipe.train.steps,
        "Sampler": sampler_text(view),
        "Images": next((m.n for m in view.find("share", set="samples") + nearest if m.n is not None), None),
    }
    if group is not None:
        facts[f"Share of {quoted(group)}"] = compared_share(view, group)
        facts[f"Share of {quoted(group)}, corrected"] = corrected_share(view, group)
        facts[f"Share of {quoted(group)}, with human labels"] = powered_share(view, group)
        facts[f"{quoted(group)} in training data"] = training_share(view, group)
    facts["Unclassified"] = view.first("share", "unclassified", set="samples")
    if copies:
        facts["Counted as copies"] = calibrated_rate(view)
    else:
        facts["Nearest training image"] = next(iter(nearest), None)
    return facts | {
        "Mean pairwise distance": view.first("mean_pairwise_distance", set="samples"),
    }


def _overview_cell(value: Measurement | int | str | None) -> Cell:
    return brief_cell(value) if isinstance(value, Measurement) else known(value)


def neighbours(views: Views, name: str, space: str | None) -> TableView:
    """Distance or similarity to the k nearest training images as the papers' Table 3: a row per run and set.

    Below them their difference, where the audit tested it.
    """
    ks = _ks(views, name)
    rows, shown = [], []
    for view in views:
        for of, words in ((name, "samples"), (name, "held_out"), (f"{name}_difference", None)):
            found = [view.first(of, set=words, k=k, space=space) for k in ks or (None,)]
            present = [m for m in found if m is not None and (m.value is not None or words is not None)]
            if present:
                n = next((m.n for m in present if m.n is not None), None) if words else None
                title = SETS[words] if words else DIFFERENCE
                cells = [brief_cell(m, tested(m)) for m in found]
                rows.append((Cell(text=view.name), Cell(text=title), known(n), *cells))
                shown += present
    return TableView(
        key=name,
        caption=f"{name}{in_space(space)}: mean over the k nearest training images",
        columns=("Run", "Images", "n", *([f"k = {k}" for k in ks] or ["Value"])),
        rows=tuple(rows),
        note=about(shown),
    )


def tested(m: Measurement | None) -> str:
    """`, p = 0.031` where a test was made."""
    return f", {p_text(m.params['p'])}" if m is not None and "p" in m.params else ""


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


def about(measurements: Sequence[Measurement | None]) -> str:
    """Unit and direction of the values of one table, and what their intervals are."""
    found = [m for m in measurements if m is not None and m.value is not None]
    units = "; ".join(dict.fromkeys(m.unit for m in found if m.unit))
    directions = "; ".join(dict.fromkeys(m.direction for m in found if m.direction))
    parts = (
        f"Unit: {units}." if units else "",
        f"Direction: {directions}." if directions else "",
        interval_note(found),
    )
    return " ".join(part for part in parts if part)


def reading(views: Views, titles: Mapping[str, str]) -> TableView:
    """What measurements mean and how their intervals were made, as the first of each that has a value says."""
    rows = []
    for name, title in titles.items():
        found = next((m for view in views for m in view.find(name) if m.value is not None), None)
        if found is not None:
            told = (found.direction, found.unit, found.method)
            rows.append((Cell(text=title), *(known(words or None) for words in told)))
    columns = ("Measure", "Direction", "Unit", "Interval by")
    return TableView(key="reading", caption="How to read them", columns=columns, rows=tuple(rows), style="dense")


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
    """One sentence per reason why a measurement could not be made, with all that it holds for."""
    of_reason: dict[str, dict[tuple[str, ...], dict[str, None]]] = {}
    runs: dict[str, dict[str, None]] = {}
    for view in views:
        for m in (m for name in names for m in view.find(name) if m.value is None):
            tags = (m.group, SETS.get(str(m.params.get("set"))), *(m.params.get(key) for key in ("space", "rule")))
            told = tuple(str(tag) for tag in tags if tag is not None)
            of_reason.setdefault(not_measurable(m), {}).setdefault(told, {})[m.name] = None
            runs.setdefault(not_measurable(m), {})[view.name] = None
    return [
        f"{who(list(runs[reason]), views)}: {_concerned(concerned)} {reason}" for reason, concerned in of_reason.items()
    ]


def _concerned(concerned: dict[tuple[str, ...], dict[str, None]]) -> str:
    """`a and b (held-out real)`: names that share their tags stand together; of many tags only how many."""
    if len(concerned) > MOST_TAGS:
        names = dict.fromkeys(name for names in concerned.values() for name in names)
        return f"{listed(names)} ({len(concerned)} kinds)"
    return "; ".join(listed(names) + (f" ({', '.join(tags)})" if tags else "") for tags, names in concerned.items())


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
