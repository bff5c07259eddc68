"""What the labeler's errors leave of an answer on shares, with its numbers: cautions beside the headline."""

from leadline.records import Measurement
from leadline.report.shares import (
    MOST_GROUPS,
    corrected_difference,
    deciding_difference,
    headline_groups,
    labeler_difference,
    powered_difference,
    verdict,
)
from leadline.report.views import RunView
from leadline.report.words import SPACE, counted, measurement_text, number, p_text, percent, percentage, quoted

FEW = 20
"""Labelled images of a class below which its errors are hardly known."""
BY_HAND = "label some samples by hand (leadline label), then audit with --human-labels"


def classifier_sentence(view: RunView) -> str:
    """All cautions on the classes that the answer speaks of, the same one only once."""
    found: list[str] = []
    for group in headline_groups(view)[:MOST_GROUPS]:
        difference, plain = deciding_difference(view, group), view.first("share_difference", group)
        powered = powered_difference(view, group)
        if powered is not None:
            found.append(_contradicted(labeler_difference(view, group), powered))
        elif difference is not None and difference.value is None:
            found.append(_undecided(plain, view.first("labeled_difference", group)))
        elif corrected_difference(view, group) is not None and difference is not None:
            found += [_disagree(plain, difference), _rare(difference), _floor(difference), _few(difference)]
            found.append(_unlike(difference))
    found.append(_another_error(view.first("labeler_agreement_on_samples")))
    return " ".join(dict.fromkeys(sentence for sentence in found if sentence))


def _contradicted(by_labeler: Measurement | None, powered: Measurement) -> str:
    """The labeler's predictions alone and those with a person's labels do not tell the same."""
    if by_labeler is None or by_labeler.value is None or verdict(by_labeler) == verdict(powered):
        return ""
    kind = "corrected for its errors on real images" if by_labeler.name == "corrected_difference" else "as labelled"
    return (
        f"For {quoted(str(powered.group))} a person's labels decide: its difference from the training data is "
        f"{measurement_text(by_labeler)} {kind} and {measurement_text(powered)} with them. Do not rely on the "
        "labeler alone here."
    )


def _another_error(agreement: Measurement | None) -> str:
    """The labeler agrees with the person less or more often than its errors on real images let expect."""
    if agreement is None or agreement.value is None or not other_error(agreement):
        return ""
    expected, p = (agreement.params[name] for name in ("expected_from_real_images", "p"))
    return (
        f"Its labels agree with the person's on {percent(agreement.value)} of the images of a class, where its errors "
        f"on real images let expect {percent(expected)} ({p_text(p)}): its error on generated images is another, "
        "and shares corrected by that on real ones need not hold."
    )


def other_error(agreement: Measurement) -> bool:
    """Whether the test shows that the labeler's error on generated images is not that on real ones."""
    p = agreement.params.get("p")
    return p is not None and p < 1 - (agreement.level or 0.95)


def _undecided(plain: Measurement | None, labeled: Measurement | None) -> str:
    """What is seen as labelled, where the labeler's errors cannot be taken out of it."""
    if plain is None or plain.value is None:
        return ""
    both = ""
    if labeled is not None and labeled.value is not None:
        both = f", and {measurement_text(labeled)} from the training data as labelled too"
    return (
        f"As labelled, the difference of {quoted(str(plain.group))} from the training data is "
        f"{measurement_text(plain)}{both}: without its errors known, that decides nothing. To know, {BY_HAND}."
    )


def _disagree(plain: Measurement | None, corrected: Measurement) -> str:
    """The plain and the corrected interval do not tell the same."""
    if plain is None or plain.value is None or verdict(plain) == verdict(corrected):
        return ""
    return (
        f"For {quoted(str(corrected.group))} the correction decides: its difference from the training data is "
        f"{measurement_text(plain)} as labelled and {measurement_text(corrected)} corrected. The answer rests on the "
        "corrected one."
    )


def _rare(difference: Measurement) -> str:
    """Others that are mistaken for the class are half as many as its own images, or more."""
    right, wrong = (difference.params.get(f"{kind}_positive_share", 0.0) for kind in ("true", "false"))
    if wrong < right / 2 or wrong == 0:
        return ""
    rates = (difference.params["sensitivity"], difference.params["specificity"])
    return (
        f"{quoted(str(difference.group))} is rare beside the labeler's errors: at the training data's shares it finds "
        f"{percent(right)} of all images rightly and {percent(wrong)} wrongly (sensitivity {percent(rates[0])}, "
        f"specificity {percent(rates[1])})."
    )


def _floor(difference: Measurement) -> str:
    """What the labelled images leave open is more than what was found."""
    floor = difference.params.get("floor", 0.0)
    if difference.value is None or floor <= abs(difference.value):
        return ""
    return (
        f"The labelled images leave its share of {quoted(str(difference.group))} open by ±{percentage(floor)} points, "
        f"more than the difference of {percentage(difference.value, signed=True)}: more labelled images would narrow "
        "that, more samples would not."
    )


def _few(difference: Measurement) -> str:
    """Too few labelled images to know the labeler's errors on the class."""
    labelled = difference.params.get("labeled_images_of_class", FEW)
    if labelled >= FEW:
        return ""
    return f"How the labeler treats {quoted(str(difference.group))} is known from {labelled} images alone."


def _unlike(difference: Measurement) -> str:
    """More of the samples are unclassified than the labeler's errors on known images explain."""
    if difference.params.get("no_class_lower", 0.0) <= 0:
        return ""
    left, expected = (percent(difference.params[name]) for name in ("unclassified", "unclassified_expected"))
    return (
        f"It leaves {left} of the samples unclassified, where its errors on known images explain {expected}: the "
        f"samples are unlike those images, and its errors on them may be others. To know, {BY_HAND}."
    )


def what_can_be_told(view: RunView) -> str:
    """`1,000 images tell shares of nine below 7.4 or above 12.9 % from the training data's 10.0 %`; "" without."""
    group = next(iter(headline_groups(view)), None)
    found = None if group is None else view.first("detectable_difference", group)
    if group is None or found is None or found.value is None or found.n is None:
        return ""
    ends = [(word, found.params.get(f"share_{word}")) for word in ("below", "above")]
    told = " or ".join(f"{word} {percent(end)}" for word, end in ends if end is not None)
    judged = found.params.get("labeled_images_of_class")
    labeler = (
        "" if judged is None else f", by a labeler that was judged on {counted(judged, 'image')} of {quoted(group)}"
    )
    return (
        f"{found.n:,} images tell shares of {quoted(group)} {told} from the training data's "
        f"{percent(found.params['training_share'])} with {number(100 * found.params['power'])}{SPACE}% power{labeler}"
    )
