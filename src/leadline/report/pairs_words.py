"""What pairs of the same seeds say, in sentences."""

from collections.abc import Sequence
from typing import Any

from leadline.records import AuditResult, Measurement
from leadline.report.content import Finding
from leadline.report.views import RunView
from leadline.report.words import counted, interval_text, like, listed, measurement_text, p_text, percent, plain, quoted

FLIPS, RATE, GLOBAL = "paired_flips", "flip_rate", "marginal_homogeneity"
MOST_CLASSES = 4
"""Classes of one pair of sets that a sentence names."""


def pairs_sentence(view: RunView) -> str:
    """For the answer of one run: what its images show beside their partners of the same seeds; empty without those."""
    if view.across is None:
        return ""
    own = [group for group in by_pair(view.across).values() if group[0].params.get("folder_b") == view.folder]
    told = [found for found in own if found[0].value is not None]
    if len(told) == 1:
        return f"Beside {told[0][0].params['a']}: {headline(told[0])}"
    if not told:
        return ""
    verdicts = {found[0].params["a"]: [differs(m) for m in tests_of(found)] for found in told}
    differ = [name for name, found in verdicts.items() if True in found]
    undecided = [name for name, found in verdicts.items() if None in found and True not in found]
    rest = f"with a difference in the share of a class beside {listed(differ)}" if differ else "no difference is shown"
    rest += f", undecided beside {listed(undecided)}" if undecided else ""
    return f"Beside {counted(len(told), 'other set')} of the same seeds, {rest} (Holm over all tests of the page)."


def by_pair(found: AuditResult) -> dict[int, list[Measurement]]:
    """Number of a pair of sets -> all that was measured of it, in order."""
    groups: dict[int, list[Measurement]] = {}
    for m in found:
        if m.name in (FLIPS, RATE, GLOBAL) and "pair" in m.params:
            groups.setdefault(m.params["pair"], []).append(m)
    return groups


def tests_of(group: Sequence[Measurement]) -> list[Measurement]:
    return [m for m in group if m.name == FLIPS and m.value is not None]


def differs(m: Measurement) -> bool | None:
    """Whether a difference is shown; None where Holm's test shows one and the interval, for all tests at once, does
    not. What the interval shows, the test does, too."""
    if m.level is None or m.params["p_holm"] >= 1 - m.level:
        return False
    return None if m.lower is None or m.upper is None or m.lower <= 0 <= m.upper else True


def outside(m: Measurement) -> bool:
    """Whether no training image is of the class."""
    return m.params.get("training_share") == 0.0


def pair_title(params: dict[str, Any]) -> str:
    """`2 blocks → 4 blocks (digits69, training seed 0)`."""
    return f"{params['a']} → {params['b']}" + (f" ({params['of']})" if params.get("of") else "")


def pair_finding(group: Sequence[Measurement]) -> Finding:
    told = [("Which way", _both_ways(group))]
    rest = [m for m in tests_of(group) if m not in _spoken_of(group)]
    if rest:
        words = "; ".join(_change(m) for m in rest[:MOST_CLASSES])
        more = f"; {counted(len(rest) - MOST_CLASSES, 'more')} in the table" if len(rest) > MOST_CLASSES else ""
        told.append(("The others", f"{words}{more}."))
    return Finding(run=plain(pair_title(group[0].params)), headline=headline(group), sentences=tuple(told))


def _spoken_of(group: Sequence[Measurement]) -> list[Measurement]:
    """The tests that the headline names: of two classes the rarer in training; of more those that may differ."""
    tests = tests_of(group)
    classes = [m for m in tests if "training_share" in m.params]
    if len(classes) <= 2:
        return sorted(classes or tests, key=lambda m: m.params.get("training_share", 0.0))[:1]
    return [m for m in classes if differs(m) is not False][:MOST_CLASSES]


def headline(group: Sequence[Measurement]) -> str:
    spoken = _spoken_of(group)
    n = next(m.n for m in group if m.n is not None)
    if spoken:
        return f"of {n:,} pairs of the same seeds, {'; '.join(_counted(m) for m in spoken)}."
    every = next((m for m in group if m.name == GLOBAL), None)
    whole = f"; all labels together: {p_text(every.params['p'])} (Stuart-Maxwell)" if every is not None else ""
    return f"of {n:,} pairs of the same seeds, no difference in the share of a class is shown{whole}."


def _counted(m: Measurement) -> str:
    """The counts behind one test, what they say, and how sure that is."""
    p = m.params
    found = differs(m)
    verdict = "no difference is shown"
    if found is None:
        verdict = "undecided, for the test shows a difference and the interval does not"
    elif found:
        verdict = f"{p['b']} makes it {'more' if (m.value or 0.0) > 0 else 'less'} often"
    together = f" for all {p['tests']} tests at once" if p["tests"] > 1 else ""
    where = " (which no training image is)" if outside(m) else ""
    return (
        f"{p['lost']:,} are {quoted(str(m.group))}{where} at {p['a']} alone and {p['gained']:,} at {p['b']} "
        f"alone: {verdict} (exact McNemar {_p_words(m)}; difference {_value(m)}, {interval_text(m)}{together})"
    )


def _change(m: Measurement) -> str:
    p = m.params
    shares = f"{percent(p['share_a'])} at {p['a']}, {percent(p['share_b'])} at {p['b']}"
    return f"{quoted(str(m.group))} {shares} ({_value(m)}, {_p_words(m)})"


def _value(m: Measurement) -> str:
    return "" if m.value is None else like(m, m.value)


def _p_words(m: Measurement) -> str:
    """`p = 0.031`; with Holm's beside it where there were several tests."""
    holm = f", by Holm over {m.params['tests']} tests {p_text(m.params['p_holm'])}" if m.params["tests"] > 1 else ""
    return f"{p_text(m.params['p'])}{holm}"


def _both_ways(group: Sequence[Measurement]) -> str:
    rate = next((m for m in group if m.name == RATE), None)
    if rate is None:
        return ""
    p = rate.params
    ways = ""
    if p["here"] and p["there"]:
        ways = (
            f"{p['forward']:,} went from {quoted(p['here'])} to {quoted(p['there'])}, and {p['reverse']:,} from "
            f"{quoted(p['there'])} to {quoted(p['here'])}. "
        )
    return f"{ways}The label changed in {p['changed']:,} pairs, {measurement_text(rate)}."
