"""The section on images that were drawn until a share was known well enough: the confidence sequence over the looks."""

from collections.abc import Sequence

from leadline.records import Measurement, Table
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.drawings import MOST_LINES
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.spaces import anchor
from leadline.report.tables import known, of_audit
from leadline.report.views import RunView
from leadline.report.words import brief_cell, counted, interval_note, like, measurement_text, percent, plain, quoted

Views = Sequence[RunView]
SEQUENCE, LOOKS = "share_sequence", "looks"
TITLE = "Until the answer is sharp enough"
BAND, DOTTED = 1, 4
"""Styles of the lines: long dashes, dots."""


def sequential_section(views: Views) -> Section:
    """How the interval narrowed from look to look, and why the drawing stopped."""
    drawn = [view for view in views if view.find(SEQUENCE)]
    if not drawn:
        lead = "All numbers of images here were fixed beforehand (leadline audit RUN --until-width 0.02)."
        return Section(id="sequential", title=TITLE, lead=lead)
    return Section(
        id="sequential",
        title=TITLE,
        lead="Images were drawn, labelled and looked at in turns until a share was known to a wanted width. The "
        "interval is a confidence sequence: it holds at all looks together, so that stopping when it is narrow takes "
        "nothing from it. An interval made for one look does not: looked at again and again, it leaves out the true "
        "share at some look far more often than its level says.",
        figures=[figure for view in drawn for figure in figures(view)],
        tables=[
            *(overall(view) for view in drawn),
            *(of_audit(view, table) for view in drawn for table in view.tables(LOOKS)),
        ],
        caveats=[sentence for view in drawn for sentence in reading(view)],
    )


def overall(view: RunView) -> TableView:
    """A row per class: its share at the last look."""
    found = view.find(SEQUENCE)
    rows = tuple(
        (
            Cell(text=plain(m.group or "")),
            brief_cell(m),
            _in_training(m),
            known(m.n),
            known(m.params.get("images")),
            known(m.params.get("looks")),
        )
        for m in found
    )
    return TableView(
        key=SEQUENCE,
        caption=f"{view.name}: shares at the last look",
        columns=("Class", "Share of recognised images", "Share of training data", "Recognised", "Images", "Looks"),
        rows=rows,
        note=interval_note(found),
    )


def _in_training(m: Measurement) -> Cell:
    share = m.params.get("training_share")
    return known(None) if share is None else Cell(text=percent(share), numeric=True)


def reading(view: RunView) -> list[str]:
    """Why it stopped, and what the interval does not hold."""
    params = view.find(SEQUENCE)[0].params
    stopped = plain(params.get("stopped_because", "no reason was noted"))
    again = " The answer is not as sharp as was wanted; the same command with a larger --at-most goes on."
    return [
        f"{view.name}: stopped after {counted(params.get('looks', 0), 'look')}: {stopped}."
        + ("" if params.get("sharp") else again),
        "The confidence sequence holds for what the labeler calls the classes; what its errors add, and more images do "
        "not take away, is in the corrected shares. One training run stands behind all images.",
    ]


def figures(view: RunView) -> list[Plot]:
    """The share over the number of images: of the class that was waited for, else of the first few."""
    table = next(iter(view.tables(LOOKS)), None)
    if table is None:
        return []
    found = sorted(view.find(SEQUENCE), key=lambda m: m.params.get("training_share", 1.0))
    waited = [m for m in found if m.group == m.params.get("waited_for")]
    # Of two classes each is what the other leaves.
    chosen = waited or (found[:1] if len(found) == 2 else found[:MOST_LINES])
    return [plot for m in chosen if (plot := _figure(view, m, table)) is not None]


def _figure(view: RunView, last: Measurement, table: Table) -> Plot | None:
    place = {name: index for index, name in enumerate(table.columns)}
    rows = [row for row in table.rows if row[place["class"]] == last.group and row[place["share"]] is not None]
    if not rows:
        return None

    def line(column: str, label: str, style: int) -> Line:
        points = (Point(x=_number(row[place["images"]]), y=_number(row[place[column]])) for row in rows)
        return Line(label=label, points=tuple(points), style=style, markers=len(rows) == 1)

    group = quoted(plain(last.group or ""))
    training = last.params.get("training_share")
    level = [] if training is None else [Level(y=training, label=f"training data {like(last, training)}")]
    return draw(
        [
            line("share", f"share of {group}", 0),
            line("upper", "valid at every look", BAND),
            line("lower", "", BAND),
            line("Wilson upper", "", DOTTED),
            line("Wilson lower", "Wilson, of one look", DOTTED),
        ],
        name=f"sequence-{anchor(view.folder)}-{anchor(last.group or '')}",
        alt=f"Share of {group} among the recognised images over the number of images drawn, {view.name}: at the last "
        f"look {measurement_text(last)}"
        + ("." if training is None else f"; in the training data {percent(training)}."),
        caption=f"{view.name}: share of {group} over the images drawn. Long dashes: the confidence sequence; dots: the "
        "Wilson interval at each look, not valid when looked at repeatedly; level: the training data.",
        x_label="images drawn",
        y_label=f"share of {group}, %",
        levels=level,
        factor=100,
    )


def _number(value: str | int | float | None) -> int | float:
    return value if isinstance(value, int | float) else 0.0
