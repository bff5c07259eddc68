"""A checkpoint as D(x; sigma): the same whatever its prediction type, and equal to diffusers' own arithmetic."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput

from leadline.models.denoiser import ddpm_sigmas, noise_estimate, score
from leadline.models.pretrained import DiffusersDenoiser, load_pipeline, save_pipeline
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


def test_unfit_checkpoints_are_refused(unet):
    with pytest.raises(ValueError, match="zero terminal"):
        DiffusersDenoiser(unet, DDPMScheduler(rescale_betas_zero_snr=True))
    learned = UNet2DModel(8, 1, 2, block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2,
                          up_block_types=("UpBlock2D",) * 2)  # fmt: skip
    with pytest.raises(ValueError, match="1 input but 2 output channels"):
        DiffusersDenoiser(learned, DDPMScheduler())


def test_a_saved_folder_opens_with_diffusers_and_gives_the_same_numbers(unet, tmp_path):
    save_pipeline(unet, DDPMScheduler(), tmp_path / "model")
    assert isinstance(DDPMPipeline.from_pretrained(tmp_path / "model").unet, UNet2DModel)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        given = load_pipeline(tmp_path / "model")(x, 1.0)
        assert torch.equal(given, DiffusersDenoiser(unet, DDPMScheduler())(x, 1.0))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no model_index.json"):
        load_pipeline(tmp_path)


def test_pickled_weights_are_refused(unet, tmp_path):
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="safetensors"):
        load_pipeline(tmp_path)
