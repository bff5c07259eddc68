"""The answer in plain words: one sentence per question and run, each with its uncertainty."""

from leadline.records import Measurement
from leadline.report.classifier import classifier_sentence
from leadline.report.content import Finding
from leadline.report.human_words import human_sentence
from leadline.report.pairs_words import pairs_sentence
from leadline.report.shares import bias_sentence, unclassified_sentence, verdict
from leadline.report.views import RunView
from leadline.report.words import (
    SPACE,
    counted,
    interval_text,
    listed,
    measurement_text,
    not_measurable,
    number,
    percent,
)

RATE, EXCESS, CALIBRATED = "nearest_copy_rate", "copy_rate_excess", "calibrated"
"""The share of images that count as copies, how far it is above that of held-out images, and the rule of the answer:
the one whose share of mistakes is known."""


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
    others = [m for m in view.find(EXCESS, rule=CALIBRATED) if m.params.get("space") != space and verdict(m) > 0]
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
    return f"{told}, {words[verdict(excess)]}"


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
        ("Labeler", classifier_sentence(view)),
        ("Human labels", human_sentence(view)),
        ("Same seeds", pairs_sentence(view)),
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
