"""The section on a steering sweep: what a bypass of the mid-block changes beside strength 0, and what it does not."""

from collections.abc import Sequence

from leadline.frontier import Choice, Confirmation, PairedTest, Setting, SteerSweep, is_better
from leadline.records import Measurement
from leadline.report.content import Cell, Finding, Section, TableView
from leadline.report.doses import (
    TOPICS,
    begun,
    difference_text,
    dose_plots,
    frontier_plots,
    shown_as,
    signed,
    words,
)
from leadline.report.shares import headline_groups, training_share
from leadline.report.views import RunView
from leadline.report.words import SPACE, counted, ends_text, like, listed, measurement_text, number, p_text, plain

Views = Sequence[RunView]
TITLE = "Frontier: quality, memorization and bias over the bypass"
MOST_NAMED = 4
"""Measurements that a sentence names one by one; the table has them all."""


def frontier_section(views: Views) -> Section:
    """The settings of a steering sweep beside strength 0: drawings, and every paired difference as a table."""
    sweep = views[0].sweep
    if sweep is None:
        lead = "No settings of a bypass were compared (leadline steer-sweep RUN --strength 0 .25 .5 1)."
        return Section(id="frontier", title=TITLE, lead=lead)
    zero = next((view for view in views if view.folder == sweep.zero.folder), None)
    group = None if zero is None else next(iter(headline_groups(zero)), None)
    training = None if zero is None or group is None else training_share(zero, group)
    tables = [_differences(sweep, kind, settings) for kind, settings in sweep.kinds.items()]
    return Section(
        id="frontier",
        title=TITLE,
        lead=_lead(sweep),
        figures=[*frontier_plots(sweep, group, training), *dose_plots(sweep, group)],
        tables=[*_confirmed(sweep), *tables],
        caveats=[*_reading(sweep), *_not_tested(sweep)],
    )


def _lead(sweep: SteerSweep) -> str:
    return (
        f"The mid-block of one trained model bypassed at {counted(len(sweep.others), 'setting')}, "
        f"{counted(sweep.num_images, 'image')} each, from the same noise as at strength 0 (seed {sweep.seed}), and "
        "compared with it image by image. In the other sections the drawings show strength 0 "
        "and the chosen setting, the tables every setting."
    )


def _reading(sweep: SteerSweep) -> list[str]:
    return [
        f"“Differs” stands where p is below {1 - sweep.level:g} after Holm's correction over the "
        f"{counted(len(sweep.others), 'setting')} of one measurement. The intervals are those of single tests, without "
        f"that correction. Over all measurements there is no correction: of {_tested(sweep)} up to about "
        f"{number(sweep.by_chance, 2)} would differ at some setting by chance alone.",
        "The tests tell what other starting noise would change. One trained model stands behind all settings: what "
        "another training would change is not in them.",
        *_doubts(sweep),
    ]


def _doubts(sweep: SteerSweep) -> list[str]:
    """That some differences are corrected; what differs with a sign that is not to be relied on, a reason at a time."""
    if not any("plain" in difference.params for difference in sweep.families.values()):
        return []
    told = [
        "Differences of the Fréchet distance are corrected (jackknife) for the bias of so few images, which depends on "
        "the images' spread: they are not the differences of the two values. The values themselves, as drawn and as a "
        "setting is chosen by them, have that bias; the kernel distance has none."
    ]
    marked = [(setting.words, tested) for setting in sweep.others for tested in setting.tests]
    marked += [(f"{c.chosen.words}, seed {c.seed}", tested) for c in sweep.confirmed for tested in c.chosen.tests]
    reasons: dict[str, list[str]] = {}
    for setting, tested in marked:
        if tested.differs and "doubt" in tested.difference.params:
            name = f"{words(tested.difference)} at {setting}"
            reasons.setdefault(str(tested.difference.params["doubt"]), []).append(name)
    return told + [
        plain(f"The sign of a difference that is marked is in doubt: {_some(names, 'difference')}: {reason}")
        for reason, names in reasons.items()
    ]


def _some(names: Sequence[str], noun: str) -> str:
    """The names, or how many there are."""
    return listed(names) if len(names) <= MOST_NAMED else counted(len(names), noun)


def _tested(sweep: SteerSweep) -> int:
    return sum(difference.value is not None for difference in sweep.families.values())


def _not_tested(sweep: SteerSweep) -> list[str]:
    """One sentence per reason why something could not be tested."""
    reasons: dict[str, dict[str, None]] = {}
    for setting in sweep.others:
        for tested in setting.tests:
            if tested.difference.value is None:
                reasons.setdefault(str(tested.difference.reason), {})[words(tested.difference)] = None
    return [plain(f"Not tested: {_some(list(names), 'measurement')}: {reason}") for reason, names in reasons.items()]


def sweep_finding(sweep: SteerSweep) -> Finding:
    """The sweep's answer: how much differs from strength 0; for each topic what; the choice and its confirmation."""
    tested = {topic: _families(sweep, topic) for topic in TOPICS}
    labelled = [(topic.capitalize(), _told(sweep, families)) for topic, families in tested.items() if families]
    labelled += [("Chosen", _chosen(sweep)), ("Confirmation", _confirmations(sweep))]
    return Finding(
        run=plain(f"{sweep.title}, steering"),
        headline=plain(_headline(sweep, tested)),
        sentences=tuple((heading, plain(text)) for heading, text in labelled if text),
    )


Families = dict[str, Measurement]
"""What was measured -> one of its paired differences."""


def _families(sweep: SteerSweep, topic: str) -> Families:
    """The measurements of a topic that could be tested."""
    return {
        name: difference
        for name, difference in sweep.families.items()
        if difference.params.get("of") in TOPICS[topic] and difference.value is not None
    }


def _headline(sweep: SteerSweep, tested: dict[str, Families]) -> str:
    """How many measurements of each topic differ from strength 0, and of the quality measures which way."""
    quality, settings = tested["quality"], counted(len(sweep.others), "setting")
    start = "no quality measure could be tested"
    if quality:
        differing = {name: found for name in quality if (found := _differing(sweep, name))}
        of = f"{len(differing) or 'none'} of {counted(len(quality), 'quality measure')}"
        verb = "differ" if len(differing) > 1 else "differs"
        start = f"{of} {verb} from strength 0 at {'some' if differing else 'any'} of {settings}{_ways(differing)}"
    rest = [
        f"{topic} {sum(bool(_differing(sweep, name)) for name in families)} of {len(families)}"
        for topic, families in tested.items()
        if families and topic != "quality"
    ]
    also = f" Differing measurements of {listed(rest)}." if rest else ""
    return f"{start} (paired tests, Holm over the settings).{also}"


def _ways(differing: dict[str, list[tuple[Setting, PairedTest]]]) -> str:
    """`: 1 for the better, 3 for the worse`; a measure that goes both ways counts in both; of some it is not known."""
    if not differing:
        return ""
    ways = [
        {is_better(tested.difference) for _, tested in found if tested.difference.value is not None}
        for found in differing.values()
    ]
    better, worse, unknown = (sum(which in way for way in ways) for which in (True, False, None))
    told = f": {better} for the better, {worse} for the worse"
    return told + (f", {unknown} without saying which" if unknown else "")


def _differing(sweep: SteerSweep, name: str) -> list[tuple[Setting, PairedTest]]:
    return [(setting, tested) for setting, tested in sweep.tests(name) if tested.differs]


def _told(sweep: SteerSweep, families: Families) -> str:
    """Which measurements of one topic differ, where, and by how much; of several k only the first is named."""
    differing = {name: found for name in families if (found := _differing(sweep, name))}
    if not differing:
        return f"None of {counted(len(families), 'measurement')} differs from strength 0 at any setting."
    first: dict[tuple[object, ...], str] = {}
    for name in differing:
        of = families[name]
        first.setdefault((of.params.get("of"), of.params.get("space"), of.params.get("rule"), of.group), name)
    named = list(first.values())[:MOST_NAMED]
    told = [_named(sweep, families[name], differing[name]) for name in named]
    more = len(differing) - len(named)
    return (
        f"{len(differing)} of {counted(len(families), 'measurement')} {'differs' if len(differing) == 1 else 'differ'} "
        f"from strength 0: {'; '.join(told)}{f'; and {more} more (see the tables)' if more else ''}."
    )


def _named(sweep: SteerSweep, of: Measurement, differing: Sequence[tuple[Setting, PairedTest]]) -> str:
    """`recall in pixels at 3 settings, most at bypass 1 (constant, blend): 0.81 → 0.61, −0.2 (−0.3 to −0.1)`."""
    setting, furthest = max(differing, key=lambda found: abs(found[1].difference.value or 0.0))
    d = shown_as(furthest.difference)
    place = "" if len(differing) == 1 else f"{len(differing)} settings, most at "
    values = [m for m in (sweep.zero.value(of), setting.value(of)) if m is not None and m.value is not None]
    ways = " → ".join(like(m, m.value) for m in values if m.value is not None)
    return f"{words(of)} at {place}{setting.words}: {ways}, {signed(d)} ({ends_text(d)})"


def _chosen(sweep: SteerSweep) -> str:
    choice, chosen = sweep.choice, sweep.chosen
    if choice is None:
        return ""
    if chosen is None:
        return f"No setting could be chosen: {choice.reason}"
    value = _own(chosen, choice)
    left_out = f" ({choice.reason})" if choice.reason else ""
    by = f"By {choice.words} ({choice.better} is better) on seed {sweep.seed} the best is {chosen.words}{left_out}"
    if chosen is sweep.zero:
        return f"{by}, with {value}: no bypass has a better value, so there is nothing to confirm."
    tested = choice.test(chosen)
    difference = "not tested" if tested is None else difference_text(tested) + _holm_text(tested)
    return (
        f"{by}: {value}, against {_own(sweep.zero, choice)} at strength 0; difference {difference}. It was chosen as "
        f"the best of {len(sweep.settings)}, so this number is optimistic."
        + ("" if sweep.confirmed else " It was not confirmed on other seeds (--confirm-seed).")
    )


def _own(setting: Setting, choice: Choice) -> str:
    found = choice.value(setting)
    return "not measured" if found is None else measurement_text(found)


def _holm_text(tested: PairedTest) -> str:
    return "" if tested.p_holm is None else f", Holm {p_text(tested.p_holm)}"


def _confirmations(sweep: SteerSweep) -> str:
    """Each test of the chosen setting on fresh images, and what several of them, or of other settings, mean."""
    choice, confirmed = sweep.choice, sweep.confirmed
    if choice is None:
        return ""
    told = [_confirmation(sweep, choice, each) for each in confirmed]
    if len(confirmed) == 1:
        told.append("One test, without correction.")
    elif confirmed:
        told.append(
            f"{len(confirmed)} tests on as many seeds, all shown, without correction: the more seeds are tried, the "
            f"sooner one differs by chance (of these {number(len(confirmed) * (1 - sweep.level), 2)} on average)."
        )
    if others := len(sweep.confirmations) - len(confirmed):
        told.append(
            f"{counted(others, 'confirmation')} of what was chosen before, by another measure, "
            f"{'stands' if others == 1 else 'stand'} in sweep.json."
        )
    return " ".join(told)


def _confirmation(sweep: SteerSweep, choice: Choice, confirmation: Confirmation) -> str:
    """The one test on fresh images, and whether it bears the choice out."""
    tested = choice.test(confirmation.chosen)
    start = f"On {counted(sweep.num_images, 'fresh image')} of seed {confirmation.seed} {choice.words} is "
    start += f"{_own(confirmation.chosen, choice)}, against {_own(confirmation.zero, choice)} at strength 0"
    if tested is None or tested.difference.value is None or tested.p is None:
        reason = "it was not tested" if tested is None else difference_text(tested)
        return f"{start}; the difference could not be tested: {reason}."
    return f"{start}; difference {difference_text(tested)}, {p_text(tested.p)}: {_verdict(tested)}."


def _verdict(tested: PairedTest) -> str:
    if not tested.differs:
        return "no difference is shown, so the choice is not confirmed"
    better = is_better(tested.difference)
    if better is None:
        return f"its sign is not to be relied on, so the choice is not confirmed ({tested.difference.params['doubt']})"
    return "the choice is confirmed" if better else "the difference goes the other way, so the choice is refuted"


def _differences(sweep: SteerSweep, kind: str, settings: Sequence[Setting]) -> TableView:
    """A row per measurement, a column per strength."""
    rows = []
    for name, of in sweep.families.items():
        zero = sweep.zero.value(of)
        first = Cell(text="–", muted=True) if zero is None or zero.value is None else _value_cell(zero)
        rows.append((Cell(text=plain(begun(words(of)))), first, *(_cell(setting.test(name)) for setting in settings)))
    level = f"{number(100 * sweep.level)}{SPACE}%"
    return TableView(
        key="paired_differences",
        caption=plain(f"{kind}: differences from strength 0"),
        columns=("Measurement", "At strength 0", *(f"At strength {s.steer.strength:g}" for s in settings)),
        rows=tuple(rows),
        note=f"Below a difference: its {level} interval, its p, and p after Holm's correction over all "
        f"{counted(len(sweep.others), 'setting')}. “Differs”: that p is below {1 - sweep.level:g}.",
    )


def _value_cell(m: Measurement) -> Cell:
    return Cell(text=measurement_text(m).split(" (")[0], detail=ends_text(m), numeric=True)


def _cell(tested: PairedTest | None) -> Cell:
    """`+3.2 differs`, below it `2.5 to 3.9; p = 0.001, Holm p = 0.004`."""
    if tested is None:
        return Cell(text="–", muted=True)
    d = shown_as(tested.difference)
    if d.value is None:
        return Cell(text="not tested", muted=True)
    ps = [p_text(tested.p)] if tested.p is not None else []
    ps += [f"Holm {p_text(tested.p_holm)}"] if tested.p_holm is not None else []
    detail = "; ".join(filter(None, (ends_text(d), ", ".join(ps))))
    differs = " differs" + (" (sign in doubt)" if d.params.get("doubt") else "") if tested.differs else ""
    return Cell(text=signed(d) + differs, detail=detail, numeric=True)


def _confirmed(sweep: SteerSweep) -> list[TableView]:
    """The chosen setting's differences on the seed that it was chosen on and on every fresh one, side by side."""
    chosen, confirmed = sweep.chosen, sweep.confirmed
    if chosen is None or not confirmed:
        return []
    families = dict.fromkeys(tested.family for each in confirmed for tested in each.chosen.tests)
    rows = []
    for name in families:
        tests = [chosen.test(name), *(each.chosen.test(name) for each in confirmed)]
        of = next(tested.difference for tested in tests if tested is not None)
        rows.append((Cell(text=plain(begun(words(of)))), *map(_cell, tests)))
    fresh = [f"Seed {each.seed}, fresh" for each in confirmed]
    return [
        TableView(
            key="confirmation",
            caption=plain(f"{chosen.words}: differences from strength 0, as chosen and on fresh images"),
            columns=("Measurement", f"Seed {sweep.seed}, chosen on it", *fresh),
            rows=tuple(rows),
            note="The first column is optimistic for what the setting was chosen by. In the others p stands alone, "
            "without correction; what it says of other measurements than that one is not one test but many.",
        )
    ]
