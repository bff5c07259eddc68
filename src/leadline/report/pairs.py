"""Pairs of the same seeds: which images change class from one model to the other, both ways, and is it by chance?"""

from collections.abc import Sequence
from dataclasses import replace

from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.report import tables
from leadline.report.content import Cell, Figure, Section, TableView, Tiles
from leadline.report.images import draw_panel
from leadline.report.pairs_words import FLIPS, GLOBAL, by_pair, outside, pair_finding, pair_title, tests_of
from leadline.report.views import RunView
from leadline.report.words import brief_cell, counted, interval_note, listed, not_measurable, p_text, percent, plain

MATRIX, GALLERY = "flip_matrix_", "flips-"
MOST_TOLD = 12
"""Pairs of sets that are shown in full; the table has all."""
FEW = 25
"""Changed pairs below which the chi-squared distribution is a rough one."""
LEAD = (
    "Image i of a seed starts from the same noise in every model, so each image of one set has its partner in the "
    "other. What counts is the pairs whose class changes, and they are shown in both directions."
)
NOTHING = (
    "Nothing to pair: no two of these sets of images were drawn from the same seeds by models that differ in depth, "
    "bypass or checkpoint alone."
)


def pairs_section(views: Sequence[RunView]) -> Section:
    """What `leadline.across.pairs` found among all runs of the page."""
    return section_of(AuditResult(()) if views[0].across is None else views[0].across)


def section_of(found: AuditResult) -> Section:
    """Sentences, table, matrices and galleries of every pair of sets."""
    title = "Pairs of the same seeds"
    groups = list(by_pair(found).values())
    measured = [group for group in groups if group[0].value is not None]
    missing = _missing(found)
    if not measured:
        return Section(id="pairs", title=title, lead=NOTHING, caveats=missing)
    told = measured[:MOST_TOLD]
    cut = f" Of {len(measured)} pairs of sets the first {len(told)} are shown in full; `leadline flips A B` shows any."
    named = {f"{MATRIX}{group[0].params['pair']}": pair_title(group[0].params) for group in told}
    matrices = [(table, named[table.name]) for table in found.tables if table.name in named]
    return Section(
        id="pairs",
        title=title,
        lead=LEAD + (cut if len(told) < len(measured) else ""),
        findings=[pair_finding(group) for group in told],
        figures=[_figure(panel) for panel in found.panels if panel.name.startswith(GALLERY)],
        tables=[_table(measured), *(_matrix(table, title) for table, title in matrices)],
        caveats=[*missing, *_caveats(measured)],
    )


def _matrix(table: Table, title: str) -> TableView:
    """Labels in the first set and in the second: all but the diagonal changed."""
    return replace(tables.confusion(table, plain(title)), note=table.note)


def _table(measured: Sequence[Sequence[Measurement]]) -> TableView:
    """A row for each pair of sets and class."""
    rows = []
    shown = [m for group in measured for m in tests_of(group)]
    for m in shown:
        p = m.params
        numbers = (f"{m.n:,}", percent(p["share_a"]), percent(p["share_b"]))
        rows.append(
            (
                Cell(text=plain(pair_title(p))),
                Cell(text=plain(str(m.group)), detail="not in the training data" if outside(m) else ""),
                *(Cell(text=text, numeric=True) for text in numbers),
                brief_cell(m),
                *(Cell(text=f"{p[name]:,}", numeric=True) for name in ("lost", "gained")),
                *(Cell(text=p_text(p[name]), numeric=True) for name in ("p", "p_holm")),
            )
        )
    return TableView(
        key="pairs",
        caption="Each class, pair by pair",
        columns=(
            "First → second set",
            "Class",
            "Pairs",
            "Share in first",
            "Share in second",
            "Difference",
            "In first alone",
            "In second alone",
            "Exact McNemar",
            f"Holm over {counted(shown[0].params['tests'], 'test')}",
        ),
        rows=tuple(rows),
        note=interval_note(shown),
    )


def _figure(panel: Panel) -> Figure:
    """A gallery; where there is nothing in it, its words alone, so that it is seen that it was looked for."""
    drawn = draw_panel(panel, "Same seeds")
    if drawn is not None:
        return drawn
    return Tiles(title=plain(f"Same seeds: {panel.title}"), caption=plain(panel.caption), columns=(), rows=())


def _missing(found: AuditResult) -> list[str]:
    """Why pairs, or the pictures of them, are not there."""
    reasons: dict[str, list[str]] = {}
    for m in found:
        if m.name in (FLIPS, "flip_gallery") and m.value is None:
            reasons.setdefault(not_measurable(m), []).append(pair_title(m.params) if "a" in m.params else "a run")
    return [plain(f"{listed(names)}: {reason}") for reason, names in reasons.items()]


def _caveats(measured: Sequence[Sequence[Measurement]]) -> list[str]:
    """What the pairs do not show."""
    every = [m for group in measured for m in group]
    told = [
        "The pairs compare trained models as they are: another training seed would move each of them by an amount that "
        "no number of pairs shows (replicates do).",
        "A class is the labeler's word. A picture at the border between two classes can change its label without "
        "changing much: look at the galleries.",
    ]
    remarks = {f"{pair_title(m.params)}: {m.params['remark']}." for m in every if "remark" in m.params}
    fresh = {pair_title(m.params) for m in every if m.params.get("sampler") == "ancestral"}
    if fresh:
        told.append(
            f"{listed(sorted(fresh))}: the sampler adds noise at every step. It is the same for both, but it makes "
            "partners less alike than a deterministic sampler does."
        )
    rough = {pair_title(m.params) for m in every if m.name == GLOBAL and 0 < m.params["changed"] < FEW}
    if rough:
        told.append(f"{listed(sorted(rough))}: fewer than {FEW} labels changed, so the Stuart-Maxwell test is rough.")
    left = {pair_title(m.params): m.params["unpaired"] for m in every if "unpaired" in m.params}
    told += [f"{name}: {counted(count, 'image')} without a partner left out." for name, count in left.items()]
    return [plain(text) for text in [*sorted(remarks), *told]]
