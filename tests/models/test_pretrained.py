"""A checkpoint as D(x; sigma): the same whatever its prediction type, and equal to diffusers' own arithmetic."""

import json

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EDMEulerScheduler,
    PNDMPipeline,
    PNDMScheduler,
    UNet2DModel,
)
from diffusers.models.unets.unet_2d import UNet2DOutput
from safetensors.torch import load_file, save_file

from leadline.errors import LeadlineError
from leadline.models.denoiser import ddpm_sigmas, noise_estimate, score
from leadline.models.pretrained import DiffusersDenoiser, differentiable, load_pipeline, save_pipeline
from leadline.models.unet import depth_unet


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return depth_unet(2, in_channels=1, sample_size=8)


def test_the_ladder_is_diffusers_default_schedule():
    abar = DDPMScheduler().alphas_cumprod.double()
    expected = ((1 - abar) / abar).sqrt()
    torch.testing.assert_close(ddpm_sigmas(), expected, rtol=1e-4, atol=0)  # diffusers works in float32
    assert ddpm_sigmas()[0] == pytest.approx(0.0100, abs=1e-4)


@pytest.mark.parametrize("step", [0, 1, 500, 999])
def test_at_a_step_of_the_schedule_it_is_diffusers_own_x0(unet, step):
    scheduler = DDPMScheduler(clip_sample=False)
    denoiser = DiffusersDenoiser(unet, scheduler)
    x0, noise = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    noisy = scheduler.add_noise(x0, noise, torch.tensor([step] * 3))
    with torch.no_grad():
        predicted = unet(noisy, step).sample
        expected = scheduler.step(predicted, step, noisy).pred_original_sample
        sigma = float(denoiser.sigmas[step])
        given = denoiser(noisy * (1 + sigma**2) ** 0.5, sigma)
    assert denoiser.timestep(sigma).tolist() == [step]
    torch.testing.assert_close(given, expected, rtol=2e-4, atol=2e-4 * max(1, sigma))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_all_prediction_types_give_the_same_x0(unet, prediction, monkeypatch):
    sigma = float(ddpm_sigmas()[400])
    x0, noise = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    alpha, beta = (1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5
    output = {"epsilon": noise, "sample": x0, "v_prediction": alpha * noise - beta * x0}[prediction]
    monkeypatch.setattr(unet, "forward", lambda x, step: UNet2DOutput(sample=output))
    denoiser = DiffusersDenoiser(unet, DDPMScheduler(prediction_type=prediction))
    x = x0 + sigma * noise
    torch.testing.assert_close(denoiser(x, sigma), x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(noise_estimate(denoiser, x, sigma), noise, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score(denoiser, x, sigma), -noise / sigma, rtol=1e-4, atol=1e-4)


def test_between_steps_the_step_is_linear_in_log_sigma(unet):
    denoiser = DiffusersDenoiser(unet, DDPMScheduler())
    assert denoiser.scheduler is None  # its timesteps are rungs of its ladder
    middle = (denoiser.sigmas[300] * denoiser.sigmas[301]).sqrt()
    assert float(denoiser.timestep(float(middle))) == pytest.approx(300.5)


def test_one_level_per_image_is_the_same_as_image_by_image(unet):
    denoiser = DiffusersDenoiser(unet, DDPMScheduler())
    x, levels = torch.randn(3, 1, 8, 8), torch.tensor([0.05, 1.0, 40.0])
    with torch.no_grad():
        together = denoiser(x, levels)
        apart = torch.cat([denoiser(x[i : i + 1], float(levels[i])) for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.009, 200.0, float("nan")])
def test_outside_the_schedule_it_is_not_measurable(unet, sigma):
    with pytest.raises(ValueError, match="outside the model's schedule, 0.01 to 157"):
        DiffusersDenoiser(unet, DDPMScheduler())(torch.zeros(1, 1, 8, 8), sigma)


def test_unfit_checkpoints_are_refused():
    with pytest.raises(LeadlineError, match="1 input and 3 output channels: as many are expected, or twice as many"):
        DiffusersDenoiser(tiny(out_channels=3), DDPMScheduler())
    with pytest.raises(LeadlineError, match="an embedding of whole timesteps"):
        DiffusersDenoiser(tiny(time_embedding_type="learned", num_train_timesteps=1000), DDPMScheduler())


def tiny(**options):
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(**{**sizes, "layers_per_block": 1, **blocks, **options})


def test_of_a_learned_variance_the_mean_is_taken_as_diffusers_takes_it():
    unet, scheduler = tiny(out_channels=2), DDPMScheduler(clip_sample=False, variance_type="learned_range")
    x = torch.randn(2, 1, 8, 8)
    denoiser = DiffusersDenoiser(unet, scheduler)
    sigma = float(denoiser.sigmas[300])
    with torch.no_grad():
        expected = scheduler.step(unet(x, 300).sample, 300, x).pred_original_sample
        given = denoiser(x * (1 + sigma**2) ** 0.5, sigma)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_a_class_is_given_once_for_all_images(tmp_path):
    unet = tiny(num_class_embeds=3)
    x = torch.randn(2, 1, 8, 8)
    save_pipeline(unet, DDPMScheduler(), tmp_path / "model")
    denoisers = [load_pipeline(tmp_path / "model", class_label=label) for label in (0, 2)]
    sigma = float(denoisers[0].sigmas[100])
    with torch.no_grad():
        estimates = [denoiser(x, sigma) for denoiser in denoisers]
        noise = unet.eval()(x / (1 + sigma**2) ** 0.5, 100, class_labels=torch.tensor([2, 2])).sample
    torch.testing.assert_close(estimates[1], x - sigma * noise, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(estimates[0], estimates[1])
    with pytest.raises(LeadlineError, match="one of its classes, 0 to 2: class_label=, none is given"):
        load_pipeline(tmp_path / "model")
    with pytest.raises(LeadlineError, match=r"0 to 2: class_label=, \[3\] are given"):
        load_pipeline(tmp_path / "model", class_label=3)
    with pytest.raises(LeadlineError, match=r"as one row \[1, …\], not \[2\]"):
        DiffusersDenoiser(unet, DDPMScheduler(), conditioning={"class_labels": torch.tensor([0, 1])})
    with pytest.raises(LeadlineError, match="the model knows no classes"):
        DiffusersDenoiser(tiny(), DDPMScheduler(), conditioning={"class_labels": torch.tensor([0])})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_leaves_x_as_it_is(dtype):
    denoiser, half = DiffusersDenoiser(tiny(), DDPMScheduler()), DiffusersDenoiser(tiny().to(dtype), DDPMScheduler())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        exact, given = denoiser(x, 0.5), half(x, 0.5)
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, exact, rtol=0, atol=0.05)
    # What the network does not touch, x itself, is not rounded: at the least noise nearly all of D is x.
    torch.testing.assert_close(half(x, 0.0101), x, rtol=0, atol=0.05)
    assert not torch.equal(half(x, 0.0101), half(x, 0.0101).to(dtype).float())


@pytest.mark.parametrize("scheduler", [DDPMScheduler(prediction_type="v_prediction"), EDMEulerScheduler()])
def test_derivatives_go_through_x(scheduler):
    """Forward mode, reverse mode and the quotient of differences agree, through attention too."""
    denoiser = DiffusersDenoiser(tiny().double().requires_grad_(False), scheduler)
    x, v, w = (torch.randn(1, 1, 8, 8, dtype=torch.float64) for _ in range(3))

    def at(x):
        return denoiser(x, 0.7)

    with differentiable():
        _, forward = torch.func.jvp(at, (x,), (v,))
        _, pull = torch.func.vjp(at, x)
    with torch.no_grad():
        quotient = (at(x + 1e-6 * v) - at(x - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(forward, quotient, rtol=1e-6, atol=1e-7)
    assert float((pull(w)[0] * v).sum()) == pytest.approx(float((w * forward).sum()), rel=1e-10)


def test_a_saved_folder_opens_with_diffusers_and_gives_the_same_numbers(unet, tmp_path):
    save_pipeline(unet, DDPMScheduler(), tmp_path / "model")
    assert isinstance(DDPMPipeline.from_pretrained(tmp_path / "model").unet, UNet2DModel)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        given = load_pipeline(tmp_path / "model")(x, 1.0)
        assert torch.equal(given, DiffusersDenoiser(unet, DDPMScheduler())(x, 1.0))


@pytest.mark.parametrize(
    "pipeline", [DDIMPipeline(tiny(), DDIMScheduler()), PNDMPipeline(tiny(), PNDMScheduler(skip_prk_steps=True))]
)
def test_other_pipelines_of_a_unet_open_too(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    opened = load_pipeline(tmp_path / "model")
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(opened(x, 1.0), DiffusersDenoiser(pipeline.unet, pipeline.scheduler)(x, 1.0))


def test_a_pipeline_in_one_folder_opens_too(unet, tmp_path):
    """The first pipelines on the hub have the files of both parts beside model_index.json."""
    save_pipeline(unet, DDPMScheduler(), tmp_path)
    for file in [*(tmp_path / "unet").iterdir(), *(tmp_path / "scheduler").iterdir()]:
        file.rename(tmp_path / file.name)
    (tmp_path / "unet").rmdir()
    (tmp_path / "scheduler").rmdir()
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_pipeline(tmp_path)(x, 1.0), DiffusersDenoiser(unet, DDPMScheduler())(x, 1.0))


def listed(folder, **parts):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **parts}))


def test_a_folder_that_is_no_pipeline_is_refused(unet, tmp_path):
    with pytest.raises(ValueError, match="has no model_index.json"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(LeadlineError, match="model_index.json cannot be read"):
        load_pipeline(tmp_path)
    own, scheduler = ["diffusers", "UNet2DModel"], ["diffusers", "DDPMScheduler"]
    for parts, message in [
        ({"unet": own}, "lists no scheduler"),
        ({"unet": own, "scheduler": scheduler, "vqvae": ["diffusers", "VQModel"]}, "has a vqvae: a U-Net on images"),
        ({"unet": ["diffusers", "UNet1DModel"], "scheduler": scheduler}, "its U-Net is a UNet1DModel"),
        ({"unet": own, "scheduler": ["mine", "DDPMScheduler"]}, "its scheduler is mine.DDPMScheduler"),
        ({"unet": own, "scheduler": ["diffusers", "os"]}, "its scheduler is diffusers.os, expected one of"),
        ({"unet": own, "scheduler": scheduler}, "cannot be opened as an unconditional pipeline"),
    ]:
        listed(tmp_path, **parts)
        with pytest.raises(LeadlineError, match=message):
            load_pipeline(tmp_path)


def test_weights_that_are_not_whole_are_refused(unet, tmp_path):
    save_pipeline(unet, DDPMScheduler(), tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop("conv_in.weight")
    save_file(weights, file)
    with pytest.raises(LeadlineError, match="lacks 1 of the U-Net's weights, such as conv_in.weight"):
        load_pipeline(tmp_path)


def test_pickled_weights_are_refused(unet, tmp_path):
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="safetensors"):
        load_pipeline(tmp_path)
