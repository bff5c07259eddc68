"""Linear distillation against maps whose answer is known, and against gradient descent."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.theory.differences import score_difference
from leadline.theory.exact import GaussianDenoiser, LinearDenoiser, MultiDeltaDenoiser
from leadline.theory.exact.moments import Moments
from leadline.theory.noise import unit_noise


class Affine(Denoiser):
    """A random W x + b that changes with sigma; counts the images it was asked about."""

    def __init__(self, shape, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.shape, self.device, self.sigmas = shape, torch.device("cpu"), ddpm_sigmas()
        d = math.prod(shape)
        self.matrix = torch.randn(d, d, generator=generator, dtype=torch.float64)
        self.offset = torch.randn(d, generator=generator, dtype=torch.float64)
        self.seen = 0

    def map_at(self, sigma):
        return self.matrix / (1 + sigma), self.offset + sigma

    def __call__(self, x, sigma):
        self.seen += len(x)
        if sigma > 100:
            raise NotMeasurable(f"sigma = {sigma} is outside this model's range")
        weight, bias = self.map_at(sigma)
        return (x.flatten(1).double() @ weight.T + bias).to(x.dtype).reshape(x.shape)


class Curved(Affine):
    """A smooth map that no line follows."""

    def __call__(self, x, sigma):
        return torch.tanh(super().__call__(x, sigma))


def images(n, shape=(1, 3, 3), seed=0):
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def rows(data, sigma, num_draws):
    """The rows that `distill` fits with seed 0."""
    repeated = data.repeat(num_draws, 1, 1, 1)
    return (repeated + sigma * unit_noise(repeated, 0, purpose="distillation")).flatten(1)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from([(1, 1, 2), (1, 2, 2), (3, 2, 1)]),
    sigma=st.floats(0.002, 80),
    n=st.integers(2, 30),
)
def test_the_map_of_an_affine_denoiser_is_recovered(seed, shape, sigma, n):
    affine = Affine(shape, seed)
    found = LinearDenoiser.distill(affine, images(n, shape), sigma, ridge=0, seed=seed)
    weight, bias = affine.map_at(sigma)
    torch.testing.assert_close(found.weight(sigma), weight, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.bias(sigma), bias, rtol=1e-6, atol=1e-5)
    assert found.r_squared[0] == pytest.approx(1, abs=1e-9)


def test_the_default_ridge_leaves_an_affine_map_as_it_is_at_the_least_noise():
    # All images but one value alike: eight directions have no variance but the noise's.
    flat = images(40).mul_(torch.eye(9, dtype=torch.float64)[0].reshape(1, 3, 3))
    affine = Affine((1, 3, 3))
    found = LinearDenoiser.distill(affine, flat, 0.002)
    torch.testing.assert_close(found.weight(0.002), affine.map_at(0.002)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.02, 1.5])
def test_the_linear_denoiser_of_the_gaussian_one_is_the_gaussian_one(sigma):
    data = images(30).float()
    gaussian = GaussianDenoiser(data)
    linear = LinearDenoiser.distill(gaussian, data, sigma)
    assert score_difference(linear, gaussian, data + sigma, sigma).max() < 1e-4


def test_it_agrees_with_gradient_descent():
    curved, data, sigma = Curved((1, 2, 2)), images(20, (1, 2, 2)), 0.7
    found = LinearDenoiser.distill(curved, data, sigma, num_draws=3, held_out=images(8, (1, 2, 2), 1), ridge=0)
    x = rows(data, sigma, 3)
    target = curved(x.reshape(-1, 1, 2, 2), sigma).flatten(1)
    weight = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        loss = (x @ weight.T + bias - target).square().sum(1).mean()
        for value, slope in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            value.data -= 0.3 * slope
    torch.testing.assert_close(found.weight(sigma), weight.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.bias(sigma), bias.detach(), rtol=1e-6, atol=1e-6)
    assert 0 < found.r_squared[0] < 1


def test_the_ridge_is_relative_to_the_noise_and_shrinks_towards_the_mean():
    data, sigma, ridge = images(30), 0.3, 0.5
    found = LinearDenoiser.distill(Affine((1, 3, 3)), data, sigma, ridge=ridge, num_draws=2, held_out=data)
    x = rows(data, sigma, 2)
    weight, bias = Affine((1, 3, 3)).map_at(sigma)
    target = x @ weight.T + bias
    covariance = torch.cov(x.T, correction=0)
    centred = x - x.mean(0)
    expected = torch.linalg.solve(
        covariance + ridge * sigma**2 * torch.eye(9, dtype=torch.float64), centred.T @ (target - target.mean(0)) / 60
    ).T
    torch.testing.assert_close(found.weight(sigma), expected)
    torch.testing.assert_close(found.bias(sigma), target.mean(0) - expected @ x.mean(0))
    assert found.fits[0].ridge == ridge
    assert found.r_squared[0] < 1 - 1e-3


def test_the_batch_size_changes_no_digit_that_matters():
    one, many = (
        LinearDenoiser.distill(Curved((1, 3, 3)), images(50).float(), [0.1, 5.0], batch_size=size) for size in (7, 500)
    )
    for sigma in (0.1, 5.0):
        torch.testing.assert_close(one.weight(sigma), many.weight(sigma), rtol=1e-5, atol=1e-6)
    assert one.r_squared == pytest.approx(many.r_squared, abs=1e-6)


def test_moments_far_from_zero_lose_nothing_to_the_mean():
    generator = torch.Generator().manual_seed(0)
    x = 1e6 + torch.randn(200, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    moments = Moments(x[0])
    for rows in x.split(64):
        moments.add(rows, rows @ weight.T)
    torch.testing.assert_close(moments.solve(0)[0], weight, rtol=1e-7, atol=1e-7)


def test_rows_that_span_too_little_are_refused_by_the_solver():
    moments = Moments(torch.zeros(3))
    moments.add(torch.ones(5, 3), torch.ones(5, 3))
    with pytest.raises(LeadlineError, match="larger ridge"):
        moments.solve(0)


def test_the_error_of_a_single_draw_is_that_of_other_images_too():
    """Fits to a few images each, drawn once, against one to them all."""
    curved, data, held_out = Curved((1, 3, 3)), images(400), images(400, seed=1)
    few = [LinearDenoiser.distill(curved, part, 1.0, num_draws=1, held_out=held_out) for part in data.split(40)]
    many = LinearDenoiser.distill(curved, data, 1.0, num_draws=10, held_out=held_out)
    x = held_out + unit_noise(held_out, 1)
    seen = torch.stack([(fit(x, 1.0) - many(x, 1.0)).square().mean() for fit in few]).mean().sqrt()
    expected = sum(fit.fits[0].estimation_rms for fit in few) / len(few)
    assert float(seen) == pytest.approx(expected, rel=0.25)
    assert many.fits[0].estimation_rms < expected / 5


@pytest.mark.parametrize(("kind", "sigma"), [("delta", 0.05), ("delta", 0.3), ("curved", 0.3)])
def test_the_expected_error_of_estimation_is_that_of_the_noise_drawn(kind, sigma):
    """Against very many draws of the same images: on a model that knows them by heart the residual says far more."""
    data, held_out = images(60).float(), images(100, seed=1).float()
    denoiser = MultiDeltaDenoiser(data) if kind == "delta" else Curved((1, 3, 3))
    many = LinearDenoiser.distill(denoiser, data, sigma, num_draws=60, held_out=held_out, seed=99)
    x = held_out + sigma * unit_noise(held_out, 1)
    few = [LinearDenoiser.distill(denoiser, data, sigma, num_draws=2, held_out=held_out, seed=s) for s in range(6)]
    seen = torch.stack([(fit(x, sigma) - many(x, sigma)).square().mean() for fit in few]).mean().sqrt()
    expected = math.sqrt(sum(fit.fits[0].estimation_rms ** 2 for fit in few) / len(few))
    assert float(seen) == pytest.approx(expected, rel=0.2)
    assert many.fits[0].estimation_rms < expected / 3
    if (kind, sigma) == ("delta", 0.05):
        assert expected < 0.1 * few[0].fits[0].residual_rms


@pytest.mark.parametrize(
    ("weight", "words"), [(torch.zeros(4, 4), "weight of 9 × 9"), (torch.full((9, 9), math.inf), "not finite")]
)
def test_a_map_that_does_not_fit_is_refused_where_it_is_read(tmp_path, weight, words):
    path = tmp_path / "linear.safetensors"
    LinearDenoiser.distill(Affine((1, 3, 3)), images(20).float(), 0.5).save(path)
    with safe_open(path, "pt") as opened:
        facts = opened.metadata()
    save_file({"weight.0": weight, "bias.0": torch.zeros(len(weight))}, path, metadata=facts)
    with pytest.raises(LeadlineError, match=words):
        LinearDenoiser.load(path)


def test_what_recalls_single_images_is_not_linear_at_low_noise_and_nearly_so_at_high():
    data = images(60).float()
    found = LinearDenoiser.distill(MultiDeltaDenoiser(data), data, [0.4, 10.0], held_out=data)
    low, high = found.r_squared
    assert low < 0.8
    assert high > 0.95
    for fit in found.fits:
        assert fit.interval[0] < fit.r_squared < fit.interval[1]
        assert (fit.num_held_out, fit.held_out) == (60, "images given for it")


def test_held_back_images_are_not_fitted():
    """A denoiser that knows each image by heart: R² on images of the fit would say more than it can know."""
    data = images(20)
    found = LinearDenoiser.distill(Affine((1, 3, 3)), data, 0.5, num_draws=4)
    assert found.fits[0].num_rows == 18 * 4
    assert (found.fits[0].num_held_out, found.fits[0].held_out) == (2, "a tenth of the images, held back")


def test_default_draws_give_four_rows_per_value():
    assert LinearDenoiser.distill(Affine((1, 3, 3)), images(11), 0.5).fits[0].num_rows == 40
    assert LinearDenoiser.distill(Affine((1, 1, 2)), images(100, (1, 1, 2)), 0.5).fits[0].num_rows == 90


def test_levels_of_each_image_and_levels_between():
    data = images(20)
    exact = LinearDenoiser.distill(Affine((1, 3, 3)), data, [4.0, 1.0])
    assert exact.sigmas.tolist() == [1.0, 4.0]
    assert exact.sigma_range == (1.0, 4.0)
    both = exact(data[:3], torch.tensor([4.0, 1.0, 4.0]))
    torch.testing.assert_close(both[1:2], exact(data[1:2], 1.0))
    torch.testing.assert_close(both[[0, 2]], exact(data[[0, 2]], 4.0))
    assert exact(data[:0], 1.0).shape == (0, 1, 3, 3)
    with pytest.raises(NotMeasurable, match=r"distilled at sigma = 1, 4, not at 2: .* interpolate"):
        exact(data, 2.0)
    between = LinearDenoiser(exact.fits, exact.shape, interpolate=True)
    torch.testing.assert_close(between(data, 2.0), (exact(data, 1.0) + exact(data, 4.0)) / 2)
    torch.testing.assert_close(between.weight(2.0), (exact.weight(1.0) + exact.weight(4.0)) / 2)
    torch.testing.assert_close(between(data, 1.0), exact(data, 1.0))
    with pytest.raises(NotMeasurable, match="not at 5"):
        between(data, 5.0)
    with pytest.raises(NotMeasurable, match="not at 0"):
        between(data, 0.0)


def test_a_level_in_float32_is_the_level_it_was_distilled_at():
    linear = LinearDenoiser.distill(Affine((1, 3, 3)), images(20).float(), 0.469)
    x = images(2).float()
    assert torch.equal(linear(x, torch.full((2,), 0.469)), linear(x, 0.469))


def test_it_is_read_back_as_it_was_written(tmp_path):
    linear = LinearDenoiser.distill(Curved((1, 3, 3)), images(20).float(), [0.5, 2.0], interpolate=True)
    linear.save(tmp_path / "linear.safetensors")
    read = LinearDenoiser.load(tmp_path / "linear.safetensors")
    x = images(4).float()
    assert torch.equal(read(x, 1.0), linear(x, 1.0))
    assert [(f.r_squared, f.interval, f.residual_rms, f.estimation_rms, f.held_out) for f in read.fits] == [
        (f.r_squared, f.interval, f.residual_rms, f.estimation_rms, f.held_out) for f in linear.fits
    ]


def test_another_file_is_no_linear_denoiser(tmp_path):
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("text", "other", "missing"):
        with pytest.raises(LeadlineError, match="holds no linear denoiser"):
            LinearDenoiser.load(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": []}, "levels above 0"),
        ({"sigma": [1.0, 0.0]}, "last level of a sampler's grid"),
        ({"sigma": [1.0, 1.0]}, "given twice"),
        ({"sigma": 1.0, "ridge": -1.0}, "ridge must be 0 or more"),
        ({"sigma": 1.0, "num_draws": 1, "images": images(10)}, "9 rows for 9 values .* num_draws=3"),
        ({"sigma": 1.0, "images": images(1)}, "two images or more"),
        ({"sigma": 1.0, "images": images(5, (1, 2, 2))}, "takes images of"),
        ({"sigma": 1.0, "held_out": images(5, (1, 2, 2))}, "held_out needs"),
        ({"sigma": [1.0, 101.0]}, "outside this model's range"),
    ],
)
def test_bad_input_is_refused_before_the_work(change, words):
    affine = Affine((1, 3, 3))
    options = {"images": images(20), **change}
    with pytest.raises(LeadlineError, match=words):
        LinearDenoiser.distill(affine, **options)
    assert affine.seen <= 2


def test_output_that_is_no_number_is_not_measurable():
    class Broken(Affine):
        def __call__(self, x, sigma):
            return x / 0

    with pytest.raises(NotMeasurable, match="not finite"):
        LinearDenoiser.distill(Broken((1, 3, 3)), images(20), 1.0)


def test_a_denoiser_that_never_changes_has_no_r_squared():
    class Constant(Affine):
        def __call__(self, x, sigma):
            return torch.zeros_like(x)

    fit = LinearDenoiser.distill(Constant((1, 3, 3)), images(20).float(), 1.0).fits[0]
    assert math.isnan(fit.r_squared)
    assert fit.interval is None


def test_progress_counts_every_row_once():
    seen = []
    LinearDenoiser.distill(Affine((1, 3, 3)), images(20), [1.0, 2.0], progress=lambda *told: seen.append(told))
    counts = [done for _, done, _, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == seen[-1][2]
    assert {stage for stage, *_ in seen} == {"distilling"}
