"""Which shares the report speaks of, and what it says of them against the training data."""

from leadline.records import Measurement
from leadline.report.views import RunView
from leadline.report.words import (
    counted,
    ends_text,
    interval_text,
    like,
    listed,
    measurement_text,
    not_measurable,
    percent,
    percentage,
    quoted,
)

NO_CLASS = ("unclassified", "other classes")
"""Groups of `share` that are no class of the training data."""
BOUNDS = ("if_none_unclassified_belong", "if_all_unclassified_belong")
"""Params of a comparison: what it were if none or all of the unclassified images were of the class."""
NO_CLASS_BOUNDS = ("if_none_of_no_class_belong", "if_all_of_no_class_belong")
"""The same of a corrected difference: of the images beyond those that the labeler's errors leave unclassified."""
MOST_GROUPS = 4
"""Groups that the answer names one by one; the table has them all."""


def compared_share(view: RunView, group: str) -> Measurement | None:
    """The share that is compared with the training data: among the recognised images, as the audit's difference
    carries it in its params; without one, the share among all images."""
    return behind(view.first("share_difference", group), "recognised") or view.first("share", group, set="samples")


def corrected_share(view: RunView, group: str) -> Measurement | None:
    """The share among the images of the training set's classes, corrected for the labeler's errors; None without."""
    return behind(corrected_difference(view, group), "corrected")


def powered_share(view: RunView, group: str) -> Measurement | None:
    """The same share with a person's labels of some images, whatever the labeler gets wrong; None without."""
    return behind(powered_difference(view, group), "human")


def behind(difference: Measurement | None, among: str) -> Measurement | None:
    """The share that a difference from the training data is made of, as its params carry it; None where they do not."""
    if difference is None or not {"share", "share_lower", "share_upper"} <= set(difference.params):
        return None
    return Measurement(
        name="share",
        value=difference.params["share"],
        lower=difference.params["share_lower"],
        upper=difference.params["share_upper"],
        level=difference.level,
        method=difference.method,
        n=difference.n,
        group=difference.group,
        params={"set": "samples", "among": among},
    )


def corrected_difference(view: RunView, group: str) -> Measurement | None:
    """The difference from the training data corrected for the labeler's errors, where it was measured."""
    found = view.first("corrected_difference", group)
    return None if found is None or found.value is None else found


def powered_difference(view: RunView, group: str) -> Measurement | None:
    """The difference from the training data with a person's labels of some images, where it was measured."""
    found = view.first("prediction_powered_difference", group)
    return None if found is None or found.value is None else found


def deciding_difference(view: RunView, group: str) -> Measurement | None:
    """The difference that the answer rests on: with a person's labels where there are any, which hold whatever the
    labeler gets wrong; else corrected where a labeler gave the labels, measurable or not.

    As labelled where they were given: then the audit says once, for all groups together, that nothing is corrected.
    """
    return powered_difference(view, group) or labeler_difference(view, group)


def labeler_difference(view: RunView, group: str) -> Measurement | None:
    """The difference that the answer would rest on without a person's labels."""
    corrected = view.first("corrected_difference", group)
    return view.first("share_difference", group) if corrected is None or corrected.group is None else corrected


def training_share(view: RunView, group: str) -> Measurement | None:
    """The group's share in the training data."""
    return view.first("share", group, set="training")


def all_groups(view: RunView) -> list[str]:
    """The training data's classes, as far as shares were measured, in the audit's order."""
    found = view.find("share", set="training") or view.find("share", set="samples")
    return list(dict.fromkeys(m.group for m in found if m.group is not None and m.group not in NO_CLASS))


def headline_groups(view: RunView) -> list[str]:
    """The groups that the answer speaks of: of two, the smaller (the other is its complement); else those that differ
    from the training data first, the largest difference first."""
    groups = all_groups(view)
    if len(groups) <= 2:
        return sorted(groups, key=lambda group: _value(training_share(view, group)))[:1]
    differences = {group: deciding_difference(view, group) for group in groups}
    return sorted(groups, key=lambda group: (verdict(differences[group]) == 0, -abs(_value(differences[group], 0.0))))


def _value(measurement: Measurement | None, missing: float = 1.0) -> float:
    return missing if measurement is None or measurement.value is None else measurement.value


def verdict(difference: Measurement | None) -> int:
    """-1 or 1 where the interval of a difference lies below or above 0, else 0."""
    if difference is None or difference.lower is None or difference.upper is None:
        return 0
    return (difference.lower > 0) - (difference.upper < 0)


def basis(view: RunView, share: Measurement | None) -> str:
    """`960 of 1,000 images recognised as one of its classes, one training run`: what the answer rests on."""
    parts = []
    if share is not None and share.n is not None:
        of_all = view.first("share", share.group, set="samples")
        total = share.n if of_all is None or of_all.n is None else of_all.n
        images = counted(total, "image") if total == share.n else f"{share.n:,} of {counted(total, 'image')}"
        recognised = share.params.get("among") == "recognised"
        parts.append(f"{images} recognised as one of its classes" if recognised else images)
    if view.header.kind == "run":
        parts.append("one training run")
    return ", ".join(parts)


def bias_sentence(view: RunView) -> str:
    """Whether a class is made more or less often than in the training data, or why that is not known."""
    if view.audit is None:
        return f"nothing was measured: {view.audit_reason}."
    groups = headline_groups(view)
    if not groups:
        reasons = [m for m in view.find("share") + view.find("share_difference") if m.value is None]
        return f"bias is {not_measurable(reasons[0])}" if reasons else "bias was not measured in this audit."
    told = groups if len(groups) == 1 else [g for g in groups if verdict(deciding_difference(view, g))]
    if not told:
        return _no_difference_in_any(view, groups)
    sentences = [_group_sentence(view, group) for group in told[:MOST_GROUPS]]
    rest = len(groups) - len(sentences)
    others = f" The other {counted(rest, 'class', 'classes')} are in the table." if rest else ""
    return f"{'; '.join(sentences)}; {basis(view, _told_share(view, told[0]))}.{others}"


def _no_difference_in_any(view: RunView, groups: list[str]) -> str:
    largest = deciding_difference(view, groups[0])
    if largest is not None and largest.value is None:
        return f"the difference from the training data's {len(groups)} classes is {not_measurable(largest)}"
    room = f"; the largest is that of {quoted(groups[0])}, {measurement_text(largest)}" if largest is not None else ""
    by = " by a person's labels" if powered_difference(view, groups[0]) else ""
    return (
        f"no difference from the training data is shown{by} for any of {len(groups)} classes{room}; "
        f"{basis(view, _told_share(view, groups[0]))}."
    )


def _told_share(view: RunView, group: str) -> Measurement | None:
    """The share whose images the answer counts: of all of them where a person labelled some, else those recognised."""
    return powered_share(view, group) or compared_share(view, group)


def _group_sentence(view: RunView, group: str) -> str:
    share, training = _told_share(view, group), training_share(view, group)
    difference = deciding_difference(view, group)
    name = quoted(group)
    if share is None or share.value is None:
        return f"the share of {name} is " + (not_measurable(share) if share else "not measured")
    if training is None or training.value is None:
        reason = not_measurable(training) if training else "its share in the training data was not measured"
        return f"makes {name} in {measurement_text(share)} of its images; {reason}"
    if difference is not None and difference.value is None:
        return (
            f"whether {name} is made more or less often than in the training data cannot be said: {difference.reason}; "
            f"as labelled {percent(share.value)} against {percent(training.value)}, {interval_text(share)}"
        )
    numbers = _numbers(view, share, share.value, training.value)
    sign = _outside(share, training.value) if difference is None else verdict(difference)
    if sign and could_turn(difference, sign):
        among, others = (
            ("that were recognised", "unclassified ones")
            if corrected_difference(view, group) is None
            else ("of a class", "ones that count as of no class")
        )
        return (
            f"{name} is {'more' if sign > 0 else 'less'} frequent among the images {among} than in the "
            f"training data, but the {others} could turn that around: {numbers}"
        )
    if sign:
        return f"makes {name} {'more' if sign > 0 else 'less'} often than its training data: {numbers}"
    room = ""
    if difference is not None and difference.lower is not None and difference.upper is not None:
        ends = f"{percentage(difference.lower, signed=True)} and {percentage(difference.upper, signed=True)}"
        room = f", so a true difference anywhere between {ends} points fits"
    return f"no difference from the training data is shown for {name}: {numbers}{room}"


def _numbers(view: RunView, share: Measurement, value: float, training: float) -> str:
    """`7.1 % against 10.0 %, 95 % interval …`; where it is by a person's labels or corrected for the labeler's errors,
    the shares without these behind."""
    if share.params.get("among") == "human":
        by_person = _by_person(view, str(share.group))
        return f"{percent(value)} against {percent(training)}, {interval_text(share)}, {by_person}"
    corrected = None if share.group is None else corrected_share(view, share.group)
    if corrected is None or corrected.value is None:
        return f"{percent(value)} against {percent(training)}, {interval_text(share)}"
    return (
        f"{percent(corrected.value)} against {percent(training)}, {interval_text(corrected)}, corrected for the "
        f"labeler's errors (as labelled {percent(value)}, {ends_text(share)})"
    )


def _by_person(view: RunView, group: str) -> str:
    """`by a person's labels of 200 images, …`, with what the labeler alone gives behind."""
    human = view.first("human_share", group)
    labelled = "some images" if human is None or human.n is None else counted(human.n, "image")
    found = {
        "corrected for the labeler's errors": corrected_share(view, group),
        "as labelled": compared_share(view, group),
    }
    others = [
        f"{words} {percent(share.value)}, {ends_text(share)}"
        for words, share in found.items()
        if share is not None and share.value is not None
    ]
    behind = f" ({'; '.join(others)})" if others else ""
    return f"by a person's labels of {labelled}, which hold whatever the labeler gets wrong{behind}"


def bounds(difference: Measurement | None) -> tuple[float, float] | None:
    """A difference, if none or all of the images that belong to no class were of this one; None where not known."""
    for names in (BOUNDS, NO_CLASS_BOUNDS):
        if difference is not None and set(names) <= set(difference.params):
            none, every = (float(difference.params[name]) for name in names)
            return none, every
    return None


def could_turn(difference: Measurement | None, sign: int) -> bool:
    """Whether a difference could have the other sign if none, or all, of the images of no class were of this one."""
    ends = bounds(difference)
    return bool(sign != 0 and ends is not None and min(end * sign for end in ends) <= 0)


def _outside(share: Measurement, training: float) -> int:
    if share.lower is None or share.upper is None:
        return 0
    return (share.lower > training) - (share.upper < training)


def unclassified_sentence(view: RunView) -> str:
    """How many images belong to no class of the training data."""
    parts: list[str] = []
    for group, words in zip(NO_CLASS, ("are unclassified", "look like classes outside the training data"), strict=True):
        found = view.first("share", group, set="samples")
        if found is not None and found.value is not None:
            of = f" of {counted(found.n, 'image')}" if found.n is not None and not parts else ""
            parts.append(f"{percent(found.value)}{of} {words}")
    return f"{listed(parts)}.{_were_they_classified(view)}" if parts else ""


def _were_they_classified(view: RunView) -> str:
    """How far the unclassified images could move the answer, and whether they could turn it around."""
    group = next(iter(headline_groups(view)), None)
    difference = None if group is None else deciding_difference(view, group)
    ends = bounds(difference)
    if group is None or difference is None or ends is None:
        return ""
    explained, meant = "", "the unclassified"
    if "unclassified_expected" in difference.params:
        expected = percent(difference.params["unclassified_expected"])
        explained = f" By its errors on known images the labeler would leave {expected} unclassified."
        meant = "the rest"
    if ends[0] == ends[1]:
        return explained
    told = " or ".join(like(difference, end, ending=False) for end in ends)
    turns = could_turn(difference, verdict(difference))
    return (
        f"{explained} Were none or all of {meant} of class {quoted(group)}, its difference from the training data "
        f"would be {told} points{': they could turn the answer around' if turns else ''}."
    )
