"""Tables of shares: as labelled, corrected for the labeler's errors, and in the training data."""

from leadline.records import Measurement
from leadline.report.content import Cell, TableView
from leadline.report.shares import (
    BOUNDS,
    NO_CLASS,
    all_groups,
    compared_share,
    corrected_difference,
    corrected_share,
    training_share,
)
from leadline.report.tables import known
from leadline.report.views import RunView
from leadline.report.words import brief_cell, interval_note, like, percent, plain


def shares(view: RunView) -> TableView:
    """Shares of every class, and how far they are from the training data."""
    comparisons = ("share_difference", "share_ratio", "share_amplification")
    rows, shown = [], []
    for group in [*all_groups(view), *NO_CLASS]:
        of_all = view.first("share", group, set="samples")
        if group in NO_CLASS:
            if of_all is not None:
                rows.append((Cell(text=group), brief_cell(of_all), *[Cell(text="–", muted=True)] * 6))
            continue
        found = [of_all, compared_share(view, group), training_share(view, group)]
        found += [view.first(name, group) for name in comparisons]
        rows.append((Cell(text=plain(group)), *map(brief_cell, found), _bounds(found[3])))
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


def corrected_shares(view: RunView) -> TableView | None:
    """As labelled and corrected for the labeler's errors, side by side, with the training set as the labeler sees it.

    None where nothing was corrected.
    """
    rows, shown = [], []
    for group in all_groups(view):
        corrected = corrected_difference(view, group)
        if corrected is None:
            continue
        labeled = view.first("labeled_difference", group)
        found = [compared_share(view, group), corrected_share(view, group), training_share(view, group)]
        differences = [corrected, labeled]
        as_labeled = None if labeled is None else labeled.params.get("training_share_as_labeled")
        cells = [*map(brief_cell, found), _percent(as_labeled), *map(brief_cell, differences)]
        rates = " / ".join(percent(corrected.params[name]) for name in ("sensitivity", "specificity"))
        facts = (Cell(text=rates, numeric=True), known(corrected.params.get("labeled_images_of_class")))
        rows.append((Cell(text=plain(group)), *cells, *facts))
        shown += [*found, *differences]
    if not rows:
        return None
    columns = (
        "Class",
        "As labelled",
        "Corrected",
        "Training data",
        "Training data as labelled",
        "Corrected difference",
        "Difference, both as labelled",
        "Sensitivity / specificity",
        "Labelled images",
    )
    note = (
        "Corrected: by how the labeler labels images whose class is known, both sets with their uncertainty. Both as "
        f"labelled: the labeler's errors on both sets cancel as far as they are alike. {interval_note(shown)}"
    )
    caption = f"{view.name}: shares corrected for the labeler's errors"
    return TableView(key="corrected_shares", caption=caption, columns=columns, rows=tuple(rows), note=note)


def _percent(share: float | None) -> Cell:
    return known(None) if share is None else Cell(text=percent(share), numeric=True)


def shares_of_all(view: RunView) -> TableView | None:
    """Shares of all images, classes that the training data has no image of and of no class among them.

    None where nothing was corrected and no such class was seen.
    """
    corrected = {m.group: m for m in view.find("corrected_share") if m.value is not None}
    beside = [m.group for m in view.find("share", set="samples") if m.group and "part_of" in m.params]
    if not corrected and not beside:
        return None
    groups = dict.fromkeys([*all_groups(view), *beside, *reversed(NO_CLASS), *(group for group in corrected if group)])
    rows, shown = [], []
    for group in groups:
        found = [view.first("share", group, set="samples"), corrected.get(group)]
        rows.append((Cell(text=plain(group)), *map(brief_cell, found)))
        shown += found
    return TableView(
        key="shares_of_all",
        caption=f"{view.name}: shares of all images",
        columns=("Class", "As labelled", "Corrected"),
        rows=tuple(rows),
        note="Other classes: those that the training data has no image of, together; each that was seen stands above. "
        "No class: images that the labeler leaves unclassified beyond its errors on images whose class is known. "
        f"{interval_note(shown)}",
    )


def _bounds(difference: Measurement | None) -> Cell:
    if difference is None or not set(BOUNDS) <= set(difference.params):
        return Cell(text="–", muted=True)
    ends = [like(difference, difference.params[name], ending=False) for name in BOUNDS]
    return Cell(text=f"{' / '.join(ends)} points", numeric=True)
