"""The page of `leadline theory landscape`: maps, minima and shares against tau, Theorem 2's exponent."""

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Finding, Section, TableView
from leadline.report.images import draw_panel
from leadline.report.lab.landscape_maps import draw_maps
from leadline.report.lab.landscape_odds import mergers, theorem_2
from leadline.report.lab.landscape_tau import at, one, plain_table, tau_lines, tau_ticks, taus
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.plots import Level, draw
from leadline.report.words import (
    SPACE,
    counted,
    interval_note,
    measurement_cell,
    measurement_text,
    number,
    percent,
    plain,
    quoted,
    table_cell,
)

SHARES_OF = {"flow": "of what flows", "minima": "of the minima", "window": "of the window's area"}
CLAIM = (
    "2505.17560, Theorem 2, says that where p minima of a class and q of another merge, the odds go from p/q to "
    "(p/q)^S with S exclusive semantic features. These points have no such features: S is whatever fits, and an S of 1 "
    "means that merging keeps the odds of the count."
)


@PAGES.register("landscape")
def page(result: TheoryResult) -> LabPage:
    """The answer, the maps, minima and shares against tau, mergers, what is recalled, every tau in numbers."""
    settings = result.settings
    sections = [_maps(result), _minima(result)]
    if settings["classes"]:
        sections += [_shares(result), mergers(result)]
    sections += [*_recalled(result), _every_tau(result)]
    facts = [counted(settings["n"], "point"), counted(settings["d"], "dimension")]
    facts += [counted(settings["num_queries"], "query", "queries")]
    if settings["replicates"] > 1:
        facts.append(counted(settings["replicates"], "drawing"))
    return LabPage(
        title=f"Energy landscape of {settings['name']}",
        findings=[_answer(result)],
        sections=sections,
        caveats=_caveats(result),
        facts=facts,
    )


def _last_rugged(result: TheoryResult) -> float:
    """The largest tau with two minima or more, on average over the drawings; the first where there is none."""
    several = [m.params["tau"] for m in result.find("num_minima") if m.value is not None and m.value >= 2]
    return max(several, default=taus(result)[0])


def _answer(result: TheoryResult) -> Finding:
    """How the followed class fares from the most rugged landscape to the last that has two minima or more."""
    first, last = taus(result)[0], _last_rugged(result)
    ends = [one(result, "num_minima", tau) for tau in (first, last)]
    count = " and ".join(f"{_count_text(result, m)} at {at(m.params['tau'])}" for m in ends if m is not None)
    minima = f"{count}. {_single(result)}"
    name = plain(result.settings["name"])
    if not result.settings["classes"]:
        return Finding(run=name, headline=f"minima: {minima}", sentences=())
    group = quoted(result.settings["followed"])
    found = [one(result, "share", tau, "flow") for tau in dict.fromkeys((first, last))]
    words = ", ".join(f"{measurement_text(m)} at {at(m.params['tau'])}" for m in found if m is not None)
    [data] = result.find("share", of="data")
    headline = f"class {group}, {percent(data.value or 0)} of the points, is where the flow ends for {words}."
    sentences = [] if result.settings["majority"] else [("The class", _merely_followed(result))]
    sentences += [("Against the data", _against_data(result, found[-1], data)), ("Minima", minima)]
    sentences += [("Theorem 2", theorem_2(result)), ("The paper", CLAIM)]
    return Finding(run=name, headline=plain(headline), sentences=tuple(sentences))


def _merely_followed(result: TheoryResult) -> str:
    """What is said where the followed class is not a majority."""
    classes = counted(len(result.settings["classes"]), "class", "classes")
    return (
        f"Among these {classes} there is no majority: class {quoted(result.settings['followed'])} leads by too little, "
        "or is one of several alike, and is merely the one that is followed."
    )


def _count(result: TheoryResult, value: float) -> str:
    """A number of minima: a mean over drawings with one decimal."""
    return f"{value:,.1f}" if result.settings["replicates"] > 1 else number(value)


def _count_cell(result: TheoryResult, m: Measurement | None) -> Cell:
    if m is None or m.value is None:
        return measurement_cell(m)
    known = m.lower is not None and m.upper is not None
    ends = " to ".join(_count(result, end) for end in (m.lower, m.upper) if end is not None) if known else ""
    return Cell(text=_count(result, m.value), detail=ends, numeric=True)


def _count_text(result: TheoryResult, m: Measurement) -> str:
    cell = _count_cell(result, m)
    if not cell.detail or m.level is None:
        return cell.text
    return f"{cell.text} ({number(100 * m.level)}{SPACE}% interval {cell.detail})"


def _single(result: TheoryResult) -> str:
    last = _last_rugged(result)
    alone = [tau for tau in taus(result) if tau > last]
    if not alone:
        return "Two minima or more remain at the largest τ."
    return (
        f"From {at(alone[0])} on there are fewer than two{_on_average(result)}: a single one gives everything to one "
        "class, whatever the data."
    )


def _on_average(result: TheoryResult) -> str:
    return " on average" if result.settings["replicates"] > 1 else ""


def _against_data(result: TheoryResult, share: Measurement | None, data: Measurement) -> str:
    if share is None or share.value is None or share.lower is None or share.upper is None or data.value is None:
        return "No interval at the last τ with several minima: not decided."
    where = f"At {at(share.params['tau'])}, the last with two minima or more{_on_average(result)},"
    if share.lower <= data.value <= share.upper:
        return f"{where} the interval holds the data's share: a change is not shown."
    return f"{where} the class has {'more' if share.value > data.value else 'less'} than its share of the data."


def _caveats(result: TheoryResult) -> list[str]:
    told = [
        "The landscape is that of soft k-NN on these points, the exact denoiser of the data: no network is in it, and "
        "τ stands where the papers put the depth of an encoder."
    ]
    if result.settings["replicates"] == 1:
        told.append(
            "One set of points: intervals are for the queries, or the minima, not for another drawing of data. "
            "Theorem 2's exponent has none."
        )
    unsettled = sum(int(row[6] or 0) for table in result.tables if table.name == "levels" for row in table.rows)
    if unsettled:
        told.append(f"{counted(unsettled, 'start')} had not settled after the allowed steps, and count nowhere.")
    return told


def _maps(result: TheoryResult) -> Section:
    facts = result.settings["maps"]
    lead = "The energy at growing τ, as height lines, with the class of each place's basin as a pale ground."
    if "variance held" in facts:
        lead += (
            f" The points are images: drawn is the landscape of their first two principal components, which hold "
            f"{percent(facts['variance held'])} of the variance. It is another landscape than that of the images, "
            "whose numbers follow below."
        )
    return Section(id="maps", title="Maps", lead=lead, figures=[draw_maps(result)])


def _minima(result: TheoryResult) -> Section:
    lines, told = tau_lines(result, "num_minima", {"minima": None})
    plot = draw(
        lines,
        name="num-minima",
        alt=f"Number of minima against τ. {'. '.join(told)}.",
        caption="Number of minima against τ = 2σ², both axes logarithmic."
        + (" Mean over the drawings with its interval." if result.settings["replicates"] > 1 else ""),
        x_label="τ",
        y_label="minima",
        x_ticks=tau_ticks(taus(result)),
        log_y=True,
    )
    return Section(
        id="minima",
        title="Number of minima",
        lead="At small τ nearly every point is a minimum of its own; as τ grows they merge, until one is left.",
        figures=[plot],
    )


def _shares(result: TheoryResult) -> Section:
    group = quoted(result.settings["followed"])
    kinds: dict[str, str | None] = {words: of for of, words in SHARES_OF.items() if of != "window"}
    lines, told = tau_lines(result, "share", kinds)
    [data] = result.find("share", of="data")
    plot = draw(
        lines,
        name="share",
        alt=f"Share of class {group} against τ. {'. '.join(told)}.",
        caption=f"Share of class {group}: of the queries, by the class of the minimum where their flow ends, and of "
        "the minima. Bars: intervals; dashed: its share of the points.",
        x_label="τ",
        y_label=f"share of class {group}, %",
        levels=[Level(y=data.value or 0, label=f"points {percent(data.value or 0)}")],
        x_ticks=tau_ticks(taus(result)),
        factor=100,
    )
    rows = tuple(
        (
            table_cell(tau),
            _count_cell(result, one(result, "num_minima", tau)),
            measurement_cell(one(result, "share", tau, "minima")),
            measurement_cell(one(result, "share", tau, "flow")),
            *(
                [measurement_cell(one(result, "share", tau, "window"), "–")]
                if result.find("share", of="window")
                else []
            ),
        )
        for tau in taus(result)
    )
    window = ("of the window’s area",) if result.find("share", of="window") else ()
    table = TableView(
        key="shares",
        caption=f"Minima, and shares of class {group}",
        columns=("τ", "Minima", "of the minima", "of what flows", *window),
        rows=rows,
        note=interval_note(result.find("share"))
        + (" The window is that of the maps: its share is no sample and has no interval." if window else ""),
        style="dense",
    )
    lead = (
        "A query is a point with noise of σ = √(τ/2) on it, where a sampler stands at that noise level; it counts for "
        "the class that has the larger soft vote at the minimum where its flow ends."
    )
    if not result.settings["majority"]:
        lead = f"{_merely_followed(result)} {lead}"
    return Section(id="shares", title=plain(f"Share of class {group}"), lead=lead, figures=[plot], tables=[table])


def _recalled(result: TheoryResult) -> list[Section]:
    drawn = [draw_panel(panel, result.settings["name"]) for panel in result.panels]
    figures = [figure for figure in drawn if figure is not None]
    if not figures:
        return []
    lead = "Small τ returns the image itself; as minima merge, one average after the other takes its place."
    return [Section(id="recalled", title="What is recalled", lead=lead, figures=figures)]


def _every_tau(result: TheoryResult) -> Section:
    tables = [plain_table(table) for table in result.tables if table.name == "levels"]
    return Section(id="levels", title="Every τ", lead="", tables=tables)
