"""The U-Net of a text-to-image pipeline as a Denoiser of latents: the pipeline's own numbers, without guidance."""

import diffusers
import pytest
import torch
from tiny_text import saved_pipeline, text_pipeline

from leadline.errors import LeadlineError
from leadline.models.pretrained import DiffusersDenoiser, differentiable
from leadline.text import denoising
from leadline.text.denoising import load_conditional


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_pipeline(tmp_path_factory.mktemp("latents") / "pipeline")


def test_it_is_the_pipelines_own_estimate(folder):
    """One DDIM step of the pipeline at scale 1, from the top of its levels, leads where the denoiser says."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    denoiser = load_conditional(str(folder), "a six")
    assert denoiser.shape == (4, 8, 8)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent", "return_dict": False}
    latents = pipe("a six", latents=start, **options)[0]
    step = int(pipe.scheduler.timesteps[0])
    sigma = float(denoiser.sigmas[step])
    with torch.no_grad():
        x = start * (1 + sigma**2) ** 0.5
        x0 = denoiser(x, sigma)
        alpha = float(pipe.scheduler.final_alpha_cumprod)
        expected = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * (x - x0) / sigma
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_the_prompt_matters_and_images_come_and_go_as_latents(folder):
    asked, empty = load_conditional(str(folder), "a six"), load_conditional(str(folder))
    x = torch.randn(2, 4, 8, 8)
    assert not torch.allclose(asked(x, 1.0), empty(x, 1.0))
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    latents = empty.encode(pictures)
    plain = empty.vae.encode(pictures).latent_dist.mean
    assert latents.shape == (2, *empty.shape)
    torch.testing.assert_close(latents, plain * 0.18215)
    torch.testing.assert_close(empty.decode(latents), empty.vae.decode(plain).sample)


def test_derivatives_go_through_cross_attention(folder):
    denoiser = load_conditional(str(folder), "a six")
    x, v = torch.randn(2, 1, 4, 8, 8)
    with differentiable(), torch.no_grad():
        _, along = torch.func.jvp(lambda x: denoiser(x, 1.0), (x,), (v,))
        quotient = (denoiser(x + 1e-2 * v, 1.0) - denoiser(x - 1e-2 * v, 1.0)) / 2e-2
    torch.testing.assert_close(along, quotient, rtol=1e-2, atol=1e-3)


def xl_unet():
    """Text and size embeddings are added to the time embedding: 6 sizes of width 8 and a pooled text of width 8."""
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 8,
    )


def test_added_conditioning_of_xl_is_repeated_to_the_batch():
    unet = xl_unet().requires_grad_(False).eval()
    text, pooled = torch.randn(1, 4, 8), torch.randn(1, 8)
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]])
    given = {"encoder_hidden_states": text, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
    denoiser = DiffusersDenoiser(unet, diffusers.DDIMScheduler(), conditioning=given)
    x, sigma = torch.randn(3, 4, 8, 8), float(denoiser.sigmas[700])
    added = {"text_embeds": pooled.repeat(3, 1), "time_ids": sizes.repeat(3, 1)}
    fed = x / (1 + sigma**2) ** 0.5
    noise = unet(fed, 700, encoder_hidden_states=text.repeat(3, 1, 1), added_cond_kwargs=added).sample
    torch.testing.assert_close(denoiser(x, sigma), x - sigma * noise, rtol=1e-4, atol=1e-3)
    with pytest.raises(LeadlineError, match="takes added_cond_kwargs beside the image: conditioning="):
        DiffusersDenoiser(unet, diffusers.DDIMScheduler(), conditioning={"encoder_hidden_states": text})
    with pytest.raises(LeadlineError, match="takes encoder_hidden_states, added_cond_kwargs beside the image"):
        DiffusersDenoiser(unet, diffusers.DDIMScheduler())


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("unet", "time_cond_proj_dim", 8, "distilled at a scale of guidance"),
        ("vae", "shift_factor", 0.1, "autoencoder shifts its latents"),
    ],
)
def test_what_is_no_plain_denoiser_is_refused(tmp_path, monkeypatch, part, field, value, message):
    pipe = text_pipeline(tmp_path)
    getattr(pipe, part).register_to_config(**{field: value})
    monkeypatch.setattr(denoising, "load_text_pipeline", lambda source, **_: pipe)
    with pytest.raises(LeadlineError, match=message):
        load_conditional("somewhere")
    with pytest.raises(LeadlineError, match=r"the prompt has \d+ tokens, and somewhere reads 16: shorten it"):
        load_conditional("somewhere", "an exceedingly long prompt")
