"""The section on human labels: shares as the labeler counts, corrected, and with a person's labels, side by side."""

from collections.abc import Sequence

from leadline.records import Measurement
from leadline.report.classifier import other_error
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.dots import Row, draw_rows
from leadline.report.drawings import point
from leadline.report.human_words import DIFFERENCE, POWERED
from leadline.report.plots import Point
from leadline.report.shares import all_groups, behind, training_share
from leadline.report.tables import confusion, not_measured
from leadline.report.views import RunView, missing_runs
from leadline.report.words import (
    brief_cell,
    counted,
    interval_note,
    measurement_text,
    number,
    p_text,
    percent,
    plain,
)

Views = Sequence[RunView]
HUMAN, GAIN, AGREEMENT = "human_share", "human_label_gain", "labeler_agreement_on_samples"
MEASURES = (HUMAN, POWERED, GAIN, DIFFERENCE)
TABLES = "human_"
"""Beginning of the names of this section's tables."""
ESTIMATES = {
    "as the labeler counts": "share_difference",
    "corrected for its error": "corrected_difference",
    "with a person's labels": DIFFERENCE,
}
IN_TRAINING = "training data"


def human_section(views: Views) -> Section:
    """What a person's labels of some images say of the shares, and of the labeler."""
    title = "Human labels: a check that holds where the labeler fails"
    measured = [view for view in views if view.measured((HUMAN,))]
    missing = not_measured(views, (*MEASURES, AGREEMENT))
    if not measured:
        lead = (
            "A person's labels of these images say nothing of the shares, for the reason below."
            if missing
            else "No person labelled any of these images. A few are enough to test the labeler on generated images and "
            "to estimate shares whatever it gets wrong: leadline label RUN, then leadline audit RUN --human-labels "
            "FILE."
        )
        return Section(id="human", title=title, lead=lead, caveats=missing)
    drawn = [plot for view in measured if (plot := estimates(view)) is not None]
    matrices = [confusion(table, view.name) for view in measured for table in view.tables(TABLES)]
    return Section(
        id="human",
        title=title,
        lead="A person labelled some images, drawn at random. With the labeler's predictions of all images they give a "
        "share whose interval holds whatever the labeler gets wrong (prediction-powered inference); a good labeler "
        "makes it narrow. " + " ".join(agreement_text(view, views) for view in measured),
        figures=drawn,
        tables=[*(shares_table(view) for view in measured), *matrices],
        caveats=missing_runs(views, measured) + missing,
    )


def agreement_text(view: RunView, views: Views) -> str:
    """How often the labeler agrees with the person, beside what its errors on real images lead one to expect."""
    found = view.first(AGREEMENT)
    if found is None or found.value is None:
        return ""
    who = f"{view.name}: the" if len(views) > 1 else "The"
    text = f"{who} labels agree with the person's on {measurement_text(found)} of {counted(found.n or 0, 'image')}"
    expected, p = found.params.get("expected_from_real_images"), found.params.get("p")
    if expected is None:
        return f"{text}."
    text += f"; on real images of the same classes the labeler is right on {percent(expected)}"
    if p is None:
        return f"{text}."
    shown = "its error on generated images is another" if other_error(found) else "no difference is shown"
    return f"{text} ({p_text(p)}: {shown})."


def estimates(view: RunView) -> Plot | None:
    """The estimates of each share among the images of the training data's classes, with what the data has."""
    rows, told = [], []
    for group in all_groups(view):
        found = [behind(view.first(name, group), words) for words, name in ESTIMATES.items()]
        known = training_share(view, group)
        if found[-1] is None:
            continue
        training = None if known is None or known.value is None else Point(x=0, y=known.value)
        rows.append(Row(label=group, points=(*(None if m is None else point(0, m) for m in found), training)))
        words = [f"{name} {measurement_text(m)}" for name, m in zip(ESTIMATES, found, strict=True) if m is not None]
        told.append(f"{group}: {', '.join(words)}")
    if not rows:
        return None
    return draw_rows(
        rows,
        [*ESTIMATES, IN_TRAINING],
        name="human-labels",
        alt=f"{view.name}: shares by three estimates. {'; '.join(told)}.",
        caption=f"{view.name}: share of each class among the images of the training data's classes, as the labeler "
        "counts, corrected for its error on real images, and with a person's labels of some images. Bars: intervals.",
        x_label="share, %",
        factor=100,
    )


def shares_table(view: RunView) -> TableView:
    """Shares of all images by class and for the two answers that are no class; differences from the training data."""
    groups = [m.group for m in view.find(HUMAN) if m.group is not None]
    rows, shown = [], []
    for group in groups:
        found: list[Measurement | None] = [
            view.first("share", group, set="samples"),
            view.first("corrected_share", group),
            view.first(HUMAN, group),
            view.first(POWERED, group),
            view.first(DIFFERENCE, group),
        ]
        rows.append((Cell(text=plain(group)), *map(brief_cell, found), _gain(view.first(GAIN, group))))
        shown += found
    labelled = next((m.n for m in view.find(HUMAN) if m.n is not None), 0)
    return TableView(
        key="human_labels",
        caption=f"{view.name}: shares by {counted(labelled, 'human label')}",
        columns=(
            "Class",
            "As the labeler counts",
            "Corrected",
            "Human labels alone",
            "Prediction-powered",
            "Difference from the training data",
            "As if so many times the labels",
        ),
        rows=tuple(rows),
        note="Shares of all images; the difference is that of the prediction-powered share among the images of the "
        f"training data's classes. {interval_note(shown)}",
    )


def _gain(found: Measurement | None) -> Cell:
    if found is None or found.value is None:
        return brief_cell(found)
    if found.params.get("tuning") == 0:
        return Cell(text=f"{number(found.value, 2)}×: the predictions add nothing")
    return Cell(text=f"{number(found.value, 2)}×", numeric=True)
