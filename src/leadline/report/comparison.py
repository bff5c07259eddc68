"""The gate's verdicts and what changed since an earlier audit, as they stand in the run folders."""

import math
from collections.abc import Sequence

from leadline.comparison import ASSUMED, Change, Comparison, label
from leadline.gate import Verdict
from leadline.report.bars import Bar, draw_bars
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.tables import known
from leadline.report.views import RunView
from leadline.report.words import POINTS, SHARES, counted, ends_text, like, measurement_cell, number, plain

Views = Sequence[RunView]
MOST_ROWS = 60
"""Changes in the table; comparison.json has them all."""
MOST_BARS = 16
"""Changes in the drawing."""
VERDICTS = {"passed": "passed", "failed": "failed", "unchecked": "failed: could not be checked"}


def comparison_section(views: Views) -> Section:
    """Conditions that were to hold or not before a release, and measurements before and now."""
    section = Section(id="comparison", title="Gate and comparison: before a release", lead=_lead(views))
    compared = [(index, view, view.comparison) for index, view in enumerate(views) if view.comparison is not None]
    drawn = [_drawing(f"change-{index}", view, comparison) for index, view, comparison in compared]
    tables = [_verdicts(view) for view in views if view.verdicts]
    for _, view, comparison in compared:
        tables += [table for table in (_changes(view, comparison), _unmatched(view, comparison)) if table.rows]
    notes = [f"{view.name}: {plain(note)}" for _, view, comparison in compared for note in comparison.notes]
    reasons = [f"{view.name}: {plain(view.judged_reason)}." for view in views if view.judged_reason]
    return Section(
        id=section.id,
        title=section.title,
        lead=section.lead,
        figures=[plot for plot in drawn if plot is not None],
        tables=tables,
        caveats=[*reasons, *notes, *([ASSUMED] if compared else [])],
    )


def failed_gate(views: Views) -> str:
    """That a condition of the gate holds or could not be checked, for the top of the page; empty where all passed."""
    failed = [f"{view.name}: {plain(v.condition)}" for view in views for v in view.verdicts if v.status != "passed"]
    return f"The gate failed ({'; '.join(failed)}): see Gate and comparison." if failed else ""


def _lead(views: Views) -> str:
    told = []
    for view in views:
        if view.verdicts:
            failed = sum(verdict.status != "passed" for verdict in view.verdicts)
            of = f"{failed} of " if failed else "all "
            told.append(
                f"{view.name}: {of}{counted(len(view.verdicts), 'condition')} {'failed' if failed else 'passed'}."
            )
        if view.comparison is not None:
            told.append(f"{view.name}: {plain(view.comparison.headline)}")
    return " ".join(told) or "No condition was set (--fail-if), and no earlier audit was given to compare (--compare)."


def _verdicts(view: RunView) -> TableView:
    return TableView(
        key="gate",
        caption=f"{view.name}: conditions that must not hold",
        columns=("Condition", "Verdict", "Measurements"),
        rows=tuple(_verdict(verdict) for verdict in view.verdicts),
        note="A number that is missing fails the gate as well.",
    )


def _verdict(verdict: Verdict) -> tuple[Cell, ...]:
    told = Cell(text=VERDICTS[verdict.status], muted=verdict.status == "unchecked")
    return (Cell(text=plain(verdict.condition)), told, Cell(text=plain("; ".join(verdict.lines))))


def _changes(view: RunView, comparison: Comparison) -> TableView:
    shown = comparison.changes[:MOST_ROWS]
    left = len(comparison.changes) - len(shown)
    note = (
        "Below a difference: its interval. By falling distance from 0 in units of the interval's half that points to 0."
    )
    return TableView(
        key="changes",
        caption=f"{view.name}: what changed from {plain(comparison.old)}",
        columns=("Measurement", "n before", "Before", "n now", "Now", "Difference", "Interval excludes 0", "Remarks"),
        rows=tuple(_change(change) for change in shown),
        note=note + (f" {left:,} more are in comparison.json." if left else ""),
    )


def _change(change: Change) -> tuple[Cell, ...]:
    remarks = [plain(remark) for remark in change.remarks]
    if change.difference.method and not change.tested:
        remarks.append(change.difference.method)
    excludes = Cell(text="yes" if change.differs else "no") if change.tested else known(None)
    return (
        Cell(text=plain(label(change.new))),
        known(change.old.n),
        measurement_cell(change.old),
        known(change.new.n),
        measurement_cell(change.new),
        _difference(change),
        excludes,
        Cell(text="; ".join(remarks)),
    )


def _difference(change: Change) -> Cell:
    """A difference with its sign; of two shares in percentage points."""
    d = change.difference
    if d.value is None:
        return measurement_cell(d)
    if change.new.name in SHARES | POINTS:
        points = d.model_copy(update={"name": "share_difference"})
        return Cell(text=like(points, d.value), detail=ends_text(points), numeric=True)
    return Cell(text=("+" if d.value > 0 else "") + like(d, d.value), detail=ends_text(d), numeric=True)


def _unmatched(view: RunView, comparison: Comparison) -> TableView:
    rows = [(Cell(text=plain(label(u.measurement))), Cell(text=plain(u.why))) for u in comparison.unmatched]
    equal = counted(comparison.unchanged, "measurement")
    return TableView(
        key="unmatched",
        caption=f"{view.name}: what could not be compared",
        columns=("Measurement", "Why"),
        rows=tuple(rows),
        note=f"Beside these, {equal} of the same images came out equal." if comparison.unchanged else "",
        style="dense",
    )


def _drawing(name: str, view: RunView, comparison: Comparison) -> Plot | None:
    """Differences in units of the half of their interval that points to 0: a bar that misses 0 is a change."""
    weightiest = comparison.tested[:MOST_BARS]
    bars = [bar for change in weightiest if (bar := _bar(change)) is not None]
    if not bars:
        return None
    told = "; ".join(f"{bar.label}: {bar.words}{', differs' if bar.strong else ''}" for bar in bars)
    return draw_bars(
        bars,
        name=name,
        alt=f"Differences from {comparison.old}, by weight. {told}.",
        caption=f"{view.name}: differences from {comparison.old}, weightiest first, each in units of the half of its "
        "interval that points to 0. Bars: intervals; filled: the bar misses 0. Right: before → now. Arrow: beyond.",
        x_label="difference, in half intervals",
    )


def _bar(change: Change) -> Bar | None:
    d, reach = change.difference, change.reach
    if d.value is None or d.lower is None or d.upper is None or reach is None or not 0 < reach < math.inf:
        return None
    return Bar(
        label=label(change.new),
        words=f"{_short(change.old.value)} → {_short(change.new.value)}",
        value=d.value / reach,
        lower=d.lower / reach,
        upper=d.upper / reach,
        strong=change.differs,
    )


def _short(value: float | None) -> str:
    return "–" if value is None else number(value, 3)
