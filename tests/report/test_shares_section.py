"""What the page says of shares that are corrected for the labeler's errors, beside those as labelled."""

from typing import Any

import pytest

from leadline.records import Measurement
from leadline.report.caveats import enough_images, imperfect_labels
from leadline.report.drawings import bias as bias_plots
from leadline.report.findings import finding
from leadline.report.sections import bias
from leadline.report.share_tables import corrected_shares, shares_of_all
from leadline.report.shares import headline_groups
from leadline.report.views import RunView, open_views

WILSON = {"level": 0.95, "method": "Wilson", "n": 1000}


def difference(name: str, group: str, share: float, half: float, training: float, **params: Any) -> Measurement:
    """A difference share - training, its interval ± half, with the share behind it."""
    ends = {"share": share, "share_lower": share - half, "share_upper": share + half, "training_share": training}
    value = share - training
    return Measurement(
        name=name, value=value, lower=value - half, upper=value + half, group=group, params={**ends, **params}, **WILSON
    )


def measured(corrected: dict[str, float], *, raw: dict[str, float], **params: Any) -> list[Measurement]:
    """Shares of `raw`, as labelled, and `corrected`, all ± 2 points; the training data has all classes alike often."""
    training = 1 / len(raw)
    found: list[Measurement] = []
    for group, share in raw.items():
        ends = {"lower": share - 0.02, "upper": share + 0.02}
        found += [
            Measurement(name="share", value=share, group=group, params={"set": "samples"}, **ends, **WILSON),
            Measurement(name="share", value=training, group=group, n=140, params={"set": "training"}),
            difference("share_difference", group, share, 0.02, training),
            difference("labeled_difference", group, share, 0.02, training, training_share_as_labeled=training),
        ]
    told = {
        "sensitivity": 0.9,
        "specificity": 0.99,
        "labeled_images_of_class": 80,
        "true_positive_share": 0.4,
        "false_positive_share": 0.01,
        "floor": 0.005,
        "no_class_lower": 0.0,
        "unclassified": 0.04,
        "unclassified_expected": 0.03,
        "if_none_of_no_class_belong": 0.0,
        "if_all_of_no_class_belong": 0.0,
    }
    for group, share in corrected.items():
        bounds = {key: share - training for key in told if key.startswith("if_")}
        found.append(difference("corrected_difference", group, share, 0.02, training, **{**told, **bounds, **params}))
    return found


def view(make_run: Any, measurements: list[Measurement]) -> RunView:
    return open_views([make_run(measurements=measurements)])[0]


def test_the_answer_rests_on_the_corrected_difference_and_says_both(make_run: Any) -> None:
    run = view(make_run, measured({"a": 0.49, "b": 0.51}, raw={"a": 0.44, "b": 0.56}))
    told = finding(run)
    assert told.headline.startswith(
        "no difference from the training data is shown for a: 49.0\xa0% against 50.0\xa0%, 95\xa0% interval 47.0 to "
        "51.0\xa0%, corrected for the labeler's errors (as labelled 44.0\xa0%, 42.0 to 46.0\xa0%), so a true difference"
    )
    labeler = dict(told.sentences)["Labeler"]
    assert labeler.startswith("For a the correction decides: its difference from the training data is −6.0 points")
    assert "−1.0 points (95\xa0% interval −3.0 to +1.0 points) corrected" in labeler


def test_where_both_agree_nothing_is_cautioned(make_run: Any) -> None:
    told = finding(view(make_run, measured({"a": 0.40, "b": 0.60}, raw={"a": 0.42, "b": 0.58})))
    assert told.headline.startswith("makes a less often than its training data: 40.0\xa0% against 50.0\xa0%")
    assert "Labeler" not in dict(told.sentences)


REASON = "the classifier does not clearly tell 'a' from 'b': take a better classifier"


def uncorrected(raw: dict[str, float]) -> list[Measurement]:
    """Shares by a labeler that is near guessing."""
    missing = [Measurement.not_measurable("corrected_difference", REASON, group=group, n=1000) for group in raw]
    return [*measured({}, raw=raw), *missing]


def test_a_labeler_that_may_be_guessing_gives_no_verdict(make_run: Any) -> None:
    told = finding(view(make_run, uncorrected({"a": 0.44, "b": 0.56})))
    assert told.headline.startswith(
        "whether a is made more or less often than in the training data cannot be said: " + REASON
    )
    assert "as labelled 44.0\xa0% against 50.0\xa0%, 95\xa0% interval 42.0 to 46.0\xa0%" in told.headline
    assert dict(told.sentences)["Labeler"].startswith(
        "As labelled, the difference of a from the training data is −6.0 points (95\xa0% interval −8.0 to −4.0 points)"
        ", and −6.0 points (95\xa0% interval −8.0 to −4.0 points) from the training data as labelled too: without its "
        "errors known, that decides nothing."
    )


def test_of_many_classes_a_labeler_that_may_be_guessing_gives_no_verdict(make_run: Any) -> None:
    headline = finding(view(make_run, uncorrected({"a": 0.40, "b": 0.25, "c": 0.35}))).headline
    assert headline == "the difference from the training data's 3 classes is not measurable: " + REASON


def test_labels_that_were_given_are_taken_as_they_are(make_run: Any) -> None:
    given = Measurement.not_measurable("corrected_difference", "the labels of the samples are given by hand")
    told = finding(view(make_run, [*measured({}, raw={"a": 0.44, "b": 0.56}), given]))
    assert told.headline.startswith("makes a less often than its training data: 44.0\xa0% against 50.0\xa0%")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"true_positive_share": 0.0077, "false_positive_share": 0.0099},
            "a is rare beside the labeler's errors: at the training data's shares it finds 0.8\xa0% of all images "
            "rightly and 1.0\xa0% wrongly (sensitivity 90.0\xa0%, specificity 99.0\xa0%).",
        ),
        (
            {"floor": 0.12},
            "leave its share of a open by ±12.0 points, more than the difference of −10.0: more labelled images",
        ),
        ({"labeled_images_of_class": 14}, "How the labeler treats a is known from 14 images alone."),
        (
            {"no_class_lower": 0.12, "unclassified": 0.2},
            "It leaves 20.0\xa0% of the samples unclassified, where its errors on known images explain 3.0\xa0%",
        ),
    ],
)
def test_what_the_labeler_cannot_support_is_said_with_its_numbers(
    make_run: Any, params: dict[str, Any], expected: str
) -> None:
    told = finding(view(make_run, measured({"a": 0.40, "b": 0.60}, raw={"a": 0.42, "b": 0.58}, **params)))
    assert expected in dict(told.sentences)["Labeler"]


@pytest.mark.parametrize(("every", "turns"), [(-0.02, False), (0.03, True)])
def test_images_of_no_class_that_could_turn_the_answer_are_named_so(make_run: Any, every: float, turns: bool) -> None:
    params = {"if_none_of_no_class_belong": -0.11, "if_all_of_no_class_belong": every}
    run = view(make_run, measured({"a": 0.40, "b": 0.60}, raw={"a": 0.42, "b": 0.58}, **params))
    assert ("that count as of no class could turn that around" in finding(run).headline) == turns


def test_of_many_classes_the_corrected_differences_decide_which_are_told(make_run: Any) -> None:
    raw = {"a": 0.40, "b": 0.30, "c": 0.30}
    run = view(make_run, measured({"a": 0.33, "b": 0.25, "c": 0.42}, raw=raw))
    assert headline_groups(run) == ["c", "b", "a"]
    assert "makes c more often" in finding(run).headline
    assert "makes a" not in finding(run).headline


def test_the_table_has_both_side_by_side_with_the_training_set_as_labelled(make_run: Any) -> None:
    table = corrected_shares(view(make_run, measured({"a": 0.49, "b": 0.51}, raw={"a": 0.44, "b": 0.56})))
    assert table is not None
    assert table.columns[1:5] == ("As labelled", "Corrected", "Training data", "Training data as labelled")
    shown = [cell.text for cell in table.rows[0]]
    assert shown[:6] == ["a", "44.0\xa0%", "49.0\xa0%", "50.0\xa0%", "50.0\xa0%", "−1.0 points"]
    assert shown[7:] == ["90.0\xa0% / 99.0\xa0%", "80"]


def test_classes_that_only_samples_show_and_no_class_have_rows(make_run: Any) -> None:
    both = {"params": {"set": "samples", "part_of": "other classes"}, "group": "c", "lower": 0.0, "upper": 0.01}
    found = [
        *measured({"a": 0.49, "b": 0.51}, raw={"a": 0.44, "b": 0.56}),
        Measurement(name="share", value=0.004, **both, **WILSON),
        Measurement(name="corrected_share", value=0.001, **both, **WILSON),
        Measurement(name="corrected_share", value=0.02, group="no class", lower=0.0, upper=0.03, **WILSON),
    ]
    table = shares_of_all(view(make_run, found))
    assert table is not None
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["c"] == ["0.4\xa0%", "0.1\xa0%"]
    assert rows["no class"] == ["–", "2.0\xa0%"]


def test_the_drawing_has_the_corrected_share_filled_and_as_labelled_beside_it(make_run: Any) -> None:
    (share, *_) = bias_plots([view(make_run, measured({"a": 0.49, "b": 0.51}, raw={"a": 0.44, "b": 0.56}))])
    assert "a, corrected: 2 blocks: 49.0\xa0%" in share.alt
    assert "as labelled: 2 blocks: 44.0\xa0%" in share.alt
    assert "filled: corrected for the labeler's errors" in share.caption


def test_ten_classes_of_one_run_stand_below_each_other(make_run: Any) -> None:
    raw = {str(digit): 0.1 for digit in range(10)}
    plots = bias_plots([view(make_run, measured(dict(raw), raw=raw))])
    (rows,) = (plot for plot in plots if plot.alt.startswith("Shares of the classes"))
    assert "corrected: 0 10.0\xa0%, 1 10.0\xa0%" in rows.alt
    assert "training data: 0 10.0\xa0%" in rows.alt


def test_an_audit_without_corrected_shares_reads_as_before(make_run: Any) -> None:
    run = open_views([make_run()])[0]
    assert corrected_shares(run) is None
    assert shares_of_all(run) is None
    assert "corrected" not in finding(run).headline
    assert "its errors are not part of the intervals" in imperfect_labels([run])
    (share, *_) = bias_plots([run])
    assert "for the number of images alone" in share.caption


def test_what_so_many_images_can_tell_is_a_caveat(make_run: Any) -> None:
    params = {"training_share": 0.5, "power": 0.8, "share_below": 0.455, "share_above": 0.545}
    found = [
        *measured({"a": 0.49, "b": 0.51}, raw={"a": 0.44, "b": 0.56}),
        Measurement(name="detectable_difference", value=0.045, group="a", n=1000, params=params),
    ]
    judged = found[-1].model_copy(update={"params": {**params, "labeled_images_of_class": 80}})
    assert enough_images([view(make_run, [*found[:-1], judged])]).endswith(
        "with 80\xa0% power, by a labeler that was judged on 80 images of a."
    )
    run = view(make_run, found)
    assert enough_images([run]) == (
        "1,000 images tell shares of a below 45.5\xa0% or above 54.5\xa0% from the training data's 50.0\xa0% with "
        "80\xa0% power."
    )
    assert bias([run]).title == "Bias: shares of the classes"
