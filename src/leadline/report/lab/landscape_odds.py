"""Theorem 2 on a landscape's page: the exponent that fits, in a sentence and in a section."""

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Figure, Section, TableView
from leadline.report.lab.landscape_tau import at, one, plain_table, tau_lines, tau_ticks, taus
from leadline.report.plots import Level, draw
from leadline.report.words import brief_cell, counted, interval_note, measurement_text, number, table_cell

ODDS_OF = {"vote": "odds of the soft vote", "flow": "odds of what flows there"}


def theorem_2(result: TheoryResult) -> str:
    """S at the one τ with the most merged minima, a choice that does not look at S; its range over the others."""
    told = []
    for of, words in ODDS_OF.items():
        merged = result.find("num_merged", of=of)
        if not merged:
            told.append(f"{words}: too few merged minima of unequal counts at every τ.")
            continue
        tau = max(merged, key=lambda m: m.value or 0).params["tau"]
        values = [m.value for m in result.find("odds_exponent", of=of) if m.value is not None]
        [fit] = result.find("odds_exponent", of=of, tau=tau)
        behind = next(m for m in merged if m.params["tau"] == tau)
        told.append(
            f"{words}: S = {measurement_text(fit)} at {at(tau)}, over {number(behind.value or 0)} merged minima of "
            f"{counted(behind.n or 0, 'drawing')}, the most at any τ: {_beside_one(fit)}; {number(min(values), 3)} to "
            f"{number(max(values), 3)} over all {counted(len(values), 'τ', 'τ')}, which share their points."
        )
    return " ".join(told)


def _beside_one(fit: Measurement) -> str:
    """Where S lies beside 1, merging as by the count."""
    if fit.lower is None or fit.upper is None:
        return "no interval, so not decided"
    if fit.lower <= 1 <= fit.upper:
        return "the interval holds 1, not decided"
    return f"{'above' if fit.lower > 1 else 'below'} 1"


def mergers(result: TheoryResult) -> Section:
    """The exponents against tau, with what they rest on, and the merged minima themselves."""
    lines, told = tau_lines(result, "odds_exponent", {words: of for of, words in ODDS_OF.items()})
    figures: list[Figure] = []
    if lines:
        figures.append(
            draw(
                lines,
                name="exponent",
                alt=f"Exponent S of (p/q)^S against τ. {'. '.join(told)}.",
                caption="The exponent S for which the odds at the merged minima are nearest to (p/q)^S. "
                f"{_bars(result)} Dashed: the odds of the count.",
                x_label="τ",
                y_label="S",
                levels=[Level(y=1.0, label="as the count")],
                x_ticks=tau_ticks(taus(result)),
            )
        )
    lead = (
        "p and q: how many minima of the first τ, of the followed class and of all others, have become one. The odds "
        "there are read in two ways: of the soft vote at the merged minimum, and of the queries that end in it by "
        "the class of the point they started from (half a query is added to both sides, which pulls S down a little)."
    )
    if not lines:
        lead += " No S can be fitted: nowhere do three minima or more hold unequal numbers of both classes."
    merged = [plain_table(table) for table in result.tables if table.name == "merged"]
    tables = [*([_exponents(result)] if lines else []), *merged]
    return Section(id="mergers", title="Merged minima and Theorem 2", lead=lead, figures=figures, tables=tables)


def _bars(result: TheoryResult) -> str:
    if any(m.lower is not None for m in result.find("odds_exponent")):
        return "Mean over the drawings that have one; bars: intervals over them."
    return "No intervals: they need several drawings."


def _exponents(result: TheoryResult) -> TableView:
    columns = ["τ"]
    for words in ODDS_OF.values():
        columns += [f"S, {words}", "explained", "merged minima"]
    rows = []
    for tau in taus(result):
        cells = [table_cell(tau)]
        for of in ODDS_OF:
            cells += [
                brief_cell(one(result, "odds_exponent", tau, of)),
                brief_cell(one(result, "odds_explained", tau, of)),
                _behind(result, tau, of),
            ]
        rows.append(tuple(cells))
    return TableView(
        key="exponents",
        caption="Theorem 2’s exponent",
        columns=tuple(columns),
        rows=tuple(rows),
        note="S is fitted in each drawing and averaged over those that have one; minima merged in one drawing are not "
        "independent, nor are levels of τ. Explained: 1 − squared residuals over squared log-odds, the mean over "
        "drawings; near 1 the law (p/q)^S describes the merged minima, near 0 no S does. Not measurable: fewer than "
        "three minima merged from unequal numbers of both classes, in every drawing. "
        f"{interval_note(result.find('odds_exponent'))}",
        style="dense",
    )


def _behind(result: TheoryResult, tau: float, of: str) -> Cell:
    """How many merged minima an exponent rests on, of how many drawings."""
    found = one(result, "num_merged", tau, of)
    if found is None or found.value is None or found.n is None:
        return Cell(text="–", muted=True)
    return Cell(text=number(found.value), detail=f"of {counted(found.n, 'drawing')}", numeric=True)
