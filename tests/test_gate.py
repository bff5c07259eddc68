"""Conditions of a gate: the grammar refuses what it does not know, and no number that is missing lets a gate pass."""

import math

import pytest

from leadline.errors import LeadlineError
from leadline.gate import Condition, Verdict, check, parse
from leadline.records import AuditResult, Measurement

KNOWN = ("nearest_copy_rate", "share", "share_amplification", "vendi_score")


def rate(value: float, lower: float | None = None, upper: float | None = None, **params: object) -> Measurement:
    params = {"set": "samples", "space": "pixels", "rule": "d1/d2", **params}
    method = "Wilson" if lower is not None else "no interval: one image"
    return Measurement(
        name="nearest_copy_rate", value=value, lower=lower, upper=upper, level=0.95, method=method, n=100, params=params
    )


def verdict(text: str, *measurements: Measurement) -> Verdict:
    (found,) = check(AuditResult(measurements), [parse(text, KNOWN)])
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("share > 0.5", ("share", "value", ">", 0.5, ())),
        ("  share.upper<=-1e-3 ", ("share", "upper", "<=", -0.001, ())),
        ("share[group=nine].lower>=0", ("share", "lower", ">=", 0.0, (("group", "nine"),))),
        (
            'nearest_copy_rate[rule=d1/d2, space=labeler features,group="a, b]"].lower < 1',
            (
                "nearest_copy_rate",
                "lower",
                "<",
                1.0,
                (("rule", "d1/d2"), ("space", "labeler features"), ("group", "a, b]")),
            ),
        ),
        ("share[set=held_out] > 0", ("share", "value", ">", 0.0, (("set", "held_out"),))),
    ],
)
def test_the_grammar(text: str, expected: tuple) -> None:
    found = parse(text, KNOWN)
    assert (found.name, found.field, found.operator, found.limit, found.selectors) == expected
    assert found.text == text.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"--fail-if takes NAME\[option=value, ...\].lower > NUMBER"),
        ("share", "--fail-if takes NAME"),
        ("share >", "--fail-if takes NAME"),
        ("share > 1 2", "--fail-if takes NAME"),
        ("share[group=a] extra > 1", "--fail-if takes NAME"),
        ("nearest_copy_rat > 1", "no measurement is called 'nearest_copy_rat': did you mean 'nearest_copy_rate'"),
        ("share.low > 1", "a measurement has no 'low': it has value, lower, upper"),
        ("share == 1", "'==' is none of > >= < <="),
        ("share > 1%", "'1%' is no finite number"),
        ("share > nan", "'nan' is no finite number"),
        ("share > inf", "'inf' is no finite number"),
        ("share[] > 1", r"\[\] must hold option=value"),
        ("share[group] > 1", r"\[group\] must hold option=value, separated by commas"),
        ("share[group=] > 1", "must hold option=value"),
        ("share[k=1 rule=x] > 1", "must hold option=value"),
        ("share[group=a, b] > 1", 'stands in double quotes: group="a, b"'),
        ("share[k=1, k=2] > 1", r"k is given twice: write two conditions \(--fail-if twice\)"),
        ("share[set=sample] > 1", "set is one of samples, training, held_out, not 'sample'"),
    ],
)
def test_what_does_not_fit_is_named(text: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        parse(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nearest_copy_rate.lower > 0.01", "failed"),
        ("nearest_copy_rate.lower > 0.02", "passed"),  # 0.02 is not above itself
        ("nearest_copy_rate.lower >= 0.02", "failed"),
        ("nearest_copy_rate > 0.04", "failed"),
        ("nearest_copy_rate.value > 0.05", "passed"),
        ("nearest_copy_rate.upper < 0.2", "failed"),
        ("nearest_copy_rate.upper < 0.1", "passed"),
        ("nearest_copy_rate.upper <= 0.1", "failed"),
    ],
)
def test_a_condition_that_holds_fails_the_gate(text: str, status: str) -> None:
    assert verdict(text, rate(0.05, 0.02, 0.1)).status == status


def test_a_failure_shows_the_measurement_with_its_interval() -> None:
    found = verdict("nearest_copy_rate.lower > 0.01", rate(0.05, 0.02, 0.1))
    assert found.sentences == [
        "gate failed: nearest_copy_rate.lower > 0.01: nearest_copy_rate [set=samples, space=pixels, rule=d1/d2]: 0.05 "
        "(95% interval 0.02 to 0.1), n = 100"
    ]


def test_one_of_several_that_holds_is_enough_and_it_alone_is_told() -> None:
    found = verdict("nearest_copy_rate > 0.1", rate(0.05), rate(0.2, rule="carlini"), rate(0.01, rule="calibrated"))
    assert found.status == "failed"
    assert len(found.lines) == 1
    assert "carlini" in found.lines[0]


def test_passing_says_which_came_nearest() -> None:
    measured = rate(0.05), rate(0.2, rule="carlini"), rate(0.01, rule="calibrated")
    (line,) = verdict("nearest_copy_rate > 0.3", *measured).lines
    assert line.startswith("holds for none of 3, nearest nearest_copy_rate")
    assert "carlini" in line
    assert "calibrated" in verdict("nearest_copy_rate < 0.001", *measured).lines[0]
    assert verdict("nearest_copy_rate > 0.3", measured[0]).sentences[0].startswith("gate passed: ")


def test_training_and_held_out_images_are_meant_only_when_they_are_named() -> None:
    measured = rate(0.01), rate(0.9, set="held_out"), Measurement(name="share", value=0.9, params={"set": "training"})
    assert verdict("nearest_copy_rate > 0.5", *measured).status == "passed"
    assert verdict("nearest_copy_rate[set=held_out] > 0.5", *measured).status == "failed"
    assert verdict("share > 0.5", *measured).status == "unchecked"


def test_a_measurement_without_a_set_is_of_the_samples() -> None:
    amplified = Measurement(name="share_amplification", value=math.inf, group="nine")
    assert verdict("share_amplification > 1", amplified).status == "failed"


@pytest.mark.parametrize(
    ("selectors", "status"),
    [
        ("k=5", "failed"),
        ("k=5.0", "failed"),
        ("k=05", "failed"),
        ("k=1", "passed"),
        ("flips=true", "passed"),
        ("flips=False", "failed"),
        ("alpha=0.3333333333", "failed"),
        ("rule=carlini, k=5", "failed"),
        ("rule=carlini, k=1", "unchecked"),
        ("rule=Carlini", "unchecked"),
        ("k=many", "unchecked"),
        ("group=nine", "failed"),
        ("group=six", "unchecked"),
    ],
)
def test_selectors_read_group_and_params(selectors: str, status: str) -> None:
    holding = rate(0.9, k=5, flips=False, alpha=1 / 3, rule="carlini").model_copy(update={"group": "nine"})
    passing = rate(0.1, k=1, flips=True)
    assert verdict(f"nearest_copy_rate[{selectors}] > 0.5", holding, passing).status == status


def test_without_a_match_the_gate_fails_and_says_what_there_is() -> None:
    found = verdict("nearest_copy_rate[rule=d1d2] > 0.5", rate(0.1), rate(0.1, rule="carlini"))
    assert found.status == "unchecked"
    assert "no nearest_copy_rate of the audit is chosen by this" in found.lines[0]
    assert "rule = d1/d2, carlini; set = samples" in found.lines[0]
    assert "the audit has no vendi_score" in verdict("vendi_score > 1", rate(0.1)).sentences[0]


def test_what_is_not_measurable_fails_the_gate_with_its_reason() -> None:
    reason = "needs 200 held-out images (--held-out DATA)"
    params = {"set": "samples", "rule": "calibrated"}
    missing = Measurement.not_measurable("nearest_copy_rate", reason, params=params)
    found = verdict("nearest_copy_rate > 0.5", rate(0.1), missing)
    assert found.status == "unchecked"
    assert found.sentences[0].startswith("gate failed: ")
    assert "could not be checked: nearest_copy_rate" in found.lines[0]
    assert reason in found.lines[0]
    assert verdict("nearest_copy_rate[rule=d1/d2] > 0.5", rate(0.1), missing).status == "passed"


def test_a_number_that_holds_is_told_before_those_that_are_missing() -> None:
    missing = Measurement.not_measurable("nearest_copy_rate", "why", params={"set": "samples"})
    found = verdict("nearest_copy_rate > 0.5", missing, rate(0.9))
    assert found.status == "failed"
    assert "0.9" in found.lines[0]
    assert "not measurable: why" in found.lines[1]


def test_one_reason_for_all_options_answers_for_each_of_them() -> None:
    """A metric that cannot be made at all is recorded once, without group and params."""
    whole = Measurement.not_measurable("share", "the training data has no labels (--groups)")
    assert "no labels" in verdict("share[group=nine, set=samples].lower > 0.5", whole).lines[0]


def test_a_bound_that_was_not_made_fails_the_gate() -> None:
    found = verdict("nearest_copy_rate.lower > 0.5", rate(0.1))
    assert found.status == "unchecked"
    assert "there is no lower bound (no interval: one image)" in found.lines[0]


def test_conditions_keep_their_order() -> None:
    conditions: list[Condition] = [parse(f"share > {limit}", KNOWN) for limit in (3, 1, 2)]
    assert [v.condition for v in check(AuditResult(()), conditions)] == ["share > 3", "share > 1", "share > 2"]
