"""What the answer says of a person's labels."""

from leadline.records import Measurement
from leadline.report.shares import behind, headline_groups, verdict
from leadline.report.views import RunView
from leadline.report.words import counted, interval_text, measurement_text, not_measurable, number, percent, quoted

POWERED, DIFFERENCE = "prediction_powered_share", "prediction_powered_difference"


def human_sentence(view: RunView) -> str:
    """The share of the answer's class with a person's labels of some images, against the training data; empty where
    there are no such labels."""
    group = next(iter(headline_groups(view)), None)
    difference = view.first(DIFFERENCE, group)
    if difference is None:
        return ""
    if difference.value is None or difference.group is None:
        return f"The difference by a person's labels is {not_measurable(difference)}."
    share = behind(difference, "human")
    training = difference.params.get("training_share")
    if share is None or training is None:
        return f"The difference by a person's labels is {measurement_text(difference)}."
    words = {1: "more often", -1: "less often"}.get(verdict(difference), "no difference is shown")
    gain = difference.params.get("gain")
    worth = f", as narrow as of {number(gain, 2)} times as many labels alone" if gain else ""
    with_labeler = ", with the labeler's of all"
    if difference.params.get("tuning") == 0:
        worth, with_labeler = "; the labeler's predictions add nothing here", ""
    return (
        f"By a person's labels of {_labelled(view, difference)}{with_labeler}: "
        f"{quoted(difference.group)} in {percent(share.value or 0.0)} of the images of its classes against "
        f"{percent(training)} in the training data ({interval_text(share)}{worth}): {words}. This holds whatever the "
        "labeler gets wrong."
    )


def _labelled(view: RunView, difference: Measurement) -> str:
    """`200 images, 8 of them of its classes`: what was labelled, and what the share is among."""
    of_classes = difference.params["labelled"]
    human = view.first("human_share", difference.group)
    total = of_classes if human is None or human.n is None else human.n
    others = "" if total == of_classes else f", {of_classes:,} of them of its classes"
    return f"{counted(total, 'image')}{others}"
