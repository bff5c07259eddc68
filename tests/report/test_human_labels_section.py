"""The section on human labels, and the sentence that the answer takes from it."""

from pathlib import Path

import pytest

from leadline.records import Measurement, Table
from leadline.report import build
from leadline.report.classifier import classifier_sentence
from leadline.report.human_labels import human_section, shares_table
from leadline.report.human_words import human_sentence
from leadline.report.shares import bias_sentence
from leadline.report.tables import overview
from leadline.report.views import open_views
from leadline.runs import Run


def interval(name: str, value: float, group: str | None = None, **params: object) -> Measurement:
    """value ± .02 by 200 units."""
    return Measurement(
        name=name, value=value, lower=value - 0.02, upper=value + 0.02, level=0.95, n=200, group=group, params=params
    )


def human_measurements(share: float = 0.14) -> list[Measurement]:
    """9 in 10 % of the training data; 14 % with a person's labels, 8 % as the labeler counts."""
    found = []
    for group, value, training in (("6", 1 - share, 0.9), ("9", share, 0.1)):
        among = {"share": value, "share_lower": value - 0.02, "share_upper": value + 0.02, "training_share": training}
        raw = 0.08 if group == "9" else 0.92
        counted = {"share": raw, "share_lower": raw - 0.02, "share_upper": raw + 0.02, "training_share": training}
        found += [
            Measurement(name="share", value=training, n=140, group=group, params={"set": "training"}),
            interval("share", raw, group, set="samples"),
            interval("share_difference", raw - training, group, **counted),
            interval("human_share", value, group),
            interval("prediction_powered_share", value, group),
            interval("prediction_powered_difference", value - training, group, gain=3.2, labelled=190, **among),
            Measurement(name="human_label_gain", value=3.2, n=200, group=group),
        ]
    found += [interval("human_share", 0.05, "unsure"), interval("prediction_powered_share", 0.05, "unsure")]
    return [*found, interval("labeler_agreement_on_samples", 0.8, expected_from_real_images=0.97, p=0.0002)]


def with_matrix(run: Run) -> Run:
    """The run with the person's labels beside the labeler's."""
    audit = run.audit()
    assert audit is not None
    columns, rows = ("the person", "6", "9", "unclassified"), (("6", 170, 2, 3), ("9", 1, 20, 4))
    table = Table(name="human_confusion", title="The labeler and the person", columns=columns, rows=rows)
    run.save_audit(type(audit)(measurements=audit.measurements, tables=(table,), settings=audit.settings))
    return run


def test_the_estimates_stand_side_by_side(make_run) -> None:
    views = open_views([with_matrix(make_run(measurements=human_measurements()))])
    section = human_section(views)
    (plot,) = section.figures
    assert "9: as the labeler counts 8.0" in plot.alt
    assert "with a person's labels 14.0" in plot.alt
    shares, matrix = section.tables
    assert [row[0].text for row in shares.rows] == ["6", "9", "unsure"]
    nine = [cell.text for cell in shares.rows[1]]
    assert nine[1] == "8.0\N{NO-BREAK SPACE}%"
    assert nine[2] == "–"
    assert nine[4:] == ["14.0\N{NO-BREAK SPACE}%", "+4.0 points", "3.2×"]
    assert matrix.style == "matrix"
    assert "right on 97.0" in section.lead
    assert "p < 0.001: its error on generated images is another" in section.lead


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.14, ": more often."), (0.11, ": no difference is shown."), (0.05, ": less often.")],
)
def test_the_answer_says_what_the_interval_shows(make_run, share: float, words: str) -> None:
    (view,) = open_views([make_run(measurements=human_measurements(share))])
    sentence = human_sentence(view)
    assert words in sentence
    assert "labels of 200 images, 190 of them of its classes" in sentence
    assert "of 3.2 times as many labels alone" in sentence


def test_without_human_labels_the_section_says_how_to_get_them(make_run) -> None:
    views = open_views([make_run()])
    assert human_sentence(views[0]) == ""
    section = human_section(views)
    assert "leadline label RUN" in section.lead
    assert not section.tables


def test_labels_that_cannot_be_used_are_not_called_missing(make_run) -> None:
    missing = [Measurement.not_measurable("human_share", "the number of images hung on what they showed")]
    section = human_section(open_views([make_run(measurements=missing)]))
    assert "No person labelled" not in section.lead
    assert any("hung on what they showed" in caveat for caveat in section.caveats)


def test_what_could_not_be_estimated_is_there_with_its_reason(make_run) -> None:
    measured = [m for m in human_measurements() if "prediction" not in m.name and "agreement" not in m.name]
    missing = [
        Measurement.not_measurable(name, "no predictions: give labels")
        for name in ("prediction_powered_share", "prediction_powered_difference", "labeler_agreement_on_samples")
    ]
    views = open_views([make_run(measurements=measured + missing)])
    section = human_section(views)
    assert any("no predictions: give labels" in caveat for caveat in section.caveats)
    assert section.figures == []
    assert "not measurable: no predictions" in human_sentence(views[0])


def test_class_names_cannot_break_the_page(make_run, tmp_path: Path) -> None:
    hostile = [m.model_copy(update={"group": "<script>9" if m.group == "9" else m.group}) for m in human_measurements()]
    page = build([make_run(measurements=hostile)], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert 'id="human"' in page


def corrected(value: float, group: str = "9") -> Measurement:
    """A corrected difference of a class of which the training data has a tenth."""
    share = value + 0.1
    among = {"share": share, "share_lower": share - 0.02, "share_upper": share + 0.02, "training_share": 0.1}
    return interval("corrected_difference", value, group, **among)


def test_the_headline_is_the_persons_where_the_labeler_tells_otherwise(make_run) -> None:
    """The labeler, corrected for its errors on real images, sees no difference; a person sees more of them."""
    (view,) = open_views([make_run(measurements=[*human_measurements(), corrected(-0.01)])])
    headline = bias_sentence(view)
    assert headline.startswith("makes 9 more often than its training data: 14.0")
    assert "by a person's labels of 200 images" in headline
    assert "(corrected for the labeler's errors 9.0" in headline
    assert "; as labelled 8.0" in headline
    told = classifier_sentence(view)
    assert "For 9 a person's labels decide" in told
    assert "Do not rely on the labeler alone" in told
    assert "its error on generated images is another" in told
    row = dict(zip((t := overview([view])).columns, t.rows[0], strict=True))
    assert row["Share of 9, with human labels"].text.startswith("14.0")


def test_labels_that_agree_with_the_labeler_bring_no_warning(make_run) -> None:
    agreeing = [m for m in human_measurements() if m.name != "labeler_agreement_on_samples"]
    agreeing.append(interval("labeler_agreement_on_samples", 0.96, expected_from_real_images=0.97, p=0.6))
    (view,) = open_views([make_run(measurements=[*agreeing, corrected(0.05)])])
    assert bias_sentence(view).startswith("makes 9 more often")
    assert classifier_sentence(view) == ""


def test_predictions_that_were_not_relied_on_are_not_called_a_gain(make_run) -> None:
    measured = []
    for m in human_measurements():
        unused = m.name in ("prediction_powered_difference", "human_label_gain")
        measured.append(m.model_copy(update={"params": {**m.params, "tuning": 0.0}}) if unused else m)
    (view,) = open_views([make_run(measurements=measured)])
    sentence = human_sentence(view)
    assert "the labeler's predictions add nothing here" in sentence
    assert "as narrow as" not in sentence
    assert "with the labeler's" not in sentence
    assert "the predictions add nothing" in shares_table(view).rows[1][-1].text
