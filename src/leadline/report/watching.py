"""The section on watched trainings: shares, copies, diversity and losses of one bank of seeds over the steps."""

from collections.abc import Sequence

from leadline.looks import HELD_OUT_LOSS, TRAINING_LOSS, UNRECOGNISED, watched_steps
from leadline.records import Measurement, Table
from leadline.report.content import Cell, Finding, Section, TableView
from leadline.report.shares import compared_share
from leadline.report.views import RunView
from leadline.report.watched_plots import (
    at,
    copy_rate,
    drawn_groups,
    kernel_distance,
    pairwise_distance,
    plots,
    strips,
)
from leadline.report.words import (
    brief_cell,
    counted,
    interval_note,
    listed,
    not_measurable,
    number,
    p_text,
    percent,
    percentage,
    plain,
    quoted,
)

Views = Sequence[RunView]
Row = dict[str, str | int | float | None]
AT_EQUAL = "share_difference_at_equal"
STANDINGS = "watched_shares"
"""As `leadline.across.watched` names what it finds."""
BASES = {"steps": "step", TRAINING_LOSS: "training loss", "kernel_distance": "kernel distance"}
STATES = {
    "below": "the share lies below the training data's",
    "above": "the share lies above the training data's",
    "not shown": "no difference is shown",
    "not measurable": "the difference is not measurable",
}
FEW = 50
"""Recognised images below which the shares of the last look are said to rest on few."""
MOST_MISSING = 4
"""Steps that a sentence names one by one."""


def watching_section(views: Views) -> Section:
    """What the looks at each training found, over its steps, and the runs compared where they are alike."""
    title = "Watching the training"
    watched = [view for view in views if view.looks]
    reasons = [f"{view.name}: {view.looks_reason}." for view in views if view.looks_reason]
    if not watched:
        lead = (
            "No training here was watched: --set train.watch_every=500 looks at it as it goes, `leadline watch RUN` at "
            "the snapshots of one that is done."
        )
        return Section(id="watching", title=title, lead=lead, caveats=reasons)
    own = [view for i, view in enumerate(watched) if view.looks not in [other.looks for other in watched[:i]]]
    drawn = [view for view in own if view.drawn]
    equal = _at_equal(own)
    return Section(
        id="watching",
        title=title,
        lead=f"{_bank(own)} Drawn from the averaged weights, from the same noise at every look: what differs between "
        "two looks is the model alone.",
        findings=[_standing(view) for view in own],
        figures=[*plots(drawn), *strips(drawn)],
        tables=[*([equal] if equal is not None else []), *(_numbers(view) for view in own)],
        caveats=[*reasons, *_caveats(views, own), *_not_compared(own)],
    )


def _bank(views: Views) -> str:
    """How large the bank is, and how it is drawn, where all runs agree."""
    banks = {(look.settings.get("num_images"), look.settings.get("steps")) for view in views for look in view.looks}
    looks = "; ".join(f"{view.name}: {counted(len(view.looks), 'look')}" for view in views)
    if len(banks) > 1:
        return f"A fixed bank of seeds ({looks}; the banks differ)."
    images, steps = banks.pop()
    return f"A fixed bank of {images} seeds, by DDIM in {steps} steps ({looks})."


def _rows(view: RunView, name: str) -> list[Row]:
    """The rows of a table over all runs that are of this one, by their columns."""
    tables: Sequence[Table] = () if view.across is None else view.across.tables
    rows = [dict(zip(table.columns, row, strict=True)) for table in tables if table.name == name for row in table.rows]
    return [row for row in rows if plain(row["run"]) == view.folder]


def _standing(view: RunView) -> Finding:
    """Since when no class's share is shown to differ from the training data's, each look by itself and all jointly."""
    sentences = []
    rows = _rows(view, STANDINGS)
    for alone, jointly in zip(rows[::2], rows[1::2], strict=True):
        label = plain(f"Share of {quoted(str(alone['class']))}")
        sentences.append(
            (
                label,
                f"{_shares(alone)}. Each look by itself, {_standing_words(alone)}{_width(alone)}. "
                f"Jointly for {counted(int(alone['looks'] or 0), 'look')} (Bonferroni), {_standing_words(jointly)}"
                f"{_width(jointly)}.",
            )
        )
    steps = f"looked at from step {view.looks[0].step:,} to step {view.looks[-1].step:,}"
    return Finding(run=view.name, headline=f"{steps}.", sentences=tuple(sentences))


def _shares(row: Row) -> str:
    """The share in the training data, truly and as the labeler sees it, and at the last look as the labeler sees it."""
    found = f"{percent(float(row['training share'] or 0))} in the training data"
    labeled, last = row["training share as labeled"], row["last share"]
    if labeled is None or last is None:
        return found
    of = counted(int(row["recognised"] or 0), "recognised image")
    return f"{found}, {percent(float(labeled))} as the labeler sees it; {percent(float(last))} of {of} at the last look"


def _standing_words(row: Row) -> str:
    state = STATES[str(row["state"])]
    if row["before"] is None:
        looks = "every look" if row["state"] in ("below", "above") else "any look"
        return f"{state} at {looks}" if row["looks"] != 1 else state
    before = STATES[str(row["before"])]
    return f"{before} until step {number(int(row['until'] or 0))}, and {state} from {_step(row)} on"


def _width(row: Row) -> str:
    """How large a difference the last look leaves open: none that is shown is none that is there."""
    if row["lower"] is None or row["upper"] is None:
        return ""
    lower, upper = (percentage(float(row[end] or 0), signed=True) for end in ("lower", "upper"))
    return f" (at the last look {lower} to {upper} points)"


def _step(row: Row) -> str:
    return f"step {number(int(row['since'] or 0))}"


def _compared(views: Views) -> list[Measurement]:
    return [] if views[0].across is None else [m for m in views[0].across if m.name == AT_EQUAL]


def _at_equal(views: Views) -> TableView | None:
    """The runs of one recipe and training seed at looks that are alike in steps, training loss or fidelity."""
    found = [m for m in _compared(views) if m.value is not None]
    if not found:
        return None
    names = {view.folder: view.label for view in views}
    rows = []
    for m in found:
        pair = [names.get(plain(m.params[run]), plain(m.params[run])) for run in ("run_a", "run_b")]
        rows.append(
            (
                Cell(text=f"{pair[1]} against {pair[0]}"),
                Cell(text=f"equal {BASES[m.params['basis']]}", detail=_alike(m)),
                Cell(text=plain(quoted(m.group or ""))),
                *(Cell(text=percent(m.params[share]), numeric=True) for share in ("share_a", "share_b")),
                brief_cell(m),
                *(Cell(text=p_text(m.params[p]), numeric=True) for p in ("p", "p_holm")),
            )
        )
    return TableView(
        key=AT_EQUAL,
        caption="Runs of one recipe and training seed, compared where they are alike",
        columns=(
            "runs",
            "compared at",
            "share of",
            "the shallow one",
            "the deep one",
            "difference",
            "McNemar, exact",
            f"Holm over {counted(found[0].params['tests'], 'test')}",
        ),
        rows=tuple(rows),
        note="Of all images of the bank, pair by pair; images that are not recognised are a group of their own. Of a "
        "loss or a distance: the best value that both runs reach, each at its first look that does. "
        f"{interval_note(found)} Training loss is measured on other images than the bank's, so it chooses the looks "
        "without regard to what is compared; kernel distance is measured on the very images that are then compared, so "
        "there test and choice are not independent: read equal training loss first.",
    )


def _alike(m: Measurement) -> str:
    steps = f"steps {number(m.params['step_a'])} and {number(m.params['step_b'])}"
    if m.params["basis"] == "steps":
        return f"step {number(m.params['step_a'])}"
    return f"{number(m.params['value_a'], 3)} and {number(m.params['value_b'], 3)}, {steps}"


def _not_compared(views: Views) -> list[str]:
    missing = [m for m in _compared(views) if m.value is None]
    words = {m.params.get("basis"): f"at equal {BASES[m.params['basis']]} " for m in missing if "basis" in m.params}
    return list(
        dict.fromkeys(f"Runs compared {words.get(m.params.get('basis'), '')}are {not_measurable(m)}." for m in missing)
    )


def _numbers(view: RunView) -> TableView:
    """One row per look."""
    groups = drawn_groups([view])
    titles = ("training loss", "held-out loss", *(f"share of {quoted(group)}" for group in groups))
    rows, shown = [], []
    for i, look in enumerate(view.looks):
        here = at(view, i)
        found = [
            look.find(TRAINING_LOSS),
            look.find(HELD_OUT_LOSS),
            *(compared_share(here, group) for group in groups),
            here.first(UNRECOGNISED),
            copy_rate(here),
            pairwise_distance(here),
            kernel_distance(here),
        ]
        shown += found
        rows.append((Cell(text=number(look.step)), *(brief_cell(m) for m in found)))
    return TableView(
        key=f"looks-{view.folder}",
        caption=f"{view.name}: looks at the training",
        columns=("step", *map(plain, titles), "not recognised", "copies", "mean pairwise distance", "kernel distance"),
        rows=tuple(rows),
        note="Shares among the recognised images, as labelled; copies by d1/d2 in pixels; distances in labeler "
        f"features. {interval_note(shown, methods=False)}",
        style="dense",
    )


def _no_difference(view: RunView) -> str:
    """Why the last look's shares have no difference from the training data's as labelled."""
    missing = [m for m in view.looks[-1].measurements if m.name == "labeled_difference" and m.value is None]
    reason = missing[0].reason if missing else "the looks hold no share of the training data as the labeler sees it"
    return f"difference from the training data not measurable at the last look: {reason}"


def _few_recognised(view: RunView) -> list[str]:
    """The look at which most of the bank is not recognised, and the last one where few of it are."""
    looks = [(look.step, at(view, i).first(UNRECOGNISED)) for i, look in enumerate(view.looks)]
    known = [
        (step, m.value, round(m.n * (1 - m.value)), m.n)
        for step, m in looks
        if m is not None and m.value is not None and m.n is not None
    ]
    if not known:
        return []
    worst, last = max(known, key=_second), known[-1]
    told = {}
    if worst[1] > 0.5:
        told[worst] = "the look with the fewest"
    if last[1] > 0.5 or last[2] < FEW:
        told[last] = "the last look, and that with the fewest" if last in told else "the last look"
    return [
        f"{view.name}: {recognised:,} of {counted(n, 'image')} of the bank are recognised at step {step:,}, {words}: "
        "its shares rest on few images."
        for (step, _, recognised, n), words in told.items()
    ]


def _second(look: tuple[int, float, int, int]) -> float:
    return look[1]


def _caveats(views: Views, own: Views) -> list[str]:
    found = [
        "The looks of a run share their seeds and the history of their weights, so they hang together, and there are "
        "several: a difference that a single look shows by itself may be chance. That none is shown does not say that "
        "there is none: the intervals say how large a one is left open, and the joint ones, being wider, cease to show "
        "one sooner. One training run each: another training seed may cross at another step."
    ]
    for view in own:
        if any(row["state"] == "not measurable" for row in _rows(view, STANDINGS)):
            found.append(f"{view.name}: {_no_difference(view)}.")
    found += [caveat for view in own for caveat in _few_recognised(view)]
    for view in views:
        wanted = [] if view.recipe is None else watched_steps(view.recipe.train)
        missing = [f"{step:,}" for step in wanted if step not in {look.step for look in view.looks}]
        if missing and not view.looks_reason:
            named = listed([*missing[:MOST_MISSING], *(["later ones"] if len(missing) > MOST_MISSING else [])])
            found.append(
                f"{view.name}: no look at {'steps' if len(missing) > 1 else 'step'} {named}, which train.watch_every "
                "asks for: the training had passed them already, or is not there yet."
            )
    return found
