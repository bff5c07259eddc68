"""The section on fidelity: distances between the images as a whole and the training images, in each feature space."""

from collections.abc import Sequence

from leadline.records import Measurement
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.drawings import over_runs
from leadline.report.spaces import INCEPTION, MOST_SPACES, anchor, in_space, measured_spaces
from leadline.report.tables import known, not_measured, reading
from leadline.report.views import RunView, missing_runs, nothing_to_show
from leadline.report.words import SETS, brief_cell, interval_note, like, number

Views = Sequence[RunView]
MEASURES = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
FRECHET, KERNEL = MEASURES[:2]


TITLES = {name: name.replace("_", " ").replace("frechet", "Fréchet").capitalize() for name in MEASURES}


def title_of(name: str, space: str | None) -> str:
    """`Fréchet distance`, and only in the canonical Inception's features `Fréchet distance (FID)`."""
    canonical = {FRECHET: " (FID)", KERNEL: " (KID)"}.get(name, "") if space == INCEPTION else ""
    return TITLES[name] + canonical


def fidelity_section(views: Views) -> Section:
    """How far the generated images as a whole are from the training images, held-out real images beside them."""
    title = "Fidelity: distance to the training images as a whole"
    measured = [view for view in views if view.measured(MEASURES)]
    missing = not_measured(views, MEASURES)
    if not measured:
        return Section(id="fidelity", title=title, lead=nothing_to_show(views, "fidelity"), caveats=missing)
    spaces = measured_spaces(measured, *MEASURES)
    return Section(
        id="fidelity",
        title=title,
        lead="The generated images against the training images as a whole. Held-out real images are what a model could "
        "reach that copies none; numbers that depend on how many images there are stand at equal numbers too.",
        figures=plots(measured) if len(measured) > 1 else [],
        tables=[*(space_table(measured, space) for space in spaces), reading(measured, TITLES)],
        caveats=missing_runs(views, measured) + missing,
    )


def space_table(views: Views, space: str | None) -> TableView:
    """A row per run and set; where the sets differ in size, one more for the larger, thinned to the smaller's size."""
    rows, shown = [], []
    for view in views:
        for subset in ("samples", "held_out"):
            found = [view.first(name, set=subset, space=space) for name in MEASURES]
            if any(found):
                size = next((m.params["images"] for m in found if m is not None and "images" in m.params), None)
                rows.append((Cell(text=view.name), Cell(text=SETS[subset]), known(size), *map(brief_cell, found)))
                shown += found
                rows += _thinned(view, subset, found)
    return TableView(
        key="fidelity",
        caption=f"Fidelity{in_space(space)}",
        columns=("Run", "Images", "n", *(title_of(name, space) for name in MEASURES)),
        rows=tuple(rows),
        note=interval_note(shown, methods=False),
    )


def _thinned(view: RunView, subset: str, found: Sequence[Measurement | None]) -> list[tuple[Cell, ...]]:
    sizes = [m.params["equal_n"] for m in found if m is not None and "equal_n" in m.params]
    if not sizes:
        return []
    title = f"{SETS[subset]}, thinned"
    return [(Cell(text=view.name), Cell(text=title), known(sizes[0]), *map(_thinned_cell, found))]


def _thinned_cell(m: Measurement | None) -> Cell:
    """The value at the other set's size, with the decimals of the value at its own."""
    value = None if m is None else m.params.get("value_at_equal_n")
    if m is None or value is None:
        return known(None)
    return Cell(text=like(m, value), numeric=True) if isinstance(value, int | float) else Cell(text=value, muted=True)


def at_equal_n(m: Measurement) -> Measurement:
    """The measurement of as many images as the other set has, where the audit made it, else the measurement itself."""
    value = m.params.get("value_at_equal_n")
    if not isinstance(value, int | float):
        return m
    return m.model_copy(update={"value": value, "lower": None, "upper": None, "n": m.params["equal_n"]})


def plots(views: Views) -> list[Plot]:
    """Fréchet distance, and precision with recall, against depth; in the first spaces, at equal numbers of images."""
    drawn = []
    for space in measured_spaces(views, FRECHET)[:MOST_SPACES]:
        words = f"{title_of(FRECHET, space)}{in_space(space)}"
        drawn.append(
            over_runs(
                views,
                {SETS["samples"]: _comparable(views, FRECHET, "samples", space)},
                name=f"frechet-{anchor(space)}",
                of=words,
                caption=f"{words}: generated images against the training images, {_sizes(views, FRECHET, space)}. "
                "Bars: intervals, where it was measured at that number; dashed: held-out real images.",
                y_label=title_of(FRECHET, space),
                baseline=_comparable(views, FRECHET, "held_out", space),
                baseline_words=SETS["held_out"],
            )
        )
        shares = ("precision", "recall")
        drawn.append(
            over_runs(
                views,
                {name: _comparable(views, name, "samples", space) for name in shares},
                name=f"precision-{anchor(space)}",
                of=f"Precision and recall{in_space(space)}",
                caption=f"Precision and recall of the generated images{in_space(space)}, "
                f"{_sizes(views, 'recall', space)}. Of held-out real images: {_held_out(views, shares, space)}.",
                y_label="share",
            )
        )
    return [plot for plot in drawn if plot is not None]


def _comparable(views: Views, name: str, subset: str, space: str | None) -> dict[str, Measurement | None]:
    found = {view.name: view.first(name, set=subset, space=space) for view in views}
    return {run: None if m is None else at_equal_n(m) for run, m in found.items()}


def _sizes(views: Views, name: str, space: str | None) -> str:
    """How many images the drawn numbers are of: `1,000 images each`."""
    sizes = {
        at_equal_n(m).params.get("equal_n", m.params.get("images"))
        for subset in ("samples", "held_out")
        for view in views
        for m in view.find(name, set=subset, space=space)
        if m.value is not None
    }
    counts = sorted(size for size in sizes if size is not None)
    return " or ".join(map(number, counts)) + " images of each set" if counts else "at the numbers in the table"


def _held_out(views: Views, names: Sequence[str], space: str | None) -> str:
    """`precision 0.71, recall 0.62`, of each run where they differ."""
    told = {}
    for view in views:
        found = [view.first(name, set="held_out", space=space) for name in names]
        known_values = [at_equal_n(m) for m in found if m is not None and m.value is not None]
        told[view.label] = ", ".join(f"{m.name} {like(m, m.value)}" for m in known_values if m.value is not None)
    if len(set(told.values())) == 1:
        return next(iter(told.values())) or "not measured"
    return "; ".join(f"{label}: {text or 'not measured'}" for label, text in told.items())
