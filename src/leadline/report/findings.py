"""The answer in plain words: one sentence per question and run, each with its uncertainty."""

from leadline.records import Measurement
from leadline.report.content import Finding
from leadline.report.views import RunView
from leadline.report.words import (
    SPACE,
    counted,
    interval_text,
    like,
    listed,
    measurement_text,
    not_measurable,
    number,
    percent,
    percentage,
    quoted,
)

NO_CLASS = ("unclassified", "other classes")
"""Groups of `share` that are no class of the training data."""
BOUNDS = ("if_none_unclassified_belong", "if_all_unclassified_belong")
"""Params of a comparison: what it were if none or all of the unclassified images were of the class."""
RATE, EXCESS, CALIBRATED = "nearest_copy_rate", "copy_rate_excess", "calibrated"
"""The share of images that count as copies, how far it is above that of held-out images, and the rule of the answer:
the one whose share of mistakes is known."""
MOST_GROUPS = 4
"""Groups that the answer names one by one; the table has them all."""


def compared_share(view: RunView, group: str) -> Measurement | None:
    """The share that is compared with the training data: among the recognised images, as the audit's difference
    carries it in its params; without one, the share among all images."""
    difference = view.first("share_difference", group)
    if difference is None or not {"share", "share_lower", "share_upper"} <= set(difference.params):
        return view.first("share", group, set="samples")
    return Measurement(
        name="share",
        value=difference.params["share"],
        lower=difference.params["share_lower"],
        upper=difference.params["share_upper"],
        level=difference.level,
        method=difference.method,
        n=difference.n,
        group=group,
        params={"set": "samples", "among": "recognised"},
    )


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
    differences = {group: view.first("share_difference", group) for group in groups}
    return sorted(groups, key=lambda group: (_verdict(differences[group]) == 0, -abs(_value(differences[group], 0.0))))


def _value(measurement: Measurement | None, missing: float = 1.0) -> float:
    return missing if measurement is None or measurement.value is None else measurement.value


def _verdict(difference: Measurement | None) -> int:
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
    told = groups if len(groups) == 1 else [g for g in groups if _verdict(view.first("share_difference", g))]
    if not told:
        return _no_difference_in_any(view, groups)
    sentences = [_group_sentence(view, group) for group in told[:MOST_GROUPS]]
    rest = len(groups) - len(sentences)
    others = f" The other {counted(rest, 'class', 'classes')} are in the table." if rest else ""
    return f"{'; '.join(sentences)}; {basis(view, compared_share(view, told[0]))}.{others}"


def _no_difference_in_any(view: RunView, groups: list[str]) -> str:
    largest = view.first("share_difference", groups[0])
    if largest is not None and largest.value is None:
        return f"the difference from the training data's {len(groups)} classes is {not_measurable(largest)}"
    room = f"; the largest is that of {quoted(groups[0])}, {measurement_text(largest)}" if largest is not None else ""
    return (
        f"no difference from the training data is shown for any of {len(groups)} classes{room}; "
        f"{basis(view, compared_share(view, groups[0]))}."
    )


def _group_sentence(view: RunView, group: str) -> str:
    share, training = compared_share(view, group), training_share(view, group)
    difference = view.first("share_difference", group)
    name = quoted(group)
    if share is None or share.value is None:
        return f"the share of {name} is " + (not_measurable(share) if share else "not measured")
    if training is None or training.value is None:
        reason = not_measurable(training) if training else "its share in the training data was not measured"
        return f"makes {name} in {measurement_text(share)} of its images; {reason}"
    if difference is not None and difference.value is None:
        return (
            f"makes {name} in {measurement_text(share)} of its images; the difference is {not_measurable(difference)}"
        )
    numbers = f"{percent(share.value)} against {percent(training.value)}, {interval_text(share)}"
    verdict = _verdict(difference) or _outside(share, training.value)
    if verdict and _could_turn(difference, verdict):
        return (
            f"{name} is {'more' if verdict > 0 else 'less'} frequent among the images that were recognised than in the "
            f"training data, but the unclassified ones could turn that around: {numbers}"
        )
    if verdict:
        return f"makes {name} {'more' if verdict > 0 else 'less'} often than its training data: {numbers}"
    room = ""
    if difference is not None and difference.lower is not None and difference.upper is not None:
        ends = f"{percentage(difference.lower, signed=True)} and {percentage(difference.upper, signed=True)}"
        room = f", so a true difference anywhere between {ends} points fits"
    return f"no difference from the training data is shown for {name}: {numbers}{room}"


def _could_turn(difference: Measurement | None, verdict: int) -> bool:
    """Whether a difference could have the other sign if none, or all, of the unclassified images were of the class."""
    if verdict == 0 or difference is None or not set(BOUNDS) <= set(difference.params):
        return False
    return bool(min(difference.params[name] * verdict for name in BOUNDS) <= 0)


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
    difference = None if group is None else view.first("share_difference", group)
    if group is None or difference is None or not set(BOUNDS) <= set(difference.params):
        return ""
    none, every = (difference.params[name] for name in BOUNDS)
    if none == every:
        return ""
    ends = " or ".join(like(difference, end, ending=False) for end in (none, every))
    verdict = _verdict(difference)
    turns = _could_turn(difference, verdict)
    return (
        f" Were none or all of the unclassified of class {quoted(group)}, its difference from the training data would "
        f"be {ends} points{': they could turn the answer around' if turns else ''}."
    )


def calibrated_rate(view: RunView) -> Measurement | None:
    """The share of generated images that count as copies by the calibrated rule, in the audit's first space."""
    return next((m for m in view.find(RATE, set="samples", rule=CALIBRATED) if m.value is not None), None)


def allowed_rate(view: RunView) -> float | None:
    """The share of new real images that the calibrated rule may call copies."""
    rate = calibrated_rate(view)
    return None if rate is None else rate.params.get("false_positive_rate")


def memorization_sentence(view: RunView) -> str:
    """How many images count as copies, where that could be calibrated, else how near they are to training images."""
    rate = calibrated_rate(view)
    if rate is not None:
        return _copy_sentence(view, rate)
    missing = view.first(RATE, set="samples", rule=CALIBRATED)
    # Without any held-out images the sentence on distances says so, and why.
    baseline = view.first("nearest_distance", set="held_out")
    if missing is None or baseline is None or baseline.value is None:
        return _distance_sentence(view)
    reason = f"How many count as copies by a threshold of known mistakes is {not_measurable(missing)}"
    return f"{_distance_sentence(view)} {reason}".strip()


def _copy_sentence(view: RunView, rate: Measurement) -> str:
    space = rate.params.get("space")
    held_out = view.first(RATE, set="held_out", rule=CALIBRATED, space=space)
    allowed = allowed_rate(view)
    rule = "that is calibrated"
    if allowed is not None:
        rule = f"that calls at most {percent(allowed)} of new real images copies"
    check = f" (held-out check: {_share_of_n(held_out)})" if held_out is not None else ""
    where = f" in {space}" if space else ""
    start = f"{_share_of_n(rate)} ({interval_text(rate)}) count as copies{where} by a threshold {rule}{check}"
    excess = view.first(EXCESS, rule=CALIBRATED, space=space)
    others = [m for m in view.find(EXCESS, rule=CALIBRATED) if m.params.get("space") != space and _verdict(m) > 0]
    also = f" An excess is shown also in {listed(str(m.params['space']) for m in others)}." if others else ""
    return " ".join(filter(None, (f"{start}: {_excess_words(excess)}.{also}", _identical(view))))


def _share_of_n(m: Measurement) -> str:
    if m.value is None:
        return not_measurable(m)
    return percent(m.value) + (f" of {counted(m.n, 'image')}" if m.n is not None else "")


def _excess_words(excess: Measurement | None) -> str:
    if excess is None:
        return "the excess over held-out real images was not measured"
    if excess.value is None:
        return f"the excess over held-out real images is {not_measurable(excess)}"
    told = f"excess {measurement_text(excess)}"
    words = {
        1: "more than new real images, as copies would be",
        -1: "fewer than new real images",
        0: "no excess over new real images is shown",
    }
    return f"{told}, {words[_verdict(excess)]}"


def _identical(view: RunView) -> str:
    nearest = next(iter(view.against_k("nearest_distance", "samples")), None)
    return "" if nearest is None else _copies(nearest)


def _distance_sentence(view: RunView) -> str:
    samples = next(iter(view.against_k("nearest_distance", "samples")), None)
    if samples is None:
        return ""
    if samples.value is None:
        return f"The distance to the nearest training image is {not_measurable(samples)}"
    k = samples.params.get("k", 1)
    nearest = "nearest training image" if k == 1 else f"{k} nearest training images"
    unit = f" ({samples.unit})" if samples.unit else ""
    held_out = view.first("nearest_distance", set="held_out", k=k)
    start = f"The mean distance to the {nearest}{unit} is {measurement_text(samples)} for generated images"
    if held_out is None or held_out.value is None:
        reason = f": {held_out.reason}" if held_out is not None else ""
        return f"{start}. There is no held-out baseline to read it by{reason}. {_copies(samples)}".rstrip()
    start += f", {measurement_text(held_out)} for held-out real images"
    words = {
        -1: "generated images are closer to the training data than new real images are, as copies would be.",
        1: "no sign of copying on average. Single copies would show among the nearest neighbours.",
        0: "the intervals overlap, no difference from new real images is shown.",
    }
    return f"{start}: {words[_apart(samples, held_out)]} {_copies(samples)}".rstrip()


def _copies(samples: Measurement) -> str:
    """How many images equal a training image in every pixel, where the audit counted them."""
    if "identical_to_training" not in samples.params:
        return ""
    count = samples.params["identical_to_training"]
    if count == 0:
        return "None is identical to a training image."
    return f"Identical to a training image: {counted(count, 'image')}."


def diversity_sentence(view: RunView) -> str:
    """How far apart the images are, beside the training images."""
    samples = view.first("mean_pairwise_distance", set="samples")
    if samples is None:
        return ""
    if samples.value is None:
        return f"The mean pairwise distance is {not_measurable(samples)}"
    unit = f" ({samples.unit})" if samples.unit else ""
    start = f"The mean pairwise distance{unit} is {measurement_text(samples)} among generated images"
    training = view.first("mean_pairwise_distance", set="training")
    if training is None or training.value is None:
        reason = f": {training.reason}" if training is not None else ""
        return f"{start}; that of the training data is not known{reason}"
    words = {
        -1: "generated images are less diverse",
        1: "generated images are more diverse",
        0: "the intervals overlap, no difference is shown",
    }
    return f"{start}, {measurement_text(training)} among training images: {words[_apart(samples, training)]}."


def _apart(one: Measurement, other: Measurement) -> int:
    """-1 or 1 where the interval of one lies wholly below or above the other's, else 0: stricter than a test."""
    if one.lower is None or one.upper is None or other.lower is None or other.upper is None:
        return 0
    return (one.lower > other.upper) - (one.upper < other.lower)


def finding(view: RunView) -> Finding:
    """The answer for one run."""
    labelled = (
        ("Unclassified", unclassified_sentence(view)),
        ("Memorization", memorization_sentence(view)),
        ("Diversity", diversity_sentence(view)),
    )
    sentences = tuple((label, text) for label, text in labelled if text)
    return Finding(run=view.name, headline=bias_sentence(view), sentences=sentences)


def sampler_text(view: RunView) -> str:
    """`ddim, 50 steps`: how the images were drawn; it stands wherever the results do."""
    drawn = view.sampling
    if drawn is None:
        return "not recorded (images from elsewhere)" if view.header.kind == "audit" else "not recorded"
    return f"{drawn.sampler}, {number(drawn.steps)}{SPACE}steps"
