"""What every part of a landscape's page does with tau: find a measurement at it, draw lines against it."""

import math
from collections.abc import Sequence

from leadline.records import Measurement, Table, TheoryResult
from leadline.report.content import TableView
from leadline.report.drawings import point
from leadline.report.plots import Line
from leadline.report.words import number, table_cell

BESIDE = 1.07
"""Ratio of the places on the τ axis of two lines' points at one τ."""


def taus(result: TheoryResult) -> list[float]:
    """The levels, ascending."""
    return list(result.settings["tau"])


def one(result: TheoryResult, name: str, tau: float, of: str | None = None) -> Measurement | None:
    """The measurement of that name at tau, of that kind where one is given."""
    wanted = {"tau": tau} if of is None else {"tau": tau, "of": of}
    return next(iter(result.find(name, **wanted)), None)


def at(tau: float) -> str:
    """`τ = 0.125`."""
    return f"τ = {number(tau, 3)}"


def tau_ticks(taus: Sequence[float]) -> list[float]:
    """Powers of ten within the range; its ends where there are fewer than two."""
    low, high = math.ceil(math.log10(taus[0]) - 1e-9), math.floor(math.log10(taus[-1]) + 1e-9)
    powers = [10.0**exponent for exponent in range(low, high + 1, max(1, (high - low) // 5))]
    return powers if len(powers) > 1 else list(dict.fromkeys((taus[0], taus[-1])))


def tau_lines(result: TheoryResult, name: str, kinds: dict[str, str | None]) -> tuple[list[Line], list[str]]:
    """A line per kind against tau (label -> `of`), and its numbers in words."""
    lines: list[Line] = []
    told = []
    for label, of in kinds.items():
        found = [m for tau in taus(result) if (m := one(result, name, tau, of)) is not None]
        # A little to the right of the line before, so that no bar hides another.
        aside = BESIDE ** len(lines)
        points = tuple(p for m in found if (p := point(m.params["tau"] * aside, m)) is not None)
        if points:
            lines.append(Line(label=label, points=points, style=len(lines)))
            told.append(f"{label}: {', '.join(f'{number(p.y, 3)} at {number(p.x / aside, 3)}' for p in points)}")
    return lines, told


def plain_table(table: Table) -> TableView:
    """A table as it is, without columns that hold nothing."""
    kept = [i for i in range(len(table.columns)) if not table.rows or any(row[i] is not None for row in table.rows)]
    return TableView(
        key=table.name,
        caption=table.title,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(table_cell(row[i]) for i in kept) for row in table.rows),
        note=table.note,
        style="dense",
    )
