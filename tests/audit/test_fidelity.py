"""The metric "fidelity": its numbers from an audit's features, the baseline beside them, equal sizes, and reasons."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import bars, unlabelled
from prdc import compute_prdc

import leadline
from leadline.audit.fidelity import thinned
from leadline.audit.frechet import fit_gaussian, frechet_distance
from leadline.audit.intervals import around, wilson
from leadline.audit.kernel import kernel_distance
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits

NAMES = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
SPACE = "raw pixels features"


def audit(samples: ImageSet, splits: Splits, **spec: object) -> AuditResult:
    chosen = AuditSpec(**{"encoders": ("pixels",), **spec})
    return leadline.measure(unlabelled(samples), splits, metrics="fidelity", spec=chosen)


def features(images: ImageSet) -> np.ndarray:
    return images.images().reshape(len(images), -1)


def by_name(result: AuditResult, compared: str = "samples", space: str = SPACE) -> dict[str, Measurement]:
    return {name: one for name in NAMES for one in result.find(name, set=compared, space=space)}


@pytest.fixture(scope="module")
def samples() -> ImageSet:
    return bars((20, 10, 4), 60)


@pytest.fixture(scope="module")
def found(samples: ImageSet, splits: Splits) -> dict[str, Measurement]:
    return by_name(audit(samples, splits))


def test_every_number_is_that_of_the_features(found: dict[str, Measurement], samples: ImageSet, splits: Splits) -> None:
    own, training = features(samples), features(splits.train)
    distance = frechet_distance(own, fit_gaussian(training))
    kernel, error = kernel_distance(own, training)
    expected = compute_prdc(training.astype(np.float64), own.astype(np.float64), nearest_k=5)
    expected |= {"frechet_distance": distance.value, "kernel_distance": kernel}
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected, rel=1e-9)
    assert (found["kernel_distance"].lower, found["kernel_distance"].upper) == pytest.approx(
        around(kernel, error, 34, 0.95)
    )
    assert found["frechet_distance"].upper == pytest.approx(around(distance.value, distance.error, 34, 0.95)[1])


def test_shares_have_the_interval_of_the_images_that_they_are_shares_of(found: dict[str, Measurement]) -> None:
    for name, n in (("precision", 34), ("recall", 80), ("coverage", 80)):
        one = found[name]
        assert one.value is not None
        assert one.n == n
        assert (one.lower, one.upper) == pytest.approx(wilson(round(one.value * n), n))
        assert "taken as given" in str(one.method)
    assert found["density"].n == 34


def test_held_out_images_stand_beside_the_samples_and_a_size_that_differs_is_made_equal(
    found: dict[str, Measurement], samples: ImageSet, splits: Splits
) -> None:
    assert splits.held_out is not None
    baseline = by_name(audit(samples, splits), "held_out")
    expected = frechet_distance(features(splits.held_out), fit_gaussian(features(splits.train))).value
    assert baseline["frechet_distance"].value == pytest.approx(expected)
    assert all("value_at_equal_n" not in one.params for one in baseline.values())
    smaller = by_name(audit(samples.take(thinned(samples, 16, 0)), splits))
    for name, one in found.items():
        assert (one.params["images"], one.params["training_images"]) == (34, 80)
        if name in ("frechet_distance", "recall", "coverage"):
            assert one.params["equal_n"] == 16
            assert one.params["value_at_equal_n"] == pytest.approx(smaller[name].value)
        else:
            assert "value_at_equal_n" not in one.params


def test_held_out_images_are_thinned_where_they_are_more(samples: ImageSet, splits: Splits) -> None:
    result = audit(samples.take(np.arange(9)), splits)
    assert all("equal_n" not in one.params for one in by_name(result).values())
    assert by_name(result, "held_out")["recall"].params["equal_n"] == 9


def test_copies_are_nearer_than_real_images_that_are_new(splits: Splits) -> None:
    result = audit(splits.train, splits)
    own, baseline = by_name(result), by_name(result, "held_out")
    assert own["frechet_distance"].value == pytest.approx(0, abs=1e-9)
    assert baseline["frechet_distance"].value > 0.1  # type: ignore[operator]
    assert [own[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_every_space_is_measured_under_its_own_name(samples: ImageSet, splits: Splits) -> None:
    result = audit(samples, splits, encoders=("labeler", "pixels"), labeler_epochs=1)
    for space, source in (("labeler features", "labeler"), (SPACE, "raw pixels")):
        for compared in ("samples", "held_out"):
            measured = by_name(result, compared, space)
            assert len(measured) == 6
            assert all(set(one.computed_from) == {compared, "training", source} for one in measured.values())
    assert "fid" not in str(result).lower().replace("fidelity", "")


def test_few_images_for_the_dimension_are_warned_of_and_enough_come_with_the_bias(
    found: dict[str, Measurement], splits: Splits
) -> None:
    assert "a covariance is singular" in found["frechet_distance"].params["caution"]
    many = replace(splits, train=bars((60, 40, 0), 70))
    params = by_name(audit(bars((40, 40, 0), 71), many))["frechet_distance"].params
    assert params["bias"] > 0
    assert "caution" not in params


def test_the_order_of_images_matters_to_no_number_even_at_equal_size(samples: ImageSet, splits: Splits) -> None:
    order = np.random.default_rng(0).permutation(34)
    mixed = by_name(audit(samples.take(order), splits))
    for name, one in by_name(audit(samples, splits)).items():
        assert mixed[name].value == pytest.approx(one.value, rel=1e-9)
        assert mixed[name].params.get("value_at_equal_n", 0) == pytest.approx(one.params.get("value_at_equal_n", 0))


def test_thinning_takes_other_images_with_another_seed(samples: ImageSet) -> None:
    assert sorted(thinned(samples, 34, 0)) == list(range(34))
    assert thinned(samples, 10, 0).tolist() != thinned(samples, 10, 1).tolist()


def test_one_image_has_what_needs_no_spread_and_a_reason_for_the_rest(splits: Splits) -> None:
    one = by_name(audit(bars((1, 0, 0), 61), splits))
    for name in ("frechet_distance", "kernel_distance"):
        assert "2 images or more in each set, 1 given" in str(one[name].reason)
    assert "6 images or more, there are 1" in str(one["recall"].reason)
    assert one["precision"].value is not None
    assert one["coverage"].value is not None
    assert one["density"].value is not None
    assert one["density"].lower is None
    assert one["density"].method == "no interval: one image"


def test_a_held_out_set_too_small_to_compare_sizes_costs_no_number(samples: ImageSet, splits: Splits) -> None:
    own = by_name(audit(samples, replace(splits, held_out=bars((2, 1, 0), 62))))
    assert own["recall"].value is not None
    assert own["recall"].params["value_at_equal_n"].startswith("not measurable: the 5 nearest others")
    assert own["coverage"].params["value_at_equal_n"] <= own["coverage"].value


def test_nearest_k_counts(found: dict[str, Measurement], samples: ImageSet, splits: Splits) -> None:
    wider = by_name(audit(samples, splits, nearest_k=9))
    assert wider["coverage"].params["k"] == 9
    assert wider["coverage"].value > found["coverage"].value  # type: ignore[operator]


def test_equal_training_images_are_warned_of(samples: ImageSet, splits: Splits) -> None:
    flat = replace(splits, train=splits.train.take(np.zeros(20, dtype=np.int64)))
    own = by_name(audit(samples, flat))
    assert all(one.value is not None for one in own.values())
    assert own["precision"].params["caution"].startswith("20 of 20 neighbourhoods have the radius 0")


def test_without_held_out_images_or_a_labeler_every_number_says_how(samples: ImageSet, splits: Splits) -> None:
    bare = replace(splits, held_out=None, labeler=None)
    result = audit(samples, bare, encoders=("labeler", "pixels"))
    assert all(one.value is not None for one in by_name(result).values())
    for one in by_name(result, "held_out").values():
        assert "--held-out DATA" in str(one.reason)
    for compared in ("samples", "held_out"):
        missing = by_name(result, compared, "labeler features")
        assert len(missing) == 6
        assert all("no labeler" in str(one.reason) for one in missing.values())
