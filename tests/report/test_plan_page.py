"""The page of a plan: its sentences follow the numbers, and its curves are drawn."""

import json
from pathlib import Path

import pytest

from leadline.audit.plan_question import Question
from leadline.audit.plans import make_plan
from leadline.errors import LeadlineError
from leadline.report.plan import build_plan, plan_text


def page_of(tmp_path: Path, question: Question) -> str:
    page = build_plan(make_plan(question), tmp_path / "plan.html")
    return page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def text_of(question: Question) -> str:
    return plan_text(make_plan(question)).replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_has_the_answer_the_curves_and_the_reasons(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        Question(share=0.0086, detect=0.006, sensitivity=0.9, specificity=0.99, positives=500, negatives=5000),
    )
    assert "How many images: 0.86 % against 0.6 %" in page
    assert "by no number of images with its rates as uncertain as given" in page
    assert "leave the classifier&#39;s own error too uncertain" in page
    assert page.count("<svg") == 2
    assert "NaN" not in page
    said = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert said["headlines"][0]["headline"].startswith("Plan: 0.6")


def test_without_a_share_to_detect_the_page_says_what_the_images_tell(tmp_path: Path) -> None:
    page = page_of(tmp_path, Question(share=0.4168, images=1000))
    assert "1,000 images tell 41.68 % from 37.36 % or less and from 46.08 % or more" in page
    assert page.count("<svg") == 1
    assert "One training run: the answer is about its model" in page


def test_a_side_on_which_nothing_is_told_is_named() -> None:
    assert "tell 0.86 % from below, none and from 8.365 % or more" in text_of(Question(share=0.0086, images=50))


def test_runs_are_said_for_a_known_and_an_unknown_spread() -> None:
    known = text_of(Question(share=0.4168, detect=0.3722, replicates=3, between_run_sd=0.01))
    assert "2,714 images of each of 3 runs, with a standard deviation of 1 points between runs." in known
    assert "Plan: 37.22 % is told from 41.68 % in 3 training runs by 2,714 images of each; of one model by" in known
    unknown = text_of(Question(share=0.4168, detect=0.3722, replicates=3))
    only = "in 3 training runs only where their true shares differ by a standard deviation of 1.366 points or less; of"
    assert only in unknown
    one = text_of(Question(share=0.4168, detect=0.3722, replicates=1))
    assert "in 1 training run not at all, as long as the spread between runs is unknown; of one model by" in one
    assert "differ by a standard deviation of at most 1.366 points with unlimited images" in unknown
    impossible = text_of(Question(share=0.4168, detect=0.3722, replicates=2, between_run_sd=0.01))
    assert "Not possible: 2 runs are too few, with any number of images" in impossible


def test_the_classifier_sentence_says_whose_images_are_rightly_called_so() -> None:
    said = text_of(Question(share=0.0086, detect=0.006, sensitivity=0.9, specificity=0.99))
    assert "35.2 % right (43.84 % among training images)" in said
    assert "labelled images (as many of each kind: " in said
    assert "or 14,842 labelled images (at random from the training data: 128 of the group)" in said


def test_two_models_are_told_apart_by_images_of_each(tmp_path: Path) -> None:
    page = page_of(tmp_path, Question(share=0.4168, detect=0.37, two_models=True, images=1000))
    assert "1,710 images of each model tell 41.68 % and 37 % apart" in page
    assert "McNemar" in page
    assert "57.2 %" in page
    assert "<svg" not in page


def test_a_page_is_no_json_and_no_folder(tmp_path: Path) -> None:
    result = make_plan(Question(share=0.4, images=100))
    with pytest.raises(LeadlineError, match=r"--out names the page, with a JSON beside it"):
        build_plan(result, tmp_path / "plan.json")
    with pytest.raises(LeadlineError, match="--out names the page"):
        build_plan(result, tmp_path)
