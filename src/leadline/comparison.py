"""Two audits side by side: what changed, with intervals, what chance alone would bring, in what else they differ."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from leadline.records import AuditResult, Measurement

Interval = tuple[float, float]

IDENTITY = ("set", "space", "k", "rule", "pairs", "net", "version")
"""Params that say which measurement it is. The others are results (standard_error, p, l2) or settings."""
NOT_REMARKED = {"caution", "value_at_equal_n"}
"""Params in words that speak of the result, and change with it."""
SIZES = {"images": "images", "training_images": "training images"}
"""Params that say of how many images a measurement is, where its n does not."""
NOT_COMPARED = {"num_panels", "encoders"}
"""Settings of an audit that change no number; which spaces there are shows in what has no counterpart."""
NOUNS = {"training": "training data", "held_out": "held-out images"}
METHOD = "MOVER (Zou and Donner, 2008) from the intervals of both audits, taken as independent"
SAME_IMAGES = "no interval: both were computed from the same images"
ASSUMED = (
    "The intervals take the two audits as independent draws of images, with training data, held-out images and labeler "
    "as they are. Where both share a baseline or their starting noise, errors run together and the intervals are as a "
    "rule too wide. How much another training of the same model would change is not in them."
)


class Change(BaseModel):
    """One measurement in both audits. difference: new minus old; its method says why, where it has no interval.

    remarks: in what else, beside the images, the two were made differently (an option, where the labels come from).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    old: Measurement
    new: Measurement
    difference: Measurement
    remarks: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether the difference has an interval."""
        return self.difference.lower is not None

    @property
    def reach(self) -> float | None:
        """The half of the difference's interval that points to 0; None where there is none."""
        d = self.difference
        if d.value is None or d.lower is None or d.upper is None:
            return None
        return d.upper - d.value if d.value < 0 else d.value - d.lower

    @property
    def weight(self) -> float:
        """The difference over `reach`: beyond ±1 its interval excludes 0. 0 where there is no interval."""
        value, reach = self.difference.value, self.reach
        if not value or reach is None:
            return 0.0
        return value / reach if reach > 0 else math.copysign(math.inf, value)

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return abs(self.weight) > 1


class Unmatched(BaseModel):
    """A measurement without counterpart, or without a number in one of the audits, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measurement: Measurement
    why: str


class Comparison(BaseModel):
    """What changed from one audit to the next.

    changes: those with an interval first, by falling weight. unmatched: what could not be compared. notes: in what the
    audits themselves differ. unchanged: how many measurements are equal, being computed from the same images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    old: str
    new: str
    changes: tuple[Change, ...]
    unmatched: tuple[Unmatched, ...]
    notes: tuple[str, ...]
    unchanged: int = 0

    @property
    def tested(self) -> list[Change]:
        """The changes that have an interval, by falling weight."""
        return [change for change in self.changes if change.tested]

    @property
    def differing(self) -> list[Change]:
        """Those whose interval excludes 0."""
        return [change for change in self.tested if change.differs]

    @property
    def by_chance(self) -> float:
        """How many intervals exclude 0 on average where nothing has changed: the sum of 1 - level, related or not."""
        return math.fsum(1 - (change.difference.level or 0) for change in self.tested)

    @property
    def headline(self) -> str:
        """How many differ, of how many, and how many would by chance."""
        n, differing = len(self.tested), len(self.differing)
        if n == 0:
            return f"Nothing can be compared with {self.old} with an interval."
        return (
            f"{differing} of {n} measurements {'differs' if differing == 1 else 'differ'} from {self.old} by more than "
            f"the interval; about {self.by_chance:.1f} would by chance alone, many of them together because they are "
            "related."
        )


def mover(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Zou and Donner (2008), MOVER: interval of θ₁ - θ₂ from each one's own: L = d - √((θ₁-l₁)² + (u₂-θ₂)²).

    U = d + √((u₁-θ₁)² + (θ₂-l₂)²), d = θ₁ - θ₂. Estimates independent, finite, with intervals of one level around
    them, which may be lopsided or unbounded. With Wilson's intervals of two shares it is Newcombe's (1998) method 10.
    """
    d = first - second
    below = math.hypot(first - of_first[0], of_second[1] - second)
    above = math.hypot(of_first[1] - first, second - of_second[0])
    return d - below, d + above


def compare(
    old: AuditResult, new: AuditResult, *, names: tuple[str, str] = ("the last audit", "this one")
) -> Comparison:
    """Every measurement that both audits have, new minus old; matched by name, group and what identifies it.

    names: what to call the old and the new audit.
    """
    before, after = _by_key(old), _by_key(new)
    changes: list[Change] = []
    unmatched: list[Unmatched] = []
    unchanged = 0
    for key in dict.fromkeys([*after, *before]):
        earlier, now = before.get(key), after.get(key)
        if earlier is None or now is None or earlier.value is None or now.value is None:
            unmatched += _why_unmatched(earlier, now)
        elif _same_images(earlier, now) and earlier.value == now.value:
            unchanged += 1
        else:
            changes.append(_change(earlier, now))
    return Comparison(
        old=names[0],
        new=names[1],
        changes=tuple(sorted(changes, key=lambda change: (not change.tested, -abs(change.weight)))),
        unmatched=tuple(unmatched),
        notes=tuple(_notes(old, new)),
        unchanged=unchanged,
    )


def label(m: Measurement) -> str:
    """The measurement's name with its group and what identifies it: share [nine, samples]."""
    tags = [] if m.group is None else [m.group]
    for key in IDENTITY:
        if key in m.params:
            value = m.params[key]
            tags.append(value if isinstance(value, str) else f"{key} = {value}")
    return m.name + (f" [{', '.join(tags)}]" if tags else "")


def _by_key(result: AuditResult) -> dict[tuple[Any, ...], Measurement]:
    """Measurements by what identifies them; a second one of the same key is told apart by its place."""
    found: dict[tuple[Any, ...], Measurement] = {}
    for m in result:
        key = (m.name, m.group, *(repr(m.params.get(param)) for param in IDENTITY))
        again = 0
        while (*key, again) in found:
            again += 1
        found[(*key, again)] = m
    return found


def _same_images(old: Measurement, new: Measurement) -> bool:
    """Whether both are of the same images; of training and held-out ones the samples only decide how many."""
    before, now = (_sources(m) for m in (old, new))
    return bool(now) and before == now


def _sources(m: Measurement) -> dict[str, str]:
    own = m.params.get("set", "samples") == "samples"
    return {name: content for name, content in m.computed_from.items() if own or name != "samples"}


def _why_unmatched(old: Measurement | None, new: Measurement | None) -> Iterator[Unmatched]:
    if old is None and new is not None:
        told = "only in this audit" if new.value is not None else f"only in this audit, not measurable: {new.reason}"
        yield Unmatched(measurement=new, why=told)
    elif new is None and old is not None:
        yield Unmatched(measurement=old, why="only in the earlier audit")
    elif old is not None and new is not None:
        both = old.value is None and new.value is None
        when = "in both audits" if both else "in this audit" if new.value is None else "in the earlier audit"
        missing = new if new.value is None else old
        yield Unmatched(measurement=new, why=f"not measurable {when}: {missing.reason}")


def _change(old: Measurement, new: Measurement) -> Change:
    remarks = [
        f"{name}: {old.params[name]} → {new.params[name]}"
        for name in new.params
        if name in old.params and name not in {*IDENTITY, *NOT_REMARKED} and _says(old.params[name], new.params[name])
    ]
    sizes = () if _depends_on_n(old, new) else _sizes_that_differ(old, new)
    # Where n is that number, it stands beside the value.
    shown = [size for size in sizes if size[1:] != (old.n, new.n)]
    remarks += [f"{noun}: {before:,} → {now:,}" for noun, before, now in shown]
    return Change(old=old, new=new, difference=_difference(old, new), remarks=tuple(remarks))


def _says(old: Any, new: Any) -> bool:
    """Whether a param that is words or yes and no was changed; numbers may be results."""
    return isinstance(old, str | bool) and isinstance(new, str | bool) and old != new


def _depends_on_n(old: Measurement, new: Measurement) -> bool:
    """Whether more images of the same kind give another value; an audit of an older version may not say so."""
    return any(m.params.get("depends_on_n") is True for m in (old, new))


def _sizes_that_differ(old: Measurement, new: Measurement) -> list[tuple[str, int, int]]:
    """(of what, number before, number now), by the params where both have them, else by n."""
    given = {noun: (old.params[name], new.params[name]) for name, noun in SIZES.items() if _both(name, old, new)}
    sizes = given or {"images": (old.n, new.n)}
    return [(noun, before, now) for noun, (before, now) in sizes.items() if before and now and before != now]


def _both(name: str, old: Measurement, new: Measurement) -> bool:
    return all(isinstance(m.params.get(name), int) for m in (old, new))


def _difference(old: Measurement, new: Measurement) -> Measurement:
    """New minus old, with an interval where both have one of the same level and nothing else explains it.

    Of the same images there is none, nor where the value depends on how many images there are and that differs.
    """
    fields: dict[str, Any] = {
        "name": f"{new.name}_change",
        "unit": new.unit,
        "group": new.group,
        "params": {key: new.params[key] for key in IDENTITY if key in new.params},
    }
    first, second = new.value, old.value
    if first is None or second is None or math.isinf(first) or math.isinf(second):
        reason = "one of the values is infinite: compare the shares or their differences instead"
        return Measurement.not_measurable(reason=reason, **fields)
    if old.unit != new.unit:
        return Measurement.not_measurable(reason=f"the units differ: {old.unit!r} and {new.unit!r}", **fields)
    fields["value"] = first - second
    sizes = _sizes_that_differ(old, new) if _depends_on_n(old, new) else []
    if sizes:
        told = " and of ".join(f"{noun} ({before:,} before, {now:,} now)" for noun, before, now in sizes)
        return Measurement(method=f"no interval: it depends on the number of {told}", **fields)
    if _same_images(old, new):
        return Measurement(method=SAME_IMAGES, **fields)
    if new.lower is None or new.upper is None or old.lower is None or old.upper is None:
        missing = " and ".join(
            which for which, m in (("before", old), ("now", new)) if m.lower is None or m.upper is None
        )
        return Measurement(method=f"no interval: the value has none {missing}", **fields)
    if old.level != new.level:
        return Measurement(method="no interval: the levels differ (--set audit.level)", **fields)
    lower, upper = mover(first, (new.lower, new.upper), second, (old.lower, old.upper))
    return Measurement(lower=lower, upper=upper, level=new.level, method=METHOD, **fields)


def _notes(old: AuditResult, new: AuditResult) -> Iterator[str]:
    """In what the audits differ beside the images that were generated, in sentences."""
    prints = _part(old, "fingerprints"), _part(new, "fingerprints")
    if prints[1].get("samples") is not None and prints[0].get("samples") == prints[1]["samples"]:
        yield (
            "Both audits are of the same images: what differs comes from settings, networks or versions, not from "
            "another model."
        )
    for name in dict.fromkeys([*prints[0], *prints[1]]):
        if name != "samples" and prints[0].get(name) != prints[1].get(name):
            words = NOUNS.get(name, name)
            yield f"Not the same {words}: {prints[0].get(name, 'none')} before, {prints[1].get(name, 'none')} now."
    for what, sides in (
        ("The settings differ", (_part(old, "audit"), _part(new, "audit"))),
        (
            "The labels come from elsewhere",
            ({"labels": old.settings.get("labels")}, {"labels": new.settings.get("labels")}),
        ),
        ("The package versions differ", (_part(old, "packages"), _part(new, "packages"))),
    ):
        told = _changed(*sides)
        if told:
            yield f"{what}: {'; '.join(told)}."


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if name not in NOT_COMPARED]
    return [f"{name} {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _part(result: AuditResult, name: str) -> Mapping[str, Any]:
    """A mapping of the settings; empty where there is none."""
    found = result.settings.get(name)
    return found if isinstance(found, Mapping) else {}


def as_text(comparison: Comparison, *, most: int = 12) -> str:
    """Headline, notes and a short table, for a terminal: the weightiest first, * where the interval excludes 0."""
    shown = [change for change in comparison.changes if change.difference.value is not None][:most]
    rows: list[tuple[str, ...]] = [("", "measurement", "before", "now", "difference")]
    rows += [_row(change) for change in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [comparison.headline, *comparison.notes]
    if shown:
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    rest = len(comparison.changes) - len(shown)
    counts = (
        (rest, "more in the report"),
        (comparison.unchanged, "equal, of the same images"),
        (len(comparison.unmatched), "without counterpart or number in one of the audits (the report says why)"),
    )
    lines += [f"{n} {words}" for n, words in counts if n]
    return "\n".join(lines)


def _row(change: Change) -> tuple[str, ...]:
    d = change.difference
    interval = d.method if d.lower is None else f"{100 * (d.level or 0):g}%: {d.lower:+.3g} to {d.upper:+.3g}"
    sizes = [f" (n = {m.n:,})" if m.n and change.old.n != change.new.n else "" for m in (change.old, change.new)]
    values = [f"{m.value:.4g}{size}" for m, size in zip((change.old, change.new), sizes, strict=True)]
    return ("*" if change.differs else "", label(change.new), *values, f"{d.value:+.3g} ({interval})")
