"""The section on prompts: does the labeler see what was asked for, and how near are images to their start."""

from collections.abc import Sequence

from leadline.records import Measurement
from leadline.report.content import Cell, Section, TableView
from leadline.report.spaces import measured_spaces, of_space
from leadline.report.tables import known, not_measured, reading
from leadline.report.views import RunView, missing_runs
from leadline.report.words import brief_cell, interval_note, number, percent, plain

Views = Sequence[RunView]
MEASURES = ("prompt_agreement", "init_distance", "init_similarity")
AGREEMENT, *NEARNESS = MEASURES
TITLES = {
    "prompt_agreement": "Prompt agreement",
    "init_distance": "Distance to the start",
    "init_similarity": "Similarity to the start",
}
OTHERS = "other_starts"
"""The set of the baseline: the same images beside those that they did not start from."""


def prompted_section(views: Views) -> Section:
    """What a text-to-image model makes of its prompts, and of the held-out images that it started from."""
    title = "Prompts: is what was asked for there?"
    measured = [view for view in views if view.measured(MEASURES)]
    missing = not_measured(views, MEASURES)
    if not measured:
        asked = any(view.recipe is not None and view.recipe.text is not None for view in views)
        lead = "The audit has no metric “prompted” (--metrics)." if asked else "No text-to-image model is shown here."
        return Section(id="prompted", title=title, lead=lead, caveats=missing)
    agreements = [view for view in measured if view.measured((AGREEMENT,))]
    starts = [view for view in measured if view.measured(NEARNESS)]
    parts = (
        "How often the labeler sees the class that the prompt asked for; an unclassified image counts as a "
        "disagreement. By chance: what images that do not heed their prompts would reach; real images: what the "
        "labeler allows."
        if agreements
        else "",
        "How near each image is to the held-out image that it started from, beside the other held-out images."
        if starts
        else "",
    )
    return Section(
        id="prompted",
        title=title,
        lead=" ".join(filter(None, parts)),
        tables=[
            *([overall(agreements), by_class(agreements)] if agreements else []),
            *([nearness(starts)] if starts else []),
            reading(measured, TITLES),
        ],
        caveats=missing_runs(views, measured) + missing,
    )


def overall(views: Views) -> TableView:
    """A row per run: agreement over all images, by chance, and of held-out real images with their own class."""
    rows, shown = [], []
    for view in views:
        found, real = _whole(view, "samples"), _whole(view, "held_out")
        chance = None if found is None else found.params.get("by_chance")
        of_chance = known(None) if chance is None else Cell(text=percent(chance), numeric=True)
        images = known(None if found is None else found.n)
        rows.append((Cell(text=view.name), brief_cell(found), images, of_chance, brief_cell(real)))
        shown += [found, real]
    return TableView(
        key="prompt_agreement",
        caption="Images that are labelled as what their prompt asked for",
        columns=("Run", "Agreement", "n", "By chance", "Real images, their own class"),
        rows=tuple(rows),
        note=interval_note(shown, methods=False),
    )


def _whole(view: RunView, subset: str) -> Measurement | None:
    return next((m for m in view.find(AGREEMENT, set=subset) if m.group is None), None)


def by_class(views: Views) -> TableView:
    """A row per class that was asked for, a column per run."""
    found = {view.name: {m.group: m for m in view.find(AGREEMENT, set="samples") if m.group} for view in views}
    classes = list(dict.fromkeys(name for one in found.values() for name in one))
    return TableView(
        key="prompt_agreement_by_class",
        caption="The same by the class that was asked for",
        columns=("Class", *found),
        rows=tuple(
            (Cell(text=plain(name)), *(_of_number(own.get(name)) for own in found.values())) for name in classes
        ),
        note=interval_note(m for own in found.values() for m in own.values()),
    )


def _of_number(m: Measurement | None) -> Cell:
    """`94.1 % of 102`."""
    return brief_cell(m, "" if m is None or m.n is None else f" of {number(m.n)}")


def nearness(views: Views) -> TableView:
    """A row per measure, space and run: to the own start, to all others."""
    rows, shown = [], []
    for name in NEARNESS:
        for space in measured_spaces(views, name):
            for view in views:
                found = [view.first(name, set=subset, space=space) for subset in ("samples", OTHERS)]
                images = next((m.n for m in found if m is not None and m.n is not None), None)
                head = (Cell(text=TITLES[name]), Cell(text=of_space(space)), Cell(text=view.name))
                rows.append((*head, *map(brief_cell, found), known(images)))
                shown += found
    return TableView(
        key="init_distance",
        caption="Image to image: how near the images are to those that they started from",
        columns=("Measure", "Space", "Run", "To its own start", "To the other held-out images", "n"),
        rows=tuple(rows),
        note=interval_note(shown, methods=False),
    )
