"""The prediction-powered share: ppi-python's estimate, coverage where labels are few, the labels alone as its limit."""

import numpy as np
import ppi_py
import pytest
from scipy.stats import norm

from leadline.audit.intervals import clopper_pearson, wilson
from leadline.audit.prediction_powered import LABELS_ALONE, TUNED, prediction_powered, prediction_powered_part
from leadline.errors import LeadlineError


def drawn(n: int, m: int, share: float, seed: int, sensitivity: float = 0.9, specificity: float = 0.9):
    """Labels of n images, a labeler's 0 or 1 for them and for m others; every error rate known."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n + m) < share).astype(float)
    hit = generator.random(n + m) < np.where(labels == 1, sensitivity, 1 - specificity)
    return labels[:n], hit[:n].astype(float), hit[n:].astype(float)


@pytest.mark.parametrize(("n", "m", "share"), [(200, 800, 0.1), (100, 5000, 0.3), (300, 100, 0.5)])
def test_the_estimate_and_its_error_are_those_of_ppi_python(n: int, m: int, share: float) -> None:
    labels, seen, unseen = drawn(n, m, share, seed=n)
    found = prediction_powered(labels, seen, unseen)
    lower, upper = ppi_py.ppi_mean_ci(labels, seen, unseen, alpha=0.05)
    half = norm.ppf(0.975) * found.standard_error
    assert found.method == TUNED
    assert found.value == pytest.approx(ppi_py.ppi_mean_pointestimate(labels, seen, unseen).item(), abs=1e-12)
    assert (found.value - half, found.value + half) == pytest.approx((lower.item(), upper.item()), abs=1e-12)


def test_a_labeler_that_is_always_right_is_worth_as_many_labels_as_there_are_images() -> None:
    labels, seen, unseen = drawn(400, 1600, 0.3, seed=1, sensitivity=1.0, specificity=1.0)
    found = prediction_powered(labels, seen, unseen)
    assert found.tuning == pytest.approx(1600 / 2000, abs=0.1)
    assert found.value == pytest.approx(np.concatenate([seen, unseen]).mean(), abs=0.005)
    # Two made-up mistakes keep it from claiming all 2,000.
    assert 1500 < found.n_effective < 2000
    assert found.gain == pytest.approx(found.n_effective / 400, rel=0.05)


def test_predictions_that_say_nothing_leave_the_labels() -> None:
    labels, _, _ = drawn(200, 1, 0.3, seed=2)
    for seen, unseen in ((np.full(200, 0.4), np.full(900, 0.4)), (1 - labels, np.ones(900))):
        found = prediction_powered(labels, seen, unseen)
        assert found.tuning == 0
        assert found.value == pytest.approx(labels.mean())
        assert found.gain == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("count", "n"), [(0, 60), (4, 60), (57, 60), (60, 60)])
def test_with_a_handful_of_labels_the_exact_interval_of_the_labels_alone_stands(count: int, n: int) -> None:
    labels = np.repeat([1.0, 0.0], [count, n - count])
    found = prediction_powered(labels, labels, np.zeros(500))
    assert (found.lower, found.upper) == clopper_pearson(count, n)
    assert (found.value, found.tuning, found.gain) == (count / n, 0, 1)
    assert found.method == f"Clopper-Pearson, {LABELS_ALONE}"


def test_an_estimate_near_0_is_no_less_certain_than_the_labels() -> None:
    """10 labels of 200 in the class, and a labeler that finds 6 % among them but only 1 % among all others."""
    labels, seen, unseen = np.zeros(200), np.zeros(200), np.zeros(10_000)
    labels[:10] = seen[:12] = unseen[:100] = 1
    found = prediction_powered(labels, seen, unseen)
    assert found.value < 0.005
    assert found.upper < 0.05
    assert found.gain > 1
    # The labels' own number, times the variance that they alone have over that of the estimate.
    assert found.n_effective == pytest.approx(0.05 * 0.95 / found.standard_error**2, rel=0.6)


@pytest.mark.parametrize(("sensitivity", "specificity", "least"), [(0.95, 0.99, 1), (0.5, 0.9, 0.85)])
def test_predictions_never_cost_much_of_what_the_labels_tell(
    sensitivity: float, specificity: float, least: float
) -> None:
    gains = [prediction_powered(*drawn(200, 5000, 0.03, seed, sensitivity, specificity)).gain for seed in range(100)]
    assert min(gains) >= least


def test_without_other_images_the_labels_are_all_there_is() -> None:
    labels, seen, _ = drawn(100, 1, 0.4, seed=3)
    found = prediction_powered(labels, seen, np.empty(0), level=0.9)
    assert (found.lower, found.upper) == wilson(labels.sum(), 100, 0.9)
    assert found.classical_lower == found.lower


def test_a_share_among_some_classes_is_wilsons_of_those_labels_where_predictions_say_nothing() -> None:
    labels, _, _ = drawn(300, 1, 0.3, seed=4)
    among = np.maximum(labels, (np.arange(300) % 3 > 0).astype(float))
    constant, others = np.full(300, 0.3), np.full(700, 0.3)
    found = prediction_powered_part(labels, among, constant, np.ones(300), others, np.ones(700))
    count, n = labels.sum(), among.sum()
    assert found.value == pytest.approx(count / n)
    assert (found.lower, found.upper) == pytest.approx(wilson(count, n), abs=0.003)
    assert found.n_labelled == n


def simulated(part: bool, n: int, m: int, share: float, sensitivity: float, specificity: float) -> float:
    """How often the interval holds the true share, in 200 draws; part: among nine tenths of the images."""
    held = 0
    for seed in range(200):
        labels, seen, unseen = drawn(n, m, share, seed, sensitivity, specificity)
        if not part:
            found = prediction_powered(labels, seen, unseen)
            truth = share
        else:
            kept = np.random.default_rng(10**6 + seed).random(n + m) < 0.9
            mine, rest = kept[:n].astype(float), kept[n:].astype(float)
            found = prediction_powered_part(labels * mine, mine, seen * mine, mine, unseen * rest, rest)
            truth = share
        held += found.lower <= truth <= found.upper
    return held / 200


@pytest.mark.parametrize(
    ("part", "n", "m", "share", "sensitivity", "specificity"),
    [
        (False, 100, 900, 0.1, 0.9, 0.99),
        (True, 200, 800, 0.2, 0.9, 0.9),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    part: bool, n: int, m: int, share: float, sensitivity: float, specificity: float
) -> None:
    """200 draws have a standard error of 1.5 points, which 91 to 99.5 % leaves room for around 95 to 97 %."""
    assert 0.91 <= simulated(part, n, m, share, sensitivity, specificity) <= 0.995


def test_the_labelers_error_may_be_another_on_generated_images() -> None:
    """A labeler that calls half of the others the class: its own share is far off, the estimate is not."""
    labels, seen, unseen = drawn(400, 5000, 0.2, seed=5, sensitivity=0.95, specificity=0.5)
    found = prediction_powered(labels, seen, unseen)
    assert unseen.mean() > 0.55
    assert found.lower < 0.2 < found.upper


@pytest.mark.parametrize(
    ("members", "among", "words"),
    [
        ([0.5, 1.0], [1.0, 1.0], "labels are 1 .of it. or 0"),
        ([1.0, 0.0], [0.0, 1.0], "members = 1 needs among = 1"),
        ([0.0, 0.0], [0.0, 0.0], "no labelled image"),
    ],
)
def test_labels_that_are_none_are_refused(members: list[float], among: list[float], words: str) -> None:
    y, s = np.array(members), np.array(among)
    with pytest.raises(LeadlineError, match=words):
        prediction_powered_part(y, s, y, s, np.zeros(3), np.ones(3))
