"""Samplers against diffusers' schedulers, closed forms, and known class shares."""

import itertools
import json
import math
import subprocess
import sys
import warnings

import datasets
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from PIL import Image

from leadline.audit.intervals import clopper_pearson
from leadline.data.shards import read_shards
from leadline.errors import NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.models.pretrained import DiffusersDenoiser
from leadline.models.unet import depth_unet
from leadline.recipe import SampleSpec, SteerSpec
from leadline.rng import generator_for
from leadline.sampling import (
    SAMPLERS,
    check,
    decode,
    draw,
    encode,
    karras_grid,
    noise_levels,
    sample,
    starting_noise,
    states,
    to_pixels,
    trailing_grid,
)
from leadline.schedules import constant, window
from leadline.steering import bypass
from leadline.theory.exact import MultiDeltaDenoiser


class Gaussian(Denoiser):
    """The exact denoiser of x0 ~ N(mean, spread^2 I): P2 Eq. 7 with one eigenvalue."""

    shape = (1, 2, 2)
    sigmas = ddpm_sigmas()
    device = torch.device("cpu")

    def __init__(self, mean=0.2, spread=0.3):
        self.mean, self.variance = mean, spread**2

    def __call__(self, x, sigma):
        return self.mean + self.variance / (self.variance + sigma**2) * (x - self.mean)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    return DiffusersDenoiser(depth_unet(2, in_channels=1, sample_size=8), DDIMScheduler(clip_sample=False))


def spec(**fields):
    return SampleSpec(**{"sampler": "ddim", "steps": 10, "clip_x0": False, **fields})


def test_ddim_is_diffusers_ddim(denoiser):
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    x = torch.stack([torch.randn(1, 8, 8, generator=generator_for(3, "sample", i)) for i in range(4)])
    with torch.no_grad():
        for step in scheduler.timesteps:
            x = scheduler.step(denoiser.unet(x, step).sample, step, x).prev_sample
    torch.testing.assert_close(sample(denoiser, 3, range(4), spec()), x, rtol=1e-3, atol=1e-3)


def test_ancestral_is_diffusers_ddpm():
    scheduler = DDPMScheduler(clip_sample=False, timestep_spacing="trailing", variance_type="fixed_small")
    scheduler.set_timesteps(250)
    streams = [generator_for(3, "sample", i) for i in range(2)]
    x = torch.stack([torch.randn(1, 8, 8, generator=s) for s in streams])
    # A U-Net with random weights would amplify rounding over 250 steps; a fixed linear one does not.
    linear = lambda x: 0.5 * x  # noqa: E731

    class Linear(Gaussian):
        shape = (1, 8, 8)

        def __call__(self, x, sigma):
            return x - sigma * linear(x / math.sqrt(1 + sigma**2))

    given = sample(Linear(), 3, range(2), spec(sampler="ancestral", steps=250))
    for step in scheduler.timesteps:
        alpha, previous = scheduler.alphas_cumprod[step], scheduler.previous_timestep(step)
        before = scheduler.alphas_cumprod[previous] if previous >= 0 else torch.tensor(1.0)
        x0 = (x - (1 - alpha).sqrt() * linear(x)) / alpha.sqrt()
        # 2006.11239 Eq. 7 in its own variables, with beta of the step that is taken.
        beta = 1 - alpha / before
        x = before.sqrt() * beta / (1 - alpha) * x0 + (alpha / before).sqrt() * (1 - before) / (1 - alpha) * x
        if previous >= 0:
            noise = torch.stack([torch.randn(1, 8, 8, generator=s) for s in streams])
            x = x + (beta * (1 - before) / (1 - alpha)).sqrt() * noise
    torch.testing.assert_close(given, x, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence_on_the_closed_form_flow(sampler, order):
    denoiser = Gaussian()
    noise = torch.stack([torch.randn(1, 2, 2, generator=generator_for(0, "sample", i)) for i in range(8)])
    top = float(denoiser.sigmas[-1])
    start = noise.double() * math.sqrt(top**2 + 1)
    exact = denoiser.mean + math.sqrt(denoiser.variance / (denoiser.variance + top**2)) * (start - denoiser.mean)
    # Only the levels above 0 show the order: the last step, to 0, is exact for a Gaussian up to its own small size.
    errors = []
    for steps in (20, 40, 80):
        given = sample(denoiser, 0, range(8), spec(sampler=sampler, steps=steps)).double()
        errors.append(float((given - exact).abs().max()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.35)


class Fine(Gaussian):
    """With a ladder whose foot is so low that the steps between its ends decide the error."""

    sigmas = torch.logspace(-4, 1.5, 1000, dtype=torch.float64)


def encoded(denoiser, images, sigma):
    """The closed form of the probability-flow ODE upward."""
    stretch = math.sqrt((denoiser.variance + sigma**2) / denoiser.variance)
    return denoiser.mean + stretch * (images - denoiser.mean)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_encoding_converges_to_the_closed_form_and_decoding_undoes_it(sampler, order):
    denoiser, images = Fine(), torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
    up, back = [], []
    for steps in (40, 80, 160):
        options = spec(sampler=sampler, steps=steps)
        start = encode(denoiser, images, options)
        assert start.dtype == torch.float64
        up.append(float((start / encoded(denoiser, images, float(denoiser.sigmas[-1])) - 1).abs().max()))
        back.append(float((decode(denoiser, start, options) - images).abs().max()))
    assert math.log2(up[-2] / up[-1]) == pytest.approx(order, abs=0.35)
    # Heun's leading errors of the two ways cancel.
    assert math.log2(back[-2] / back[-1]) > order - 0.35
    assert back[-1] < (0.05 if order == 1 else 2e-3)


def test_ways_from_and_to_a_level_between():
    denoiser, images = Fine(), torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
    options = spec(sampler="heun", steps=80)
    start = encode(denoiser, images, options, sigma=1.5)
    torch.testing.assert_close(start, encoded(denoiser, images, 1.5), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(decode(denoiser, start, options, sigma=1.5), images, rtol=0, atol=2e-3)
    grid = noise_levels(denoiser, options)
    assert noise_levels(denoiser, options, 1.5) == [1.5, *(level for level in grid if level < 1.5)]
    with pytest.raises(ValueError, match=r"from sigma 100: the model is defined from 0\.0001 to 31\.62"):
        decode(denoiser, start, options, sigma=100)


@pytest.mark.parametrize("sigma", [0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("way", [encode, decode])
def test_there_is_no_way_from_or_to_a_level_that_is_none(way, sigma):
    exact = MultiDeltaDenoiser(torch.zeros(1, 1, 2, 2))
    with pytest.raises(NotMeasurable, match="needs one above 0 and finite, not sigma"):
        way(exact, torch.zeros(2, 1, 2, 2), spec(), sigma=sigma)


@pytest.mark.parametrize("name", ["ddim", "euler", "heun"])
def test_the_states_lead_from_the_starting_noise_to_the_sample(denoiser, name):
    options = spec(sampler=name, steps=4, clip_x0=True)
    start = starting_noise(denoiser, 5, range(3), options)
    way = list(states(denoiser, start, options))
    assert [sigma for sigma, _, _ in way] == noise_levels(denoiser, options)
    assert torch.equal(way[0][1], start)
    with torch.no_grad():
        for sigma, x, x0 in way[:-1]:
            assert torch.equal(x0, denoiser(x, sigma).clamp(-1, 1))
    _, x, x0 = way[-1]
    assert x is x0
    assert torch.equal(x, sample(denoiser, 5, range(3), options))
    assert torch.equal(x, decode(denoiser, start, options))
    lower = starting_noise(denoiser, 5, range(3), options, sigma=2)
    torch.testing.assert_close(lower, start * math.sqrt(5 / (way[0][0] ** 2 + 1)))


def test_states_take_levels_of_their_own(denoiser):
    start = starting_noise(denoiser, 0, range(2), spec(), sigma=3)
    way = list(states(denoiser, start, spec(sampler="heun"), levels=[3.0, 1.0, 0.0]))
    assert [sigma for sigma, _, _ in way] == [3.0, 1.0, 0.0]


def test_a_sampler_that_draws_noise_follows_no_ode(denoiser):
    options = spec(sampler="ancestral")
    for way in (encode, decode):
        with pytest.raises(ValueError, match="ancestral follows no ODE"):
            way(denoiser, torch.zeros(1, 1, 8, 8), options)
    with pytest.raises(ValueError, match="draws noise on its way, and was given none"):
        list(states(denoiser, torch.zeros(1, 1, 8, 8), options))


def spread_after(name, steps, denoiser):
    """The spread that a sampler leaves, by following the variance of a Gaussian through its linear steps."""
    levels = SAMPLERS[name].grid(denoiser.sigmas, steps).tolist()
    variance = levels[0] ** 2 + 1
    for sigma, after in itertools.pairwise(levels):
        slope = sigma / (denoiser.variance + sigma**2)  # of (x - D) / sigma in x
        factor, fresh = 1 + (after - sigma) * slope, 0.0
        if name == "heun" and after > 0:
            factor = 1 + (after - sigma) * (slope + after / (denoiser.variance + after**2) * factor) / 2
        if name == "ancestral":
            ratio = (after / sigma) ** 2
            factor, fresh = 1 - (1 - ratio) * sigma * slope, after**2 * (1 - ratio)
        variance = factor**2 * variance + fresh
    return math.sqrt(variance)


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.filterwarnings("ignore:ancestral")
def test_every_sampler_leaves_the_gaussian_that_its_steps_predict(name):
    denoiser = Gaussian()
    images = sample(denoiser, 1, range(2000), spec(sampler=name, steps=50))
    spread = spread_after(name, 50, denoiser)
    assert float(images.mean()) == pytest.approx(0.2, abs=4 * spread / math.sqrt(8000))
    assert float(images.std()) == pytest.approx(spread, rel=4 / math.sqrt(16000))
    assert spread_after(name, 1000, denoiser) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 7, 250])
def test_grids_fall_from_the_top_of_the_ladder_to_0(name, steps):
    ladder = ddpm_sigmas()
    grid = SAMPLERS[name].grid(ladder, steps)
    assert len(grid) == steps + 1
    assert grid[0] == ladder[-1]
    assert grid[-1] == 0
    assert torch.all(grid.diff() < 0)
    assert torch.all(grid[:-1] >= ladder[0])


def test_too_many_steps_are_refused():
    assert len(karras_grid(ddpm_sigmas(), 2000)) == 2001
    with pytest.raises(ValueError, match="1001 sampler steps, but the schedule has 1000"):
        trailing_grid(ddpm_sigmas(), 1001)


@pytest.mark.parametrize("name", ["ddim", "ancestral"])
@pytest.mark.filterwarnings("ignore:ancestral")
def test_an_image_depends_on_its_seed_and_index_alone(denoiser, name):
    """The starting noise to the bit, the images within float tolerance, at batch sizes 1, 7 and 64."""
    options = spec(sampler=name, steps=3, clip_x0=True)
    whole = sample(denoiser, 5, range(64), options)
    sevens = torch.cat([sample(denoiser, 5, range(i, min(i + 7, 64)), options) for i in range(0, 64, 7)])
    ones = torch.cat([sample(denoiser, 5, [i], options) for i in range(0, 64, 9)])
    torch.testing.assert_close(sevens, whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ones, whole[::9], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(sample(denoiser, 6, range(2), options), whole[:2], atol=0.1)


def test_starting_noise_is_bit_exact_at_any_batch_size():
    class Recorder(Gaussian):
        def __call__(self, x, sigma):
            self.seen.append(x.clone())
            return x

        def start(self, indices):
            self.seen = []
            sample(self, 5, indices, spec(steps=1))
            return self.seen[0]

    recorder = Recorder()
    whole = recorder.start(range(64))
    for size in (1, 7):
        parts = [recorder.start(range(i, min(i + size, 64))) for i in range(0, 64, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_clipping_holds_the_estimate_within_the_images_range():
    far = Gaussian(mean=3.0, spread=0.1)
    assert sample(far, 0, range(4), spec(clip_x0=False)).min() > 2
    assert sample(far, 0, range(4), spec(clip_x0=True)).max() <= 1


def test_pixels_are_rounded_and_held():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5)
    assert to_pixels(images).flatten().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(("steps", "warns"), [(50, True), (249, True), (250, False)])
def test_a_coarse_ancestral_grid_warns(steps, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(spec(sampler="ancestral", steps=steps), ddpm_sigmas())
    assert any("bends class shares" in str(w.message) for w in caught) == warns


def test_an_unknown_sampler_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown sampler 'dim': did you mean 'ddim'"):
        check(spec(sampler="dim"), ddpm_sigmas())


@pytest.fixture(scope="module")
def sixes_and_nines():
    """180 sixes and 20 nines of the embedded digits: images in [-1, 1] and which are nines."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.concatenate([np.flatnonzero(digits.target == 6)[:180], np.flatnonzero(digits.target == 9)[:20]])
    images = torch.from_numpy(digits.images[chosen]).float().unsqueeze(1) / 8 - 1
    return images, torch.from_numpy(digits.target[chosen] == 9)


@pytest.mark.parametrize(("name", "steps"), [("ddim", 25), ("euler", 25), ("heun", 25), ("ddim", 50)])
def test_deterministic_samplers_do_not_bend_shares(sixes_and_nines, name, steps):
    """benchmarks/sampler_shares.py does it at n = 6,000; here the true 10 % must lie within 1.5 points + noise."""
    images, nines = sixes_and_nines
    drawn = sample(MultiDeltaDenoiser(images), 0, range(600), spec(sampler=name, steps=steps, clip_x0=True))
    nearest = torch.cdist(drawn.flatten(1), images.flatten(1)).argmin(1)
    low, high = clopper_pearson(int(nines[nearest].sum()), 600, level=0.999)
    assert low - 0.015 < 0.10 < high + 0.015


def test_a_folder_of_shards_is_resumed_and_opens_with_datasets(denoiser, tmp_path):
    options = spec(num_images=10, steps=2, batch_size=3, shard_size=4, clip_x0=True)
    draw(denoiser, options, tmp_path / "whole")
    draw(denoiser, options, tmp_path / "broken")
    (tmp_path / "broken" / "shard-00001.parquet").unlink()
    kept = (tmp_path / "broken" / "shard-00000.parquet").stat().st_mtime_ns
    draw(denoiser, options, tmp_path / "broken")
    assert (tmp_path / "broken" / "shard-00000.parquet").stat().st_mtime_ns == kept
    for name in ("shard-00000", "shard-00001", "shard-00002"):
        parts = [(tmp_path / folder / f"{name}.parquet").read_bytes() for folder in ("whole", "broken")]
        assert parts[0] == parts[1]
    pixels, columns = read_shards(tmp_path / "whole")
    assert columns["index"] == list(range(10))
    files = sorted(str(f) for f in (tmp_path / "whole").glob("*.parquet"))
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(table[0]["image"], Image.Image)
    assert np.array_equal(np.stack([np.asarray(row["image"]) for row in table]), pixels[:, 0])


def test_a_folder_of_other_settings_is_refused(denoiser, tmp_path):
    draw(denoiser, spec(num_images=2, steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"drawn with other settings \(seed, steps\)"):
        draw(denoiser, spec(num_images=2, steps=3, seed=1), tmp_path)


def test_more_images_are_drawn_where_all_shards_are_whole(denoiser, tmp_path):
    draw(denoiser, spec(num_images=4, steps=2, shard_size=2), tmp_path / "grown")
    draw(denoiser, spec(num_images=7, steps=2, shard_size=2), tmp_path / "grown")
    draw(denoiser, spec(num_images=7, steps=2, shard_size=2), tmp_path / "at_once")
    assert np.array_equal(read_shards(tmp_path / "grown")[0], read_shards(tmp_path / "at_once")[0])
    for other in (8, 4):  # the last shard is not whole; fewer than there are
        with pytest.raises(ValueError, match=r"drawn with other settings \(num_images\)"):
            draw(denoiser, spec(num_images=other, steps=2, shard_size=2), tmp_path / "grown")


def test_images_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images 0 to 1 of seed 0 are not finite"):
        draw(Gaussian(mean=float("nan")), spec(num_images=2), tmp_path)


def test_the_settings_beside_the_shards_are_readable(denoiser, tmp_path):
    draw(denoiser, spec(num_images=1, steps=2), tmp_path)
    assert json.loads((tmp_path / ".settings.json").read_text())["sampler"] == "ddim"


def test_the_global_generator_is_left_alone(denoiser):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    sample(denoiser, 0, range(2), spec(steps=2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_noise_is_the_same_in_another_process():
    code = (
        "import torch\nfrom leadline.rng import generator_for\n"
        "print(torch.randn(3, generator=generator_for(7, 'sample', 2)).tolist())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == torch.randn(3, generator=generator_for(7, "sample", 2)).tolist()


def test_the_sample_spec_steers_as_the_bypass_does(denoiser, tmp_path):
    steer = SteerSpec(strength=0.5, schedule="window(sigma_max=5, sigma_min=0.5)")
    draw(denoiser, spec(num_images=3, seed=4, clip_x0=True, steer=steer), tmp_path / "steered")
    with bypass(denoiser, constant(0.5) & window(sigma_max=5.0, sigma_min=0.5)):
        by_hand = sample(denoiser, 4, range(3), spec(clip_x0=True))
    pixels, _ = read_shards(tmp_path / "steered")
    assert np.array_equal(pixels, to_pixels(by_hand).numpy())
    assert not np.array_equal(pixels, to_pixels(sample(denoiser, 4, range(3), spec(clip_x0=True))).numpy())


def test_a_model_without_a_mid_block_is_not_steered(sixes_and_nines, tmp_path):
    with pytest.raises(ValueError, match="mid-block"):
        draw(MultiDeltaDenoiser(sixes_and_nines[0]), spec(num_images=2, steer=SteerSpec(strength=0.5)), tmp_path)


def test_settings_from_before_the_bypass_are_those_of_strength_0(denoiser, tmp_path):
    """A draw that an earlier version began goes on."""
    draw(denoiser, spec(num_images=2, steps=2), tmp_path)
    record = tmp_path / ".settings.json"
    earlier = json.loads(record.read_text())
    del earlier["steer"]
    record.write_text(json.dumps(earlier))
    draw(denoiser, spec(num_images=2, steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"drawn with other settings \(steer\)"):
        draw(denoiser, spec(num_images=2, steps=2, steer=SteerSpec(strength=0.5)), tmp_path)
