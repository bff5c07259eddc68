"""What changed between two audits: intervals of differences against known answers, nothing compared that cannot be."""

import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from leadline.comparison import ASSUMED, Comparison, as_text, compare, label, mover
from leadline.records import AuditResult, Measurement


def share(value: float, lower: float | None, upper: float | None, **fields: Any) -> Measurement:
    fields = {"group": "nine", "params": {"set": "samples"}, "n": 100, "unit": "share"} | fields
    level = None if lower is None else fields.pop("level", 0.95)
    return Measurement(name="share", value=value, lower=lower, upper=upper, level=level, **fields)


def audit(*measurements: Measurement, **settings: Any) -> AuditResult:
    return AuditResult(measurements, settings=settings)


def one(old: Measurement, new: Measurement) -> Any:
    """The only change between two audits of one measurement each."""
    (change,) = compare(audit(old), audit(new)).changes
    return change


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),  # Newcombe (1998), Table II, method 10
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0000)),
    ],
)
def test_two_shares_give_newcombes_published_intervals(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    a, n, b, m = counts
    found = mover(a / n, proportion_confint(a, n, method="wilson"), b / m, proportion_confint(b, m, method="wilson"))
    assert found == pytest.approx(expected, abs=6e-5)
    assert found == pytest.approx(confint_proportions_2indep(a, n, b, m, method="newcomb"), abs=1e-9)


def test_intervals_of_equal_arms_add_up_by_pythagoras() -> None:
    assert mover(5.0, (2.0, 8.0), 1.0, (-3.0, 5.0)) == (-1.0, 9.0)


def test_lopsided_and_unbounded_arms() -> None:
    """The lower end takes the first one's lower arm and the second one's upper arm."""
    assert mover(10.0, (7.0, 22.0), 4.0, (-1.0, 8.0)) == (1.0, 19.0)
    assert mover(1.0, (-math.inf, 2.0), 0.0, (0.0, 0.0)) == (-math.inf, 2.0)


def test_the_interval_covers_the_difference_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        means = [(generator.normal(mean, 1, n).mean(), 1.96 / math.sqrt(n)) for mean, n in ((0.3, 40), (0.0, 90))]
        (a, half_a), (b, half_b) = means
        lower, upper = mover(a, (a - half_a, a + half_a), b, (b - half_b, b + half_b))
        hits += lower <= 0.3 <= upper
    assert 0.92 <= hits / 400 <= 0.98  # 95 % ± 2.7 standard errors


def test_a_difference_is_new_minus_old_with_its_interval() -> None:
    change = one(share(0.6, 0.49, 0.70), share(0.8, 0.69, 0.88))
    d = change.difference
    assert (d.name, d.group, d.unit, d.level) == ("share_change", "nine", "share", 0.95)
    assert d.value == pytest.approx(0.2)
    assert d.lower == pytest.approx(0.2 - math.hypot(0.11, 0.10))
    assert d.upper == pytest.approx(0.2 + math.hypot(0.08, 0.11))
    assert "MOVER" in d.method
    assert change.differs
    assert change.weight == pytest.approx(0.2 / math.hypot(0.11, 0.10))


@pytest.mark.parametrize(
    ("old", "new", "differs", "weight"),
    [
        ((0.5, 0.4, 0.6), (0.5, 0.3, 0.7), False, 0.0),
        ((0.2, 0.17, 0.5), (0.1, 0.0, 0.14), True, -0.1 / 0.05),  # reach upwards: √(0.04² + 0.03²)
        ((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), True, math.inf),
        ((0.4, 0.4, 0.4), (0.3, 0.3, 0.3), True, -math.inf),
    ],
)
def test_the_weight_passes_1_where_the_interval_loses_0(old: Any, new: Any, differs: bool, weight: float) -> None:
    change = one(share(*old), share(*new))
    assert change.weight == pytest.approx(weight)
    assert change.differs is differs
    assert change.differs == (not change.difference.lower <= 0 <= change.difference.upper)


def test_measurements_are_matched_by_what_identifies_them_not_by_results() -> None:
    def near(k: int, value: float, **params: Any) -> Measurement:
        return Measurement(name="nearest_distance", value=value, params={"k": k, "set": "samples", **params})

    found = compare(
        audit(near(1, 1.0, l2=8.0, p=0.1), near(2, 5.0, l2=1.0)), audit(near(2, 7.0, l2=2.0), near(1, 2.0, l2=16.0))
    )
    assert {change.new.params["k"]: change.difference.value for change in found.changes} == {1: 1.0, 2: 2.0}
    assert found.unmatched == ()
    assert found.changes[0].remarks == ()


def test_options_in_words_that_changed_are_remarked() -> None:
    old = share(
        0.5, 0.4, 0.6, params={"set": "samples", "labels": "the labeler", "flips": False, "p": 0.1, "caution": "4"}
    )
    new = share(
        0.5, 0.4, 0.6, params={"set": "samples", "labels": "the file l.csv", "flips": True, "p": 0.2, "caution": "5"}
    )
    assert one(old, new).remarks == ("labels: the labeler → the file l.csv", "flips: False → True")


def test_what_has_no_counterpart_is_told_with_the_reason() -> None:
    gone, new = share(0.5, None, None, group="gone"), share(0.5, None, None, group="new")
    missing = Measurement.not_measurable("share", "no labeler", group="a", params={"set": "samples"})
    found = compare(
        audit(gone, share(0.5, 0.4, 0.6, group="a"), missing.model_copy(update={"group": "b"})),
        audit(new, missing, missing.model_copy(update={"group": "b"})),
    )
    assert found.changes == ()
    assert {u.measurement.group: u.why for u in found.unmatched} == {
        "new": "only in this audit",
        "a": "not measurable in this audit: no labeler",
        "b": "not measurable in both audits: no labeler",
        "gone": "only in the earlier audit",
    }
    back = compare(audit(missing), audit(share(0.5, 0.4, 0.6, group="a"), missing.model_copy(update={"name": "x"})))
    assert [u.why for u in back.unmatched] == [
        "not measurable in the earlier audit: no labeler",
        "only in this audit, not measurable: no labeler",
    ]


@pytest.mark.parametrize(
    ("old", "new", "method"),
    [
        (share(0.5, None, None), share(0.6, 0.5, 0.7), "no interval: the value has none before"),
        (share(0.5, None, None), share(0.6, None, None), "no interval: the value has none before and now"),
        (
            share(0.5, 0.4, 0.6),
            share(0.6, 0.5, 0.7, level=0.99),
            r"no interval: the levels differ \(--set audit.level\)",
        ),
    ],
)
def test_a_difference_without_interval_says_why(old: Measurement, new: Measurement, method: str) -> None:
    change = one(old, new)
    assert change.difference.value == pytest.approx(0.1)
    assert change.difference.method == method.replace("\\", "")
    assert not change.tested
    assert not change.differs


def test_infinite_values_and_other_units_make_no_difference() -> None:
    infinite = one(share(0.5, 0.4, 0.6), share(-math.inf, -math.inf, 0.1))
    assert "infinite" in infinite.difference.reason
    assert "units differ: 'share' and 'times'" in one(share(1, 0, 2), share(1, 0, 2, unit="times")).difference.reason


def test_the_same_images_are_not_tested() -> None:
    source = {"training": "t", "held_out": "h"}
    same = share(0.5, 0.4, 0.6, computed_from=source)
    other = share(0.7, 0.6, 0.8, computed_from=source)
    unchanged = compare(audit(same), audit(same))
    assert (unchanged.changes, unchanged.unchanged) == ((), 1)
    (change,) = compare(audit(same), audit(other)).changes
    assert change.difference.method == "no interval: both were computed from the same images"
    thinned = [
        share(0.5, 0.4, 0.6, params={"set": "training"}, computed_from={"training": "t", "samples": content})
        for content in "ab"
    ]
    assert compare(audit(thinned[0]), audit(thinned[1])).unchanged == 1


def growing(value: float, n: int, **params: Any) -> Measurement:
    """A score that more images alone bring up, with an interval that other sizes fall out of."""
    bounds = {"lower": value - 0.1, "upper": value + 0.1, "level": 0.95}
    return Measurement(name="score", value=value, n=n, params={"depends_on_n": True, **params}, **bounds)


def test_what_depends_on_the_number_of_images_is_tested_at_equal_numbers_alone() -> None:
    unequal = one(growing(1.0, 1000), growing(3.0, 10000))
    assert unequal.difference.value == 2.0
    assert unequal.difference.method == ("no interval: it depends on the number of images (1,000 before, 10,000 now)")
    assert not unequal.tested
    assert one(growing(1.0, 1000), growing(3.0, 1000)).differs
    plain = growing(3.0, 10000).model_copy(update={"params": {}})
    assert one(growing(1.0, 1000).model_copy(update={"params": {}}), plain).differs
    # An audit of an older version does not carry the flag.
    assert not one(growing(1.0, 1000).model_copy(update={"params": {}}), growing(3.0, 10000)).tested


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((1000, 500, 2000, 500), "images (1,000 before, 2,000 now)"),
        ((1000, 500, 1000, 600), "training images (500 before, 600 now)"),
        ((1000, 500, 2000, 600), "images (1,000 before, 2,000 now) and of training images (500 before, 600 now)"),
    ],
)
def test_the_number_of_both_sets_counts_whatever_n_is(sizes: tuple[int, int, int, int], words: str) -> None:
    """The n of a recall is that of the training images; it depends on how many samples there are."""
    old, new = (
        growing(value, 500, images=images, training_images=training)
        for value, (images, training) in ((1.0, sizes[:2]), (3.0, sizes[2:]))
    )
    change = one(old, new)
    assert change.difference.method == f"no interval: it depends on the number of {words}"
    assert change.remarks == ()


def test_numbers_of_images_that_differ_are_remarked_where_the_difference_is_tested() -> None:
    old, new = (
        share(0.5, 0.4, 0.6, params={"set": "samples", "images": n, "training_images": 500}) for n in (1000, 2000)
    )
    change = one(old, new)
    assert change.tested
    assert change.remarks == ("images: 1,000 → 2,000",)
    assert one(old.model_copy(update={"n": 1000}), new.model_copy(update={"n": 2000})).remarks == ()


def test_how_many_differ_and_how_many_would_by_chance() -> None:
    def result(moved: float) -> AuditResult:
        found = [share(0.5, 0.45, 0.55, group=str(i)) for i in range(19)]
        return audit(*found, share(0.5 + moved, 0.45 + moved, 0.55 + moved, group="moved"))

    found = compare(result(0), result(0.3), names=("v1", "v2"))
    assert [change.new.group for change in found.differing] == ["moved"]
    assert found.changes[0].new.group == "moved"
    assert found.by_chance == pytest.approx(1.0)
    assert found.headline.startswith("1 of 20 measurements differs from v1 by more than the interval; about 1.0 would")
    nothing = compare(audit(), audit(), names=("v1", "v2"))
    assert nothing.headline == "Nothing can be compared with v1 with an interval."


def test_what_the_audits_differ_in_is_noted() -> None:
    old = audit(
        fingerprints={"samples": "s", "training": "t1", "held_out": "h"},
        audit={"level": 0.95, "num_panels": 8},
        packages={"torch": "2.11"},
        labels="the labeler",
    )
    new = audit(
        fingerprints={"samples": "s", "training": "t2", "labeler": "l"},
        audit={"level": 0.99, "num_panels": 2},
        packages={"torch": "2.15"},
        labels="the file l.csv",
    )
    assert compare(old, new).notes == (
        "Both audits are of the same images: what differs comes from settings, networks or versions, not from "
        "another model.",
        "Not the same training data: t1 before, t2 now.",
        "Not the same held-out images: h before, none now.",
        "Not the same labeler: none before, l now.",
        "The settings differ: level 0.95 → 0.99.",
        "The labels come from elsewhere: labels the labeler → the file l.csv.",
        "The package versions differ: torch 2.11 → 2.15.",
    )
    assert compare(old, old).notes[1:] == ()
    assert compare(audit(fingerprints="?", audit=3), audit()).notes == ()


def test_it_is_kept_as_json_with_infinite_bounds() -> None:
    found = compare(audit(share(0.5, -math.inf, 0.6)), audit(share(0.6, 0.5, math.inf)))
    assert found.changes[0].difference.upper == math.inf
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_the_table_for_a_terminal() -> None:
    old = audit(*(share(0.5, 0.45, 0.55, group=str(i)) for i in range(15)), share(0.1, 0.05, 0.15, group="moved"))
    new = audit(*(share(0.5, 0.45, 0.55, group=str(i)) for i in range(16)), share(0.8, 0.75, 0.85, group="moved"))
    lines = as_text(compare(old, new)).splitlines()
    assert lines[1].split() == ["measurement", "before", "now", "difference"]
    assert lines[2].split()[:6] == ["*", "share", "[moved,", "samples]", "0.1", "0.8"]
    assert lines[2].endswith("+0.7 (95%: +0.629 to +0.771)")
    assert lines[-2:] == [
        "4 more in the report",
        "1 without counterpart or number in one of the audits (the report says why)",
    ]


def test_the_terminal_shows_unequal_numbers_and_why_there_is_no_interval() -> None:
    old, new = share(0.5, 0.45, 0.55, n=100), share(0.9, 0.85, 0.95, n=400)
    lines = as_text(compare(audit(old, growing(1.0, 100)), audit(new, growing(3.0, 400)))).splitlines()
    assert "0.5 (n = 100)  0.9 (n = 400)  +0.4 (95%: " in lines[2]
    assert lines[3].split()[0] == "score"
    assert lines[3].endswith("+2 (no interval: it depends on the number of images (100 before, 400 now))")
    assert lines[0].startswith("1 of 1 measurements differs")


def test_a_label_has_what_identifies_and_nothing_else() -> None:
    m = Measurement(name="nearest_copy_rate", value=0.1, params={"rule": "d1/d2", "k": 2, "set": "samples", "p": 0.5})
    assert label(m) == "nearest_copy_rate [samples, k = 2, d1/d2]"


def test_what_is_assumed_names_what_the_intervals_do_not_cover() -> None:
    assert "independent" in ASSUMED
    assert "another training" in ASSUMED
