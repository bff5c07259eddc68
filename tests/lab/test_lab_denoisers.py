"""Denoisers that are known, given as a model: what is measured of them is known too."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.errors import NotMeasurable
from leadline.lab import distilling
from leadline.lab.denoisers import PAIRS, Comparing, compare_denoisers
from leadline.lab.evaluating import Once, Points
from leadline.lab.keeping import Kept
from leadline.lab.sources import LabModel, chosen, points
from leadline.models.denoiser import Denoiser
from leadline.records import Splits, TheoryResult
from leadline.theory.exact import GaussianDenoiser, MultiDeltaDenoiser

Make = Callable[..., LabModel]
SIGMAS = (20.0, 1.0, 0.1)
SPEC = Comparing(sigmas=SIGMAS, num_images=16, num_seeds=4, num_rows=256)


class Narrow(Denoiser):
    """Another denoiser's values, defined between two levels alone, and counted."""

    def __init__(self, denoiser: Denoiser, low: float, high: float) -> None:
        self.denoiser, self.calls = denoiser, 0
        self.shape, self.device = denoiser.shape, denoiser.device
        self.sigmas = torch.tensor([low, high], dtype=torch.float64)

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.calls += 1
        low, high = self.sigma_range
        if not low <= float(torch.as_tensor(sigma).min()) <= high:
            raise NotMeasurable(f"sigma {sigma:g} is outside the model's schedule")
        return self.denoiser(x, sigma)


class Curved(Narrow):
    """Another denoiser's values, squared: no affine map."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser, 0.01, 100)

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return super().__call__(x, sigma).square()


@pytest.fixture(scope="module")
def gaussian(digits: Splits) -> GaussianDenoiser:
    return GaussianDenoiser(points(digits.train))


def compared(models: Sequence[LabModel], folder: Path, spec: Comparing = SPEC, **options: object) -> TheoryResult:
    return compare_denoisers(models, spec, Kept(folder), **options)


def value(result: TheoryResult, name: str, **params: object) -> float:
    [found] = result.find(name, **params)
    assert found.value is not None, found.reason
    return found.value


@pytest.fixture(scope="module")
def of_gaussian(model_of: Make, gaussian: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> TheoryResult:
    return compared([model_of(gaussian, depth=3)], tmp_path_factory.mktemp("gaussian"))


def test_a_gaussian_as_the_model_is_found_to_be_one(of_gaussian: TheoryResult, gaussian: GaussianDenoiser) -> None:
    result = of_gaussian
    for sigma in SIGMAS:
        assert value(result, "score_difference", first="trained", second="gaussian", sigma=sigma) == 0
        assert value(result, "score_difference", first="linear", second="gaussian", sigma=sigma) < 1e-3
        assert value(result, "score_difference_share", first="trained", second="gaussian", sigma=sigma) == 0
        assert value(result, "linear_r_squared", sigma=sigma) == pytest.approx(1, abs=1e-4)
        assert value(result, "linear_estimation_error", sigma=sigma) < 1e-3
    assert value(result, "sample_distance", first="trained", second="gaussian") == 0
    assert value(result, "sample_distance", first="linear", second="gaussian") < 0.01
    assert value(result, "trajectory_distance", first="linear", second="gaussian", sigma=20.0) == 0
    coarse = value(result, "discretisation_error", denoiser="gaussian")
    start = torch.from_numpy(result.arrays["gaussian-x"][0])
    exact = gaussian.flow(start, 20.0, 0.0).numpy()
    apart = np.sqrt(np.square(result.arrays["gaussian-x"][-1] - exact).mean(axis=(1, 2, 3))).mean()
    assert coarse == pytest.approx(apart, rel=1e-5)
    [row] = result.find("score_difference", first="trained", second="multi-delta", sigma=1.0)
    assert row.params == {
        "model": "known",
        "num_train": 96,
        "depth": 3,
        "first": "trained",
        "second": "multi-delta",
        "sigma": 1.0,
    }
    assert (row.n, row.level) == (16, 0.95)


def test_a_multi_delta_as_the_model_is_found_to_be_one(model_of: Make, digits: Splits, tmp_path: Path) -> None:
    result = compared([model_of(MultiDeltaDenoiser(points(digits.train)))], tmp_path)
    for name in ("trained", "multi-delta"):
        assert value(result, "nearest_training_distance", set=name) == 0
        assert value(result, "effective_k", denoiser=name, sigma=20.0) == pytest.approx(93.7, abs=0.3)
    assert value(result, "nearest_training_distance", set="gaussian") > 0.1
    assert value(result, "nearest_training_distance", set="held-out") > 0.1
    assert value(result, "temperature_ratio", denoiser="trained", sigma=1.0) == pytest.approx(1, rel=0.02)
    assert value(result, "effective_k_r_squared", denoiser="trained", sigma=1.0) > 0.999
    for sigma in SIGMAS:
        [share] = result.find("score_difference_share", first="trained", second="gaussian", sigma=sigma)
        assert share.value == pytest.approx(1)
    # The best affine map of total memorization is the Gaussian denoiser: D_L ≈ D_G holds here too.
    assert value(result, "score_difference_share", first="linear", second="gaussian", sigma=1.0) < 0.7


def test_levels_outside_the_model_are_rows_with_a_reason(model_of: Make, gaussian: Denoiser, tmp_path: Path) -> None:
    result = compared([model_of(Narrow(gaussian, 0.05, 5.0))], tmp_path)
    for first, second in PAIRS:
        for sigma in SIGMAS:
            [row] = result.find("score_difference", first=first, second=second, sigma=sigma)
            if sigma == 20 and {first, second} & {"trained", "linear"}:
                assert row.reason == "sigma 20 is outside the model's schedule"
            else:
                assert row.value is not None
    [k] = result.find("effective_k", denoiser="trained", sigma=20.0)
    assert k.reason == "sigma 20 is outside the model's schedule"
    assert result.arrays["levels"].tolist() == [1, 0.1, 0]
    assert result.arrays["trained-x"].shape == (3, 4, 1, 8, 8)


def test_no_level_within_the_model(model_of: Make, gaussian: Denoiser, tmp_path: Path) -> None:
    result = compared([model_of(Narrow(gaussian, 0.4, 0.5))], tmp_path)
    [none] = result.find("sample_distance")
    assert "needs two noise levels or more at which every denoiser is defined" in str(none.reason)
    assert not result.panels


def test_images_too_large_to_distil_go_without_the_linear_one(
    model_of: Make, gaussian: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distilling, "MOST_VALUES", 63)
    result = compared([model_of(gaussian)], tmp_path)
    [row] = result.find("score_difference", first="linear", second="gaussian", sigma=1.0)
    assert row.reason == "an image has 64 values, and a linear denoiser is distilled for up to 63"
    assert [panel.row_titles for panel in result.panels] == [("trained", "Gaussian", "multi-delta")] * 2


def test_an_interrupted_comparison_goes_on(model_of: Make, gaussian: Denoiser, tmp_path: Path) -> None:
    denoiser = Narrow(gaussian, 0.01, 100)
    first = compared([model_of(denoiser)], tmp_path)
    denoiser.calls = 0
    assert list(compared([model_of(denoiser)], tmp_path)) == list(first)
    assert denoiser.calls == 0
    more = compared([model_of(denoiser)], tmp_path, replace(SPEC, sigmas=(*SIGMAS, 5.0)))
    assert denoiser.calls > 0
    assert more.find("score_difference", sigma=1.0) == first.find("score_difference", sigma=1.0)


def test_all_start_from_one_noise_and_the_panels_show_it(of_gaussian: TheoryResult) -> None:
    result = of_gaussian
    names = ("trained", "linear", "gaussian", "multi-delta")
    starts = [result.arrays[f"{name}-x"][0] for name in names]
    assert all(np.array_equal(start, starts[0]) for start in starts)
    samples, way = result.panels
    assert samples.tiles.shape == (4, 4, 1, 8, 8)
    assert way.column_titles == ("σ = 20", "σ = 1", "σ = 0.1", "sample")
    assert np.array_equal(samples.tiles[:, 0], way.tiles[:, -1])


def test_the_exact_denoisers_of_data_alone(digits: Splits, tmp_path: Path) -> None:
    result = compared([], tmp_path, data=digits)
    assert {(m.params["first"], m.params["second"]) for m in result.find("score_difference")} == {
        ("gaussian", "multi-delta")
    }
    assert list(result.settings["models"]) == ["digits"]
    assert value(result, "nearest_training_distance", set="multi-delta") == 0


def test_several_models_are_told_apart(model_of: Make, gaussian: Denoiser, tmp_path: Path) -> None:
    models = [model_of(gaussian, name="one"), model_of(Narrow(gaussian, 0.01, 100), name="two")]
    result = compared(models, tmp_path, replace(SPEC, sigmas=(1.0, 0.1)))
    assert {m.params["model"] for m in result} == {"one", "two"}
    assert [panel.name for panel in result.panels] == ["samples", "trajectory", "samples-2", "trajectory-2"]
    assert "levels-2" in result.arrays


def test_without_held_out_images_the_linear_map_is_of_all_and_judged_by_a_second_fit(
    model_of: Make, gaussian: Denoiser, digits: Splits, tmp_path: Path
) -> None:
    steep = Curved(gaussian)
    alone = model_of(steep, splits=Splits(train=digits.train))
    [fit] = distilling.distilled(alone, [1.0], 0, Kept(tmp_path / "alone"), num_rows=960).fits
    given = model_of(steep, splits=Splits(train=digits.train, held_out=digits.train.take(range(9))))
    [same] = distilling.distilled(given, [1.0], 0, Kept(tmp_path / "given"), num_rows=960).fits
    assert torch.equal(fit.weight, same.weight)
    assert (fit.num_rows, fit.num_held_out) == (960, 9)
    assert fit.held_out == "a tenth of the images, held back from a second fit"
    assert fit.r_squared < same.r_squared - 1e-4


def test_fewer_rows_than_images_are_of_images_from_everywhere(
    model_of: Make, gaussian: Denoiser, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.arange(len(digits.train)).repeat(4)
    many = Splits(train=digits.train.take(order, "many"), held_out=digits.held_out)
    seen = []
    whole = distilling.LinearDenoiser.distill
    monkeypatch.setattr(
        distilling.LinearDenoiser,
        "distill",
        lambda d, images, *a, **k: seen.append(images) or whole(d, images, *a, **k),
    )
    result = compared([model_of(gaussian, splits=many)], tmp_path, replace(SPEC, sigmas=(1.0, 0.1)))
    assert len(seen[0]) == 256
    # Of 96 different images in blocks of four, the first 256 hold 64.
    assert len(torch.unique(seen[0], dim=0)) > 80
    assert result.settings["models"]["known"]["fitted_to"] == 256


def test_points_are_held_out_where_there_are_some(digits: Splits) -> None:
    assert Points.of(digits, 8, 0).split == "held-out"
    assert len(Points.of(digits, 1000, 0).images) == 32
    trained_on = Points.of(Splits(train=digits.train), 8, 0)
    assert trained_on.split == "training"
    assert torch.equal(trained_on.images, points(chosen(digits.train, 8, 0)))
    with pytest.raises(ValueError, match="an interval over images needs two or more, 1 given"):
        Points.of(digits, 1, 0)


def test_a_denoiser_is_asked_once_per_point(gaussian: Denoiser) -> None:
    counted = Narrow(gaussian, 0.01, 100)
    once, x = Once(counted, batch_size=3), torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(once(x, 1.0), gaussian(x, 1.0))
    assert counted.calls == 3
    once(x, 1.0)
    assert counted.calls == 3
    assert not torch.equal(once(x, 2.0), once(x.clone(), 1.0))
    assert counted.calls == 9


@pytest.mark.parametrize("sigmas", [(), (1.0, 1.0), (0.0,), (-1.0,), (float("inf"),), (float("nan"),)])
def test_noise_levels_that_are_none_are_refused(digits: Splits, tmp_path: Path, sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="noise levels are numbers above 0, each once"):
        compared([], tmp_path, replace(SPEC, sigmas=sigmas), data=digits)


def test_too_few_rows_for_a_linear_map(model_of: Make, gaussian: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not fitted to 100 noisy images: 192 at least, .* \(--rows\)"):
        compared([model_of(gaussian)], tmp_path, replace(SPEC, num_rows=100))


def test_neither_model_nor_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give a model, or the training data .* \(--train DATA\)"):
        compared([], tmp_path)
