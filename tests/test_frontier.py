"""The record of a steering sweep: what is looked up, chosen and corrected in it."""

from typing import Any

import pytest
from pydantic import ValidationError

from leadline.audit.paired_tests import holm
from leadline.errors import LeadlineError
from leadline.frontier import (
    Choice,
    PairedTest,
    Setting,
    SteerSweep,
    adjusted,
    alone,
    choice_of,
    choose,
    family,
    is_better,
)
from leadline.recipe import SteerSpec
from leadline.records import Measurement

LABELER, PIXELS = "labeler features", "pixels"


def measured(name: str, value: float | None, group: str | None = None, **params: Any) -> Measurement:
    if value is None:
        return Measurement.not_measurable(name, "too few images", group=group, params={"set": "samples", **params})
    return Measurement(name=name, value=value, group=group, params={"set": "samples", **params})


def difference(of: str, value: float | None, p: float = 0.5, group: str | None = None, **params: Any) -> Measurement:
    return measured("paired_difference", value, group, of=of, **({} if value is None else {"p": p}), **params)


def setting(strength: float, values: list[Measurement] = [], tests: list[Measurement] = [], **steer: Any) -> Setting:  # noqa: B006
    spec = SteerSpec(strength=strength, **steer)
    return Setting(steer=spec, folder=f"run-{strength}", values=tuple(values), tests=alone(tests, 0.95))


def sweep(*settings: Setting, **fields: Any) -> SteerSweep:
    return SteerSweep(title="t", seed=0, num_images=10, level=0.95, settings=settings, **fields)


def test_a_family_is_the_same_for_the_audit_and_for_the_difference() -> None:
    own = measured("nearest_distance", 3.0, space=PIXELS, k=1, l2=7.0)
    assert (
        family(own)
        == family(difference("nearest_distance", 1.0, space=PIXELS, k=1))
        == ("nearest_distance [pixels, k = 1]")
    )
    assert family(difference("share", 0.1, group="9")) == "share [9]"


def test_a_setting_finds_its_own_value_of_what_a_difference_compares() -> None:
    values = [measured("nearest_distance", float(k), space=space, k=k) for space in (LABELER, PIXELS) for k in (1, 5)]
    found = setting(0.5, [*values, measured("share", 0.2, "6"), measured("share", 0.8, "9")])
    assert found.value(difference("nearest_distance", 1.0, space=PIXELS, k=5)) == values[3]
    of_class = found.value(difference("share", 0.1, group="9"))
    assert of_class is not None
    assert of_class.value == 0.8
    assert found.value(difference("share", 0.1, group="3")) is None


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("frechet_distance", [3.0, 2.0, 2.0], 1),
        ("frechet_distance", [1.0, 2.0, 1.0], 0),
        ("recall", [0.3, 0.2, 0.5], 2),
        ("recall", [None, None, 0.1], 2),
    ],
)
def test_the_best_is_the_smallest_or_largest_and_the_first_of_equals(
    name: str, values: list[float | None], best: int
) -> None:
    settings = [setting(i / 2, [measured(name, value, space=LABELER)]) for i, value in enumerate(values)]
    assert choose(settings, choice_of(name)).index == best


def test_the_choice_takes_the_space_that_was_named_and_no_class() -> None:
    def values(first: float, second: float) -> list[Measurement]:
        return [
            measured("recall", 9.0 - first, "a class", space=LABELER),
            measured("recall", first, space=LABELER),
            measured("recall", second, space="inception-v3-compat features"),
        ]

    settings = [setting(0, values(1.0, 2.0)), setting(1, values(2.0, 1.0))]
    assert choose(settings, choice_of("recall")) == Choice(name="recall", space=LABELER, index=1)
    named = choose(settings, choice_of("recall,inception"))
    assert (named.space, named.index) == ("inception-v3-compat features", 0)
    found = named.value(settings[1])
    assert found is not None
    assert found.value == 1.0


def test_all_settings_are_read_in_the_space_in_which_most_have_a_value() -> None:
    """Although the second one's number in another space is smaller than all of them."""

    def values(first: float | None, second: float | None) -> list[Measurement]:
        return [measured("kernel_distance", v, space=s) for v, s in ((first, LABELER), (second, "SqueezeNet features"))]

    settings = [setting(0, values(3.0, 30.0)), setting(0.5, values(None, 0.1)), setting(1, values(2.0, 20.0))]
    first = choose(settings, choice_of("kernel_distance"))
    assert (first.space, first.index, first.reason) == ("SqueezeNet features", 1, "")
    named = choose(settings, choice_of("kernel_distance,labeler"))
    assert (named.space, named.index) == (LABELER, 2)
    assert named.reason == "without a value, and left out: bypass 0.5 (constant, blend)"
    assert choose(settings, choice_of("kernel_distance,squeezenet")).space == "SqueezeNet features"


def test_what_has_no_value_anywhere_cannot_be_chosen_by() -> None:
    settings = [setting(0, [measured("recall", None)]), setting(1)]
    assert choose(settings, choice_of("recall")).reason == "recall has no value: too few images"
    assert choose(settings, choice_of("coverage")).reason == "coverage has no value: no setting's audit has it"
    assert sweep(*settings, choice=choose(settings, choice_of("recall"))).chosen is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share", "--choose 'share': a setting cannot be chosen by 'share'"),
        ("frechet_distanc", "did you mean 'frechet_distance'"),
        ("recall,", "a feature space is expected after the comma"),
    ],
)
def test_a_choice_that_is_none_says_why(text: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        choice_of(text)


def test_holm_goes_over_the_settings_of_one_measurement() -> None:
    ps = {"recall": [0.01, 0.04, 0.03], "coverage": [0.2, 0.001, 0.5]}
    by_hand = {"recall": [0.03, 0.06, 0.06], "coverage": [0.4, 0.003, 0.5]}
    settings = [
        setting(i / 3, tests=[difference(name, 0.1, p[i - 1]) for name, p in ps.items()] if i else []) for i in range(4)
    ]
    settings[2] = setting(2 / 3, tests=[*(t.difference for t in settings[2].tests), difference("density", None)])
    found = sweep(*adjusted(settings, 0.95, holm))
    for name, expected in by_hand.items():
        tests = [tested for _, tested in found.tests(name)]
        assert [t.p_holm for t in tests] == pytest.approx(expected)
        assert [t.differs for t in tests] == [p < 0.05 for p in expected]
    assert [tested.p_holm for _, tested in found.tests("density")] == [None]
    assert found.zero.tests == ()
    assert found.by_chance == pytest.approx(0.05 * 2)


def test_alone_a_test_is_marked_by_its_own_p() -> None:
    tests = alone([difference("recall", 0.1, 0.04), difference("recall", 0.1, 0.06), difference("recall", None)], 0.95)
    assert [(t.differs, t.p_holm) for t in tests] == [(True, None), (False, None), (False, None)]


@pytest.mark.parametrize(("of", "value", "is_so"), [("recall", 0.1, True), ("recall", -0.1, False),
                                                    ("kernel_distance", -0.1, True)])  # fmt: skip
def test_better_is_larger_or_smaller_by_the_measure(of: str, value: float, is_so: bool) -> None:
    assert is_better(difference(of, value)) is is_so


def test_with_a_doubtful_sign_nothing_is_better_or_worse() -> None:
    assert is_better(difference("frechet_distance", -0.1, plain=0.2, doubt="it depends on the correction")) is None


def test_settings_are_grouped_by_schedule_and_mode_and_ordered_by_strength() -> None:
    window = "window(1.0, sigma_max=5.0, sigma_min=0.5)"
    found = sweep(setting(0), setting(1), setting(0.5), setting(0.5, schedule=window), setting(1, mode="channels"))
    assert {kind: [s.steer.strength for s in held] for kind, held in found.kinds.items()} == {
        "constant, blend": [0.5, 1.0],
        "window(1, sigma_max=5, sigma_min=0.5), blend": [0.5],
        "constant, channels": [1.0],
    }


def test_it_is_the_same_after_a_round_trip_through_json() -> None:
    tested = [difference("frechet_distance", float("inf"), 0.01, space=LABELER)]
    first = sweep(setting(0), setting(0.5, tests=tested, mode="elements"), choice=Choice(name="recall", index=1))
    assert SteerSweep.model_validate_json(first.model_dump_json()) == first
    assert isinstance(first.others[0].tests[0], PairedTest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": ()}, "the first setting must have strength 0"),
        ({"settings": (setting(0.5),)}, "the first setting must have strength 0"),
        ({"choice": Choice(name="recall", index=1)}, "the choice is of setting 1, there are 1"),
        ({"choice": Choice(name="recall", index=-1)}, "the choice is of setting -1"),
        ({"schema_version": 99}, "schema version 99"),
    ],
)
def test_a_record_that_is_not_whole_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SteerSweep(**{**dict(sweep(setting(0))), **change})
