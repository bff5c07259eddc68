"""Closed forms against loops over pairs and the lpips package, errors against repeated draws, and what is reported."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache
from itertools import combinations
from typing import Any

import lpips
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leadline
from leadline.audit import context as context_module
from leadline.audit import diversity, rows
from leadline.audit.context import AuditContext
from leadline.audit.diversity import mean_pairwise_distance, mean_pairwise_lpips, measure_diversity
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Measurement, Splits


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 30), dimension=st.integers(1, 9), offset=st.sampled_from([0.0, 1e3]), chunk=st.integers(1, 40))
def test_is_the_mean_over_all_pairs(n: int, dimension: int, offset: float, chunk: int) -> None:
    features = np.random.default_rng(n).normal(size=(n, dimension)) + offset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_ROWS", chunk)
        mean, error = mean_pairwise_distance(features)
    pairs = {(i, j): np.square(features[i] - features[j]).sum() for i, j in combinations(range(n), 2)}
    to_others = [np.mean([d for pair, d in pairs.items() if i in pair]) for i in range(n)]
    assert mean == pytest.approx(np.mean(list(pairs.values())), rel=1e-9)
    assert error == pytest.approx(2 * np.std(to_others, ddof=1) / np.sqrt(n), rel=1e-6, abs=1e-9)


def test_the_error_is_the_spread_over_repeated_draws() -> None:
    generator = np.random.default_rng(0)
    draws = [mean_pairwise_distance(generator.exponential(size=(100, 3))) for _ in range(400)]
    means, errors = np.array(draws).T
    assert np.mean(errors) == pytest.approx(means.std(ddof=1), rel=0.15)
    assert means.mean() == pytest.approx(2 * 3, rel=0.02), "unbiased: twice the total variance"


def test_equal_images_have_no_diversity_not_a_negative_one() -> None:
    assert mean_pairwise_distance(np.full((50, 7), 0.1, dtype=np.float32)) == pytest.approx((0, 0), abs=1e-12)


def test_float32_far_from_zero_costs_no_digits() -> None:
    features = (np.random.default_rng(1).integers(0, 2, (40, 5)) + 2**20).astype(np.float32)
    pairs = [np.square(a - b).sum() for a, b in combinations(features.astype(np.float64), 2)]
    assert mean_pairwise_distance(features)[0] == pytest.approx(np.mean(pairs), rel=1e-9)


def test_features_of_any_length_can_be_compared_as_unit_vectors() -> None:
    features = np.random.default_rng(2).normal(size=(20, 4)) + 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    stretched = features * np.arange(1, 21)[:, None]
    assert mean_pairwise_distance(stretched, unit_length=True) == pytest.approx(mean_pairwise_distance(unit), rel=1e-12)
    with pytest.raises(LeadlineError, match="image 3 have length 0.*another encoder"):
        mean_pairwise_distance(np.eye(5)[[0, 1, 2, 3]] * [1, 1, 1, 0, 1], unit_length=True)


def test_one_image_has_no_pairs() -> None:
    with pytest.raises(LeadlineError, match="2 images or more, 1 given"):
        mean_pairwise_distance(np.zeros((1, 3)))


def test_features_that_are_not_finite_are_refused_by_their_place() -> None:
    features = np.zeros((4, 3))
    features[2, 1] = np.nan
    with pytest.raises(LeadlineError, match="image 2 are not finite"):
        mean_pairwise_distance(features)


@cache
def network(net: str, **options: Any) -> lpips.LPIPS:
    """LPIPS with its own heads and a random trunk; shared between tests, as VGG takes seconds to make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of an argument that lpips still passes
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return lpips.LPIPS(net=net, pnet_rand=True, verbose=False, **options)


@pytest.fixture(scope="module")
def alex() -> lpips.LPIPS:
    return network("alex")


def smooth(n: int, size: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size, mode="bicubic").tanh()


def by_the_package(model: lpips.LPIPS, images: torch.Tensor) -> tuple[float, float]:
    """Mean over all pairs, and the U-statistic's error."""
    n = len(images)
    first, second = torch.tensor(list(combinations(range(n), 2))).unbind(1)
    with torch.no_grad():
        values = model(images[first], images[second]).flatten().double()
    to_others = [values[(first == i) | (second == i)].mean() for i in range(n)]
    return float(values.mean()), float(2 * torch.stack(to_others).std() / n**0.5)


@pytest.mark.parametrize(
    ("net", "size", "options"),
    [
        ("alex", 33, {}),
        ("alex", 31, {"version": "0.0"}),
        ("vgg", 32, {}),
        ("squeeze", 18, {"lpips": False}),
        ("squeeze", 17, {}),
    ],
)
def test_lpips_is_that_of_the_package_over_all_pairs(net: str, size: int, options: dict[str, Any]) -> None:
    model, images = network(net, **options), smooth(9, size)
    found = mean_pairwise_lpips(images, model)
    mean, error = by_the_package(model, images)
    assert found.value == pytest.approx(mean, rel=1e-6)
    assert found.params["standard_error"] == pytest.approx(error, rel=1e-3)
    assert found.lower is not None
    assert found.upper is not None
    assert (found.lower + found.upper) / 2 == pytest.approx(mean, rel=1e-6)
    assert found.params["net"] == net
    assert found.params["version"] == options.get("version", "0.1")


def test_lpips_of_batches_arrays_and_any_batch_size_is_the_same(alex: lpips.LPIPS) -> None:
    images = smooth(10, 33)
    whole = mean_pairwise_lpips(images, alex)
    assert (whole.name, whole.unit, whole.n) == ("mean_pairwise_lpips", "LPIPS (alex)", 10)
    for found in (
        mean_pairwise_lpips(images, alex, batch_size=3),
        mean_pairwise_lpips(images.numpy(), alex),
        mean_pairwise_lpips((part for part in images.split(4)), alex),
        mean_pairwise_lpips([images[:1].numpy(), images[1:].double()], alex),
    ):
        assert found.value == pytest.approx(whole.value, rel=1e-6)
        assert found.computed_from == whole.computed_from
    assert mean_pairwise_lpips(images, alex, level=0.5).upper < whole.upper  # type: ignore[operator]
    assert mean_pairwise_lpips(images.flip(1), alex).computed_from["images"] != whole.computed_from["images"]


def test_the_model_is_left_as_it_was(alex: lpips.LPIPS) -> None:
    before = {name: value.clone() for name, value in alex.state_dict().items()}
    mean_pairwise_lpips(smooth(3, 33), alex)
    assert not alex.training
    assert all(parameter.grad is None for parameter in alex.parameters())
    assert all(torch.equal(value, before[name]) for name, value in alex.state_dict().items())


def test_two_images_have_a_distance_and_no_interval(alex: lpips.LPIPS) -> None:
    found = mean_pairwise_lpips(smooth(2, 33), alex)
    assert found.value == pytest.approx(by_the_package(alex, smooth(2, 33))[0], rel=1e-6)
    assert (found.lower, found.upper, found.level) == (None, None, None)
    assert "no interval: too few images" in str(found.method)


def far(value: float) -> torch.Tensor:
    images = smooth(4, 33)
    images[2, 1, 5, 5] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (far(1.5), r"image 2 runs from .* to 1\.5, but .*\[-1, 1\]"),
        (far(float("nan")), "image 2 runs from nan to nan"),
        ([smooth(3, 33), far(-7)], r"image 5 runs from -7 to"),
        (smooth(1, 33), "2 images or more, 1 given"),
        ([], "2 images or more, 0 given"),
        (smooth(3, 33)[:, :1], r"shape \[n, 3, h, w\].*shape \[3, 1, 33, 33\].*repeat a grey channel"),
        (smooth(3, 33)[0], r"of shape \[3, 33, 33\]"),
        (np.zeros((3, 3, 33, 33), dtype=np.uint8), r"not torch\.uint8.*scale bytes by x / 127\.5 - 1"),
        (smooth(3, 30), r"LPIPS \(alex\) needs images of 31 pixels a side or more, \[30, 30\] given"),
        ([smooth(3, 40), smooth(3, 60)], "all images must have one size"),
    ],
)
def test_images_that_lpips_does_not_take_are_refused(alex: lpips.LPIPS, images: Any, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        mean_pairwise_lpips(images, alex)


@pytest.mark.parametrize(("net", "side"), sorted(diversity.SMALLEST_SIDE.items()))
def test_the_smallest_side_is_what_the_network_takes(net: str, side: int) -> None:
    model = network(net)
    model(smooth(1, side), smooth(1, side))
    with pytest.raises(RuntimeError, match="too small"):
        model(smooth(1, side - 1), smooth(1, side - 1))


def test_models_without_the_closed_form_are_refused(alex: lpips.LPIPS) -> None:
    images = smooth(3, 33)
    negative = deepcopy(alex)
    with torch.no_grad():
        negative.lin1.model[-1].weight[0, 5] = -0.1
    for model, message in (
        (torch.nn.Identity(), "must be an lpips.LPIPS, not Identity"),
        (network("alex", eval_mode=False), r"training mode.*call \.eval\(\)"),
        (network("alex", spatial=True), "maps, not distances: make it with spatial=False"),
        (negative, r"tap 1 go down to -0\.1"),
    ):
        with pytest.raises(LeadlineError, match=message):
            mean_pairwise_lpips(images, model)
    with pytest.raises(LeadlineError, match="batch_size must be 1 or more, not 0"):
        mean_pairwise_lpips(images, alex, batch_size=0)


@dataclass(frozen=True)
class Thirds:
    """An encoder whose one tap is the image itself; features: its values."""

    name: str = "thirds"
    calibrated: bool = False
    fingerprint: str = "0"
    description: str = "the image"
    batch_size: int = 4
    outputs: Mapping[str, int] = dataclass_field(default_factory=lambda: {"features": 192})

    @property
    def heads(self) -> list[torch.Tensor] | None:
        return [torch.tensor([0.5, 1.0, 2.0])] if self.calibrated else None

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self.encode_with_taps(images)[0]

    def encode_with_taps(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
        return {"features": images.reshape(len(images), -1)}, [torch.from_numpy(images)]


def noise(n: int, seed: int, labels: list[int] | None = None) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    known = None if labels is None else np.array(labels)
    return ImageSet(name="noise", pixels=pixels, labels=known, classes=("cat", "dog", "owl") if labels else ())


def measured(n: int = 10, labels: list[int] | None = None, **encoder: Any) -> list[Measurement]:
    """The diversity of n samples and 30 training images, 15 cats, 14 dogs and one owl."""
    context = AuditContext(
        samples=noise(n, 0),
        training=noise(30, 1, [0] * 15 + [1] * 14 + [2]),
        held_out=None,
        spec=AuditSpec(metrics=("diversity",)),
        class_names=("cat", "dog", "owl"),
        labels=None if labels is None else np.array(labels),
        labels_origin="",
        labeler=None,
        encoders=(Thirds(**encoder),),
        spaces=("labeler", "thirds"),
        missing={"features": "no labeler here", "labels": "no labels here"},
        fingerprints={"samples": "s", "training": "t", "thirds": "e"},
        device=torch.device("cpu"),
    )
    return [found for found in measure_diversity(context) if isinstance(found, Measurement)]


def of(found: list[Measurement], name: str, part: str, **params: Any) -> list[Measurement]:
    wanted = {"set": part, "space": "thirds features", **params}
    return [m for m in found if m.name == name and wanted.items() <= m.params.items()]


@pytest.mark.parametrize(
    ("calibrated", "name", "unit"),
    [
        (True, "mean_pairwise_lpips", "LPIPS (thirds)"),
        (False, "mean_pairwise_feature_distance", "thirds feature distance, uncalibrated"),
    ],
)
def test_distances_of_taps_are_told_over_all_pairs_within_and_between(calibrated: bool, name: str, unit: str) -> None:
    labels = [0] * 5 + [1] * 4 + [-1]
    found = measured(labels=labels, calibrated=calibrated)
    (total,) = of(found, name, "samples", pairs="all")
    images = torch.from_numpy(noise(10, 0).images()).double()
    weights = torch.tensor([0.5, 1.0, 2.0] if calibrated else [1.0] * 3)[:, None, None] / 64
    embedded = (images / images.norm(dim=1, keepdim=True) * weights.sqrt()).flatten(1)
    distances = torch.cdist(embedded, embedded).square().numpy()
    assert (total.unit, total.n, total.computed_from) == (unit, 10, {"samples": "s", "thirds": "e"})
    assert total.value == pytest.approx(distances.sum() / 90, rel=1e-6)
    within = {m.group: m for m in of(found, name, "samples", pairs="within")}
    assert within["cat"].value == pytest.approx(distances[:5, :5].sum() / 20, rel=1e-6)
    assert within["dog"].n == 4
    assert "of 'owl' there are 0" in str(within["owl"].reason)
    (between,) = of(found, name, "samples", pairs="between")
    assert (between.group, between.n) == ("cat × dog", 9)
    assert between.value == pytest.approx(distances[:5, 5:9].mean(), rel=1e-6)
    assert between.lower < between.value < between.upper  # type: ignore[operator]
    pairs = {m.group: m for m in of(found, name, "training", pairs="between")}
    assert set(pairs) == {"cat × dog", "cat × owl", "dog × owl"}
    assert pairs["cat × owl"].value is not None
    assert pairs["cat × owl"].lower is None, "one owl shows no spread"


def test_without_classes_only_the_total_is_told() -> None:
    found = of(measured(), "mean_pairwise_feature_distance", "samples")
    assert [m.params["pairs"] for m in found] == ["all"]


def test_many_classes_are_not_compared_two_by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "MOST_CLASSES", 2)
    (between,) = of(measured(), "mean_pairwise_feature_distance", "training", pairs="between")
    assert "3 classes are 3 pairs of classes" in str(between.reason)


def test_very_many_classes_are_not_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (diversity, context_module):
        monkeypatch.setattr(module, "MOST_GROUPS", 2)
    found = of(measured(), "mean_pairwise_feature_distance", "training")
    assert [m.params["pairs"] for m in found] == ["all", "within"]
    assert "kept for up to 2 classes, and there are 3" in str(found[1].reason)


def test_one_space_that_cannot_be_measured_leaves_the_others() -> None:
    found = measured()
    for name in ("mean_pairwise_distance", "vendi_score"):
        reasons = {
            m.params["set"]: m.reason for m in found if m.name == name and m.params["space"] != "thirds features"
        }
        assert reasons == {"samples": "no labeler here", "training": "no labeler here"}
        assert all(m.value is not None for part in reasons for m in of(found, name, part))


def test_the_vendi_score_is_that_of_equally_many_images() -> None:
    found = measured()
    samples, training = (of(found, "vendi_score", part)[0] for part in ("samples", "training"))
    assert (samples.n, training.n) == (10, 10)
    assert (samples.params["chosen_of"], training.params["chosen_of"]) == (10, 30)
    for m in (samples, training):
        assert 1 <= m.lower <= m.value <= m.upper <= 10  # type: ignore[operator]
    # 10 of 30 pictures of pure noise are as different from each other as any 10.
    assert training.value == pytest.approx(samples.value, rel=0.05)


def test_one_sample_has_a_reason_everywhere_and_the_training_data_its_distances() -> None:
    found = measured(n=1)
    for name in ("mean_pairwise_distance", "mean_pairwise_feature_distance", "vendi_score"):
        (made,) = of(found, name, "samples")
        assert "2 images or more" in str(made.reason) or "2 or more of each" in str(made.reason)
    assert of(found, "mean_pairwise_distance", "training")[0].value is not None


def test_copies_of_one_image_are_less_diverse_than_the_training_data(splits: Splits) -> None:
    samples = splits.train.pixels[[0] * 9 + [1]]
    result = leadline.measure(samples, splits, metrics="diversity", spec=AuditSpec(labeler_epochs=3))
    made, real = (result.find("mean_pairwise_distance", set=name)[0] for name in ("samples", "training"))
    assert made.value < real.value  # type: ignore[operator]
    assert (made.n, real.n) == (10, 80)
    assert made.lower is not None
    assert 0 <= made.lower <= made.value <= made.upper  # type: ignore[operator]


def test_one_sample_is_said_and_the_training_data_measured(splits: Splits) -> None:
    result = leadline.measure(splits.train.pixels[:1], splits, metrics="diversity", spec=AuditSpec(labeler_epochs=3))
    made, real = (result.find("mean_pairwise_distance", set=name)[0] for name in ("samples", "training"))
    assert "needs 2 images or more, the samples are 1" in str(made.reason)
    assert real.value is not None
