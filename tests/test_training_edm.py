"""Training as 2206.00364's preconditioned denoiser, and the snapshots of a training: closed forms, kills, the road."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import ConsistencyModelPipeline, DiffusionPipeline
from safetensors.torch import load_file

from leadline import stages, training
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import check_recipe, model_title, run, samples_of
from leadline.fitting import TrainingDiverged
from leadline.models.denoiser import karras_sigmas
from leadline.models.preconditioning import Karras
from leadline.models.pretrained import load_pipeline, save_pipeline
from leadline.presets import preset
from leadline.recipe import ModelSpec, TextSpec, TrainSpec, with_overrides
from leadline.records import ImageSet
from leadline.runs import Run
from leadline.text.training import train_text
from leadline.theory.exact import MultiDeltaDenoiser
from leadline.training import Batch, edm_loss, ladder, make_batch, train

SMALL = ModelSpec(channels=(8, 8))


def spec(**fields):
    usual = {"objective": "edm", "steps": 6, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 2, "log_every": 3}
    return TrainSpec(**{**usual, **fields})


def fitted(images, folder, options, model=SMALL):
    return train(
        model,
        options,
        images,
        checkpoint=folder / "c.safetensors",
        curve=folder / "t.jsonl",
        snapshots=lambda step: folder / f"step-{step}",
    )


def weights(trained):
    return {name: value.clone() for name, value in trained.unet.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def snapshot(folder, step):
    return load_file(folder / f"step-{step}" / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def images():
    return ImageSet(name="noise", pixels=np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8))


@pytest.fixture(scope="module")
def two():
    """Two pictures, halves black and white, one the other's negative."""
    dark = np.zeros((1, 4, 4), dtype=np.uint8)
    dark[:, :2] = 255
    return ImageSet(name="two", pixels=np.stack([dark, 255 - dark]))


def gaussian_batch(spread, sigma, count=2000):
    draws = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(count, 1, 4, 4, generator=draws) for _ in range(2))
    return Batch(spread * x0, noise, torch.full((count,), sigma))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_the_loss_of_the_exact_denoiser_of_gaussian_images_is_its_closed_form(sigma):
    """Of images N(0, s^2): D = s^2 x / (s^2 + sigma^2), whose mean squared error is s^2 sigma^2 / (s^2 + sigma^2)."""
    own, spread = Karras(0.5), 0.3
    at = own.at(torch.tensor([sigma], dtype=torch.float64))
    shrink = spread**2 / (spread**2 + sigma**2)

    def exact(fed, timestep):
        assert timestep[0] == pytest.approx(math.log(sigma) / 4, rel=1e-5)
        x = fed / float(at.scale)
        return SimpleNamespace(sample=(shrink - float(at.skip)) * x / float(at.out))

    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = weight * spread**2 * sigma**2 / (spread**2 + sigma**2)
    assert float(edm_loss(own, exact, gaussian_batch(spread, sigma))) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_the_target_has_unit_variance_and_a_network_of_zeros_leaves_the_skip(sigma):
    """With images of spread sigma_data, whose exact denoiser is skip x, the network's output is 0 and its error 1."""
    batch = gaussian_batch(0.5, sigma)
    loss = edm_loss(Karras(0.5), lambda fed, _: SimpleNamespace(sample=torch.zeros_like(fed)), batch)
    skip = 0.25 / (0.25 + sigma**2)
    x = batch.x0 + sigma * batch.noise
    weighted = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * (skip * x - batch.x0).square().mean()
    assert float(loss) == pytest.approx(float(weighted), rel=1e-3)
    assert float(loss) == pytest.approx(1, rel=0.03)


def test_levels_are_log_normal_and_a_function_of_seed_and_step(images):
    options = spec(batch_size=20_000, noise_mean=-0.5, noise_std=0.8)
    batch = make_batch(images, options, 3)
    assert torch.equal(batch.levels, make_batch(images, options, 3).levels)
    assert float(batch.levels.log().mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(batch.levels.log().std()) == pytest.approx(0.8, abs=0.02)
    halves = [make_batch(images, options, 3, part).levels for part in (slice(0, 9), slice(9, None))]
    assert torch.equal(torch.cat(halves), batch.levels)


def test_two_images_are_learned_from_where_the_skip_stands_towards_their_exact_denoiser(two, tmp_path):
    """Most of the way within 60 steps; below the exact denoiser's error no denoiser can be."""
    seldom = {"checkpoint_every": 1000, "log_every": 1000}
    usual = {"sigma_data": 1.0, "noise_mean": 0.0}
    options = spec(steps=60, batch_size=16, learning_rate=2e-2, warmup_steps=5, ema_decay=0.9, **usual, **seldom)
    trained = fitted(two, tmp_path, options)
    save_pipeline(trained.unet, trained.scheduler, tmp_path / "model")
    denoiser = load_pipeline(tmp_path / "model")
    batch = make_batch(two, spec(batch_size=200, seed=1, **usual), 0)
    sigma = batch.levels.clamp(0.002, 80)
    x = batch.x0 + sigma.reshape(-1, 1, 1, 1) * batch.noise

    def error(estimate):
        return float((estimate - batch.x0).square().mean())

    with torch.no_grad():
        found, exact = error(denoiser(x, sigma)), error(MultiDeltaDenoiser(two.images())(x, sigma))
    skip = error(x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2))
    assert exact < found < exact + 0.4 * (skip - exact)


def test_a_trained_model_opens_as_a_denoiser_and_draws_in_diffusers_what_it_draws_here(images, tmp_path):
    """ConsistencyModelPipeline scales the network's input as the scheduler asks; DDPMPipeline would not."""
    trained = fitted(images, tmp_path, spec(sigma_data=0.7))
    save_pipeline(trained.unet, trained.scheduler, tmp_path / "model")
    denoiser = load_pipeline(tmp_path / "model")
    assert denoiser.sigma_range == (0.002, 80.0)
    assert torch.equal(denoiser.sigmas, karras_sigmas(0.002, 80.0))
    assert torch.equal(denoiser.sigmas, ladder(spec()))
    assert denoiser.preconditioning.sigma_data == 0.7
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert isinstance(pipe, ConsistencyModelPipeline)
    pipe.set_progress_bar_config(disable=True)
    start = torch.Generator().manual_seed(0)
    drawn = pipe(batch_size=2, num_inference_steps=6, generator=start, output_type="pt", return_dict=False)[0] * 2 - 1
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * math.sqrt(80**2 + 1)
    with torch.no_grad():
        for sigma, following in pairwise([*karras_sigmas(0.002, 80.0, 6).flip(0).tolist(), 0.0]):
            x0 = denoiser(x, sigma)
            x = x0 + following / sigma * (x - x0)
    torch.testing.assert_close(drawn, x.clamp(-1, 1), rtol=1e-3, atol=1e-3)


def test_stopped_and_resumed_it_ends_with_the_same_weights_and_snapshots_to_the_bit(images, tmp_path, monkeypatch):
    options = spec(steps=8, snapshots=(3, 4, 8), checkpoint_every=2)
    original, save = training.make_batch, training.save_pipeline

    def poisoned(images, options, step, part=slice(None)):
        batch = original(images, options, step, part)
        return Batch(batch.x0, batch.noise * (float("nan") if step == 6 else 1), batch.levels)

    def killed(network, scheduler, folder):
        if folder.name.startswith(".step-4."):
            raise KeyboardInterrupt
        save(network, scheduler, folder)

    undisturbed = fitted(images, tmp_path / "undisturbed", options)
    disturbed = tmp_path / "disturbed"
    # The checkpoint of a step is written after its snapshot, so a kill between the two loses neither.
    monkeypatch.setattr(training, "save_pipeline", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(images, disturbed, options)
    assert [folder.name for folder in disturbed.glob("step-*")] == ["step-3"]
    monkeypatch.setattr(training, "save_pipeline", save)
    monkeypatch.setattr(training, "make_batch", poisoned)
    with pytest.raises(TrainingDiverged, match="loss is nan at step 7"):
        fitted(images, disturbed, options)
    monkeypatch.setattr(training, "make_batch", original)
    assert same(weights(fitted(images, disturbed, options)), weights(undisturbed))
    for step in options.snapshots:
        assert same(snapshot(disturbed, step), snapshot(tmp_path / "undisturbed", step))
    assert same(snapshot(disturbed, 8), weights(undisturbed))
    assert not same(snapshot(disturbed, 3), weights(undisturbed))
    assert load_pipeline(disturbed / "step-3").sigma_range == (0.002, 80.0)


def test_snapshots_leave_the_training_as_it_is(images, tmp_path):
    """The weights of the network go on, not their average: decay .9 keeps the two apart."""
    options = {"ema_decay": 0.9, "objective": "epsilon"}
    plain = fitted(images, tmp_path / "plain", spec(**options))
    kept = fitted(images, tmp_path / "kept", spec(**options, snapshots=(2, 5)))
    assert same(weights(plain), weights(kept))
    shorter = fitted(images, tmp_path / "shorter", spec(**options, steps=6, snapshots=(2,)))
    assert same(snapshot(tmp_path / "kept", 2), snapshot(tmp_path / "shorter", 2))
    assert same(weights(shorter), weights(plain))


def test_a_snapshot_that_is_gone_is_said(images, tmp_path):
    options = spec(snapshots=(2,))
    fitted(images, tmp_path, options)
    (tmp_path / "step-2").rename(tmp_path / "elsewhere")
    with pytest.raises(LeadlineError, match=r"step-2 is gone, and .*c\.safetensors is from after it: restore it, or"):
        fitted(images, tmp_path, options)
    with pytest.raises(LeadlineError, match="no folders for them are given"):
        train(SMALL, options, images, checkpoint=tmp_path / "c", curve=tmp_path / "t")


TINY = ["train.objective=edm", "train.steps=4", "train.batch_size=4", "train.snapshots=2,4", "model.channels=8,16",
        "sample.num_images=4", "sample.sampler=heun", "sample.steps=3", "audit.metrics=memorization",
        "audit.labeler_epochs=1", "audit.num_panels=1"]  # fmt: skip
STEERED = ["sample.steer.strength=0.5", "sample.steer.schedule=window(1, sigma_max=5, sigma_min=0.5)"]


@pytest.mark.filterwarnings("ignore:.*confidence")
def test_the_whole_road_of_an_edm_run(tmp_path, monkeypatch):
    recipe = with_overrides(preset("digits69-debug"), TINY)
    assert model_title(recipe) == "2 blocks of 8, 16 channels, EDM"
    done = run(recipe, tmp_path)
    assert done.header.status == "complete"
    assert [load_pipeline(done.snapshot_folder(step)).shape for step in (2, 4)] == [(1, 8, 8)] * 2
    assert samples_of(done).pixels.shape == (4, 1, 8, 8)
    curve = [json.loads(line) for line in done.curve_file.read_text().splitlines()]
    assert curve[-1]["step"] == 4
    # Another sampling of the same training: model and snapshots are taken over, and the bypass knows its levels.
    monkeypatch.setattr(stages, "train", None)
    steered = run(with_overrides(recipe, STEERED), tmp_path, until="sample")
    assert isinstance(steered, Run)
    assert steered.header.model["trained_in"] == done.folder.name
    assert steered.snapshot_folder(4).exists()
    assert not np.array_equal(samples_of(steered).pixels, samples_of(done).pixels)
    late = with_overrides(recipe, ["sample.steer.strength=0.5", "sample.steer.schedule=window(1, sigma_min=90)"])
    with pytest.raises(LeadlineError, match="schedule"):
        check_recipe(late, load(recipe.data))


def test_a_run_that_lost_a_snapshot_is_no_model_to_take_over(tmp_path):
    recipe = with_overrides(preset("digits69-debug"), TINY)
    done = run(recipe, tmp_path, until="train")
    done.snapshot_folder(2).rename(tmp_path / "elsewhere")
    again = run(with_overrides(recipe, ["sample.num_images=3"]), tmp_path, until="train")
    assert "trained_in" not in again.header.model
    assert again.snapshot_folder(2).exists()


@pytest.mark.parametrize(("name", "value"), [("objective", "edm"), ("snapshots", (2,))])
def test_text_to_image_models_have_neither(name, value, tmp_path):
    options, places = TrainSpec(**{name: value}), {"checkpoint": tmp_path / "c", "curve": tmp_path / "t"}
    pictures = ImageSet(name="p", pixels=np.zeros((4, 3, 8, 8), dtype=np.uint8), captions=("a",) * 4)
    with pytest.raises(LeadlineError, match=f"train.{name} is of the unconditional depth family"):
        train_text(TextSpec(autoencoder_channels=(8, 8)), options, pictures, **places)
