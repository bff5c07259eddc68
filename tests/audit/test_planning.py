"""Plans against brute-force binomial sums, statsmodels, simulations and the numbers that can be worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom, norm, t
from statsmodels.stats.power import TTestPower

from leadline.audit.anytime import log_evidence
from leadline.audit.intervals import corrected_share, share_interval
from leadline.audit.plan_question import Question
from leadline.audit.planning import (
    UNLIMITED,
    as_classified,
    corrected_variance,
    detectable,
    detectable_estimated,
    estimated_power,
    exact_power,
    images_needed,
    images_needed_estimated,
    images_per_model,
    labelled_needed,
    normal_images,
    two_sample_power,
)
from leadline.audit.planning_runs import images_per_run, largest_between_run_sd, run_power, runs_needed
from leadline.audit.plans import make_plan
from leadline.audit.replicates import between_runs
from leadline.errors import LeadlineError
from leadline.rng import numpy_generator_for

PAPER, LESS = 0.0086, 0.006
RATES = {"sensitivity": 0.9, "specificity": 0.99}


def test_the_papers_question_takes_8950_images_and_a_few_more_exactly() -> None:
    z, z_power = norm.ppf(0.975), norm.ppf(0.8)
    spread = z * math.sqrt(PAPER * (1 - PAPER)) + z_power * math.sqrt(LESS * (1 - LESS))
    assert (spread / (PAPER - LESS)) ** 2 == pytest.approx(8950, abs=1)
    assert normal_images(PAPER, LESS) == math.ceil((spread / (PAPER - LESS)) ** 2)
    assert images_needed(PAPER, LESS) == 9232


@pytest.mark.parametrize(
    ("share", "truth"), [(0.3, 0.1), (0.1, 0.3), (0.5, 0.95), (0.02, 0.2), (0.9, 0.6), (0.97, 0.85), (0.08, 0.01)]
)
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_exact_power_is_the_sum_over_all_counts_whose_interval_in_the_report_leaves_the_share_out(
    share: float, truth: float, level: float
) -> None:
    """Few images of the group or of all others, and so the exact interval; Wilson's; and where the one meets the
    other."""
    images = np.array([1, 7, 15, 20, 33, 60, 190])
    for n, power in zip(images, exact_power(share, truth, images, level), strict=True):
        found = 0.0
        for count in range(n + 1):
            lower, upper = share_interval(count, n, level)[0]
            if upper < share if truth < share else lower > share:
                found += binom.pmf(count, n, truth)
        assert power == pytest.approx(found, abs=1e-12)


def test_few_images_are_planned_for_the_exact_interval() -> None:
    """By Wilson's interval alone 25 and 110 images would seem enough, and have a power of 66 and 65 %."""
    assert [images_needed(0.1, 0.3), images_needed(0.01, 0.05)] == [33, 134]
    assert detectable(PAPER, 100)[1] == pytest.approx(0.05446, abs=1e-5)


@pytest.mark.parametrize(
    ("share", "truth"),
    [(PAPER, LESS), (PAPER, 0.002), (PAPER, 0.03), (0.4168, 0.4), (0.5, 0.01), (0.01, 0.5), (0.9, 0.8), (0.99, 0.93)],
)
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_images_needed_is_behind_the_last_tooth_of_the_saw(share: float, truth: float, power: float) -> None:
    images = np.arange(1, 20_000)
    too_few = np.flatnonzero(exact_power(share, truth, images) < power)
    assert images_needed(share, truth, power) == (images[too_few[-1]] + 1 if len(too_few) else 1)


def test_power_falls_again_within_the_saw() -> None:
    """One lucky number of images is no plan: some smaller ones have the power, and larger ones lack it."""
    needed = images_needed(PAPER, LESS)
    assert needed is not None
    below = exact_power(PAPER, LESS, np.arange(needed - 200, needed))
    assert below.max() > 0.8 > below[-1]


def test_no_plan_goes_beyond_its_limit() -> None:
    assert images_needed(0.5, 0.50001) is None
    assert images_needed(0.0086, 0.0085) == pytest.approx(normal_images(0.0086, 0.0085), rel=0.01)


@pytest.mark.parametrize("rates", [{}, RATES])
def test_detectable_is_the_inverse_of_exact_power(rates: dict[str, float]) -> None:
    n = np.array([3000])
    below, above = detectable(0.2, 3000, **rates)
    assert below is not None
    assert above is not None
    assert below < 0.2 < above
    for told in (below, above):
        assert exact_power(0.2, told, n, **rates)[0] == pytest.approx(0.8, abs=1e-9)


def test_a_rare_group_of_few_images_can_only_be_found_to_have_grown() -> None:
    below, above = detectable(PAPER, 50)
    assert below is None
    assert above is not None
    # With the classifier's own false positives, no share below is far enough away.
    assert detectable(PAPER, 2000, **RATES)[0] is None


def test_known_rates_are_the_question_of_the_reported_shares() -> None:
    reported = [as_classified(share, 0.9, 0.99) for share in (PAPER, LESS)]
    assert reported == pytest.approx([0.017654, 0.01534])
    assert images_needed(PAPER, LESS, **RATES) == images_needed(*reported) == 24790


def test_known_rates_spread_a_share_by_what_is_counted() -> None:
    q = as_classified(0.3, 0.9, 0.99)
    assert corrected_variance(0.3, 50, 0.9, 0.99) == pytest.approx(q * (1 - q) / 50 / 0.89**2)
    assert corrected_variance(0.3, UNLIMITED, 0.9, 0.99) == 0


def test_estimated_rates_make_a_plan_impossible_and_labelled_images_possible_again() -> None:
    assert images_needed_estimated(PAPER, LESS, 500, 5000, **RATES) is None
    needed = labelled_needed(PAPER, LESS, UNLIMITED, **RATES)
    assert needed is not None
    assert estimated_power(PAPER, LESS, UNLIMITED, needed / 2, needed / 2, **RATES) >= 0.8
    assert estimated_power(PAPER, LESS, UNLIMITED, needed / 2 - 1, needed / 2 - 1, **RATES) < 0.8
    assert images_needed_estimated(PAPER, LESS, needed, needed, **RATES) is not None
    # Negatives are what is missing: drawn at random, nearly all are.
    drawn = labelled_needed(PAPER, LESS, UNLIMITED, PAPER, **RATES)
    assert drawn is not None
    assert needed / 2 < drawn < needed
    assert labelled_needed(PAPER, LESS, 10_000, **RATES) is None


def test_estimated_rates_of_unlimited_labelled_images_are_known_ones() -> None:
    known = images_needed(0.4, 0.35, sensitivity=0.9, specificity=0.95)
    found = images_needed_estimated(0.4, 0.35, UNLIMITED, UNLIMITED, sensitivity=0.9, specificity=0.95)
    assert found == pytest.approx(known, rel=0.03)


def test_estimated_power_is_what_the_corrected_interval_has() -> None:
    """A normal approximation beside the interval that the audit uses: 300 audits, standard error 2 points."""
    share, truth, n, labelled = 0.4168, 0.33, 1500, 400
    generator = numpy_generator_for(0, "planning test")
    told = 0
    for _ in range(300):
        found, spared = generator.binomial(labelled, (0.9, 0.95))
        m = corrected_share(
            generator.binomial(n, as_classified(truth, 0.9, 0.95)), n, found, labelled, spared, labelled
        )
        told += m.upper is not None and m.upper < share
    assert told / 300 == pytest.approx(estimated_power(share, truth, n, labelled, labelled, 0.95, 0.9, 0.95), abs=0.06)


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.9, 0.99), (0.9, 0.999), (0.95, 0.9999), (0.9, 1), (1, 1)])
@pytest.mark.parametrize(("share", "truth", "part"), [(PAPER, LESS, 0.5), (LESS, PAPER, LESS)])
def test_labelled_images_have_the_planned_power_however_seldom_the_classifier_errs(
    sensitivity: float, specificity: float, share: float, truth: float, part: float
) -> None:
    """200 audits, standard error 3 points. By a plug-in variance, which a rate of 1 makes 0, a few images would do."""
    n = 100_000
    rates = (float(sensitivity), float(specificity))
    labelled = labelled_needed(share, truth, n, part, sensitivity=rates[0], specificity=rates[1])
    assert labelled is not None
    positives = math.ceil(labelled * part)
    generator = numpy_generator_for(3, "planning test")
    found = generator.binomial(positives, rates[0], 200)
    spared = generator.binomial(labelled - positives, rates[1], 200)
    counted = generator.binomial(n, as_classified(truth, *rates), 200)
    told = 0
    for drawn in zip(counted.tolist(), found.tolist(), spared.tolist(), strict=True):
        m = corrected_share(drawn[0], n, drawn[1], positives, drawn[2], labelled - positives)
        told += m.upper is not None and (m.upper < share if truth < share else m.lower > share)
    assert told / 200 > 0.7


def test_a_faultless_record_on_few_labelled_images_proves_no_faultless_classifier() -> None:
    """The interval of 8 right of 8 reaches from nothing to a fifth."""
    assert estimated_power(PAPER, LESS, UNLIMITED, 8, 8, sensitivity=0.9) == 0
    assert labelled_needed(PAPER, LESS, UNLIMITED, sensitivity=0.9) == 846
    # Without an image of the group nothing is corrected.
    assert estimated_power(0.4, 0.1, UNLIMITED, 0, 500) == 0


def test_the_planned_interval_is_the_reported_one() -> None:
    """Where the labelled images can say but one thing, the ends decide: a share just within them is not told."""
    m = corrected_share(300, 1000, 40, 40, 60, 60)
    assert m.lower is not None
    assert m.upper is not None
    for end, within in ((m.upper, -1e-6), (m.lower, 1e-6)):
        assert estimated_power(end, 0.3, 1000, 40, 60) == pytest.approx(0.5, abs=1e-9)
        assert estimated_power(end + within, 0.3, 1000, 40, 60) < 0.5


def test_detectable_with_estimated_rates_is_the_inverse_of_its_power() -> None:
    below, above = detectable_estimated(0.3, 5000, 300, 700, **RATES)
    for told in (below, above):
        assert told is not None
        assert estimated_power(0.3, told, 5000, 300, 700, **RATES) == pytest.approx(0.8, abs=1e-9)


def test_two_models_need_more_images_than_one_beside_known_shares() -> None:
    needed = images_per_model(0.4168, 0.37)
    assert two_sample_power(0.4168, 0.37, needed) == pytest.approx(0.8, abs=1e-3)
    assert images_per_model(0.37, 0.4168) == pytest.approx(needed, abs=2)
    assert needed == pytest.approx(2 * normal_images(0.4168, 0.37), rel=0.02)
    # Shared error shrinks the difference.
    assert images_per_model(0.4168, 0.37, sensitivity=0.9, specificity=0.9) > needed


@pytest.mark.parametrize("runs", [2, 3, 5, 30])
@pytest.mark.parametrize("effect", [0.8, 3])
def test_the_power_of_runs_with_unlimited_images_is_that_of_the_t_test(runs: int, effect: float) -> None:
    power = TTestPower().power(effect, runs, 0.025, alternative="larger")
    assert run_power(0.4, 0.3, runs, UNLIMITED, 0.1 / effect) == pytest.approx(power, abs=1e-4)


def test_runs_and_images_are_planned_for_each_other() -> None:
    share, truth, sd = 0.4168, 0.3722, 0.01
    images = images_per_run(share, truth, 3, sd)
    assert images is not None
    assert largest_between_run_sd(share, truth, 3, images) == pytest.approx(sd, rel=1e-3)
    assert runs_needed(share, truth, sd, images) == 3
    assert runs_needed(share, truth, sd, images - 1) == 4
    assert images_per_run(share, truth, 2, sd) is None
    assert largest_between_run_sd(share, truth, 3, 50) is None
    assert images_per_run(share, truth, 3, 0.05) is None
    assert runs_needed(share, truth, 2.0) is None


@pytest.mark.parametrize(
    ("share", "truth", "runs", "sd"),
    [(0.1, 0.08, 3, 0.0), (0.4168, 0.3722, 3, 0.01), (PAPER, 0.003, 5, 0.001), (0.1, 0.13, 4, 0.01)],
)
def test_planned_runs_have_the_power_in_the_decision_of_the_report(
    share: float, truth: float, runs: int, sd: float
) -> None:
    """4,000 experiments each, standard error of the power 0.6 points; the last 20 by the report's own function."""
    images = images_per_run(share, truth, runs, sd)
    assert images is not None
    generator = numpy_generator_for(1, "planning test")
    counts = generator.binomial(images, np.clip(truth + sd * generator.standard_normal((4000, runs)), 0, 1))
    shares, total = counts / images, images * runs
    within = (shares * (1 - shares)).mean(1) / (images - 1)
    half = t.ppf(0.975, runs - 1) * np.sqrt(np.maximum(shares.var(1, ddof=1), within) / runs)
    sums = counts.sum(1)
    upper = np.maximum(shares.mean(1) + half, beta.ppf(0.975, sums + 1, total - sums))
    lower = np.minimum(shares.mean(1) - half, beta.ppf(0.025, sums, total - sums + 1))
    told = upper < share if truth < share else lower > share
    for row, said in zip(counts[-20:], told[-20:], strict=True):
        m = between_runs(row.tolist(), [images] * runs)
        assert (m.upper < share if truth < share else m.lower > share) == said
    assert told.mean() == pytest.approx(0.8, abs=0.03)


def test_all_images_together_bound_what_many_runs_tell() -> None:
    """With runs that do not differ, many of them tell what one run of all their images tells, and no more."""
    share, truth = 0.05, 0.02
    power = run_power(share, truth, 500, 1, 0.0)
    assert power <= exact_power(share, truth, np.array([500]))[0] + 0.03
    assert power == pytest.approx(run_power(1 - share, 1 - truth, 500, 1, 0.0), abs=1e-9)


def test_one_run_needs_a_known_spread() -> None:
    effect = norm.ppf(0.975) + norm.ppf(0.8)
    assert run_power(0.4, 0.3, 1, UNLIMITED, 0.1 / effect) == pytest.approx(0.8, abs=1e-9)
    plan = make_plan(Question(share=0.4, detect=0.3, replicates=1))
    (m,) = plan.find("images_per_run")
    assert m.reason is not None
    assert "one training run says nothing about the next" in m.reason
    known = make_plan(Question(share=0.4, detect=0.3, replicates=1, between_run_sd=0.01))
    assert known.find("images_per_run", runs=1)[0].value is not None


def test_a_plan_holds_every_answer() -> None:
    plan = make_plan(
        Question(share=PAPER, detect=LESS, positives=500, negatives=5000, replicates=3, images=8000, **RATES)
    )
    needed = {(m.params["counting"], m.method or ""): m.value for m in plan.find("images_needed")}
    assert [*needed.values()] == [8951, 9232, 24790, None]
    assert [m.value for m in plan.find("reported_share")] == pytest.approx([0.017654, 0.01534])
    assert plan.find("precision", of="samples")[0].value == pytest.approx(0.0054 / 0.01534)
    assert {m.params["images"] for m in plan.find("labelled_images_needed")} == {"unlimited", 8000}
    assert {m.params["runs"] for m in plan.find("largest_between_run_sd")} == {2, 3, 5, 10, 20}
    assert [table.name for table in plan.tables] == ["power_curve", "detectable_curve"]
    powers = np.array([row[1:] for row in plan.tables[0].rows])
    assert powers[-1, 0] == pytest.approx(1)
    assert powers[-1, 2] < 0.8


def test_an_audit_that_looks_at_every_step_stops_near_the_planned_median() -> None:
    q = Question(share=0.4, detect=0.33)
    (m,) = make_plan(q).find("images_until_stopped")
    assert m.value is not None
    steps = np.arange(10, int(2 * m.value), 10)
    counts = numpy_generator_for(2, "planning test").binomial(10, 0.33, (300, len(steps) + 1)).cumsum(1)[:, :-1]
    outside = log_evidence(counts.astype(float), steps.astype(float), 0.4, around=0.4) >= math.log(20)
    stopped = outside[:, : int(np.searchsorted(steps, m.value))].any(1).mean()
    assert 0.4 < stopped < 0.65


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 0.0, "detect": 0.1}, r"training share must lie between 0 and 1, not 0.0 \(--share\)"),
        ({"share": 0.1, "detect": 1.0}, r"share to detect must lie between 0 and 1, not 1.0 \(--detect\)"),
        ({"share": 0.1, "detect": 0.1}, "no number of images tells equal shares apart"),
        ({"share": 0.1, "detect": 0.2, "power": 0.3}, r"power must be 0.5 or more and below 1, not 0.3"),
        ({"share": 0.1, "detect": 0.2, "level": 1.0}, r"level of the interval .* not 1.0 \(--level\)"),
        ({"share": 0.1, "detect": 0.2, "sensitivity": 1.1}, r"sensitivity must .* not 1.1 \(--sensitivity\)"),
        ({"share": 0.1, "detect": 0.2, "sensitivity": 0.4, "specificity": 0.6}, "add up to 1 or less"),
        ({"share": 0.1}, "--detect .006.* or the number of images"),
        ({"share": 0.1, "detect": 0.2, "positives": 10}, "give both --positives"),
        ({"share": 0.1, "detect": 0.2, "positives": 10, "negatives": 10}, "--sensitivity and --specificity rest on"),
        ({"share": 0.1, "detect": 0.2, "images": 0}, "--images must be 1 or more, not 0"),
        ({"share": 0.1, "detect": 0.2, "images": 10**9}, "--images must be 100,000,000 at most"),
        ({"share": 0.1, "detect": 0.2, "replicates": 5000}, "--replicates must be 1,000 at most"),
        ({"share": 0.1, "detect": 0.2, "between_run_sd": 0.1}, r"say how many there shall be \(--replicates 3\)"),
        ({"share": 0.1, "detect": 0.2, "replicates": 3, "between_run_sd": -1.0}, "0 or more, not -1.0"),
        ({"share": 0.1, "images": 5, "replicates": 3}, r"needs the share to be found in them \(--detect\)"),
        ({"share": 0.1, "images": 5, "two_models": True}, "--two-models compares two shares"),
        ({"share": 0.1, "detect": 0.2, "two_models": True, "replicates": 3}, "leave out --replicates"),
    ],
)
def test_a_question_without_an_answer_says_what_to_change(given: dict[str, float], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        make_plan(Question(**given))


def test_images_below_one_are_refused() -> None:
    with pytest.raises(LeadlineError, match="needs one image or more, not 0"):
        detectable(0.2, 0)
    with pytest.raises(LeadlineError, match="power needs one image or more, not 0"):
        exact_power(0.2, 0.1, np.array([0]))
    with pytest.raises(LeadlineError, match="needs one training run or more, not 0"):
        run_power(0.4, 0.3, 0, 100, 0.0)
