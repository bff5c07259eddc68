"""Images of text-to-image pipelines: what they hang on, and that nothing else matters."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_text import WIDTH, text_pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from leadline.recipe import SampleSpec, SteerSpec
from leadline.rng import generator_for
from leadline.text.building import noise_schedule
from leadline.text.generating import TEXT_SAMPLERS, check_sampling, generate, own_size, prepared, with_sampler

PROMPTS = ["a six", "a nine", "two", "", "a six"]
USUAL: dict[str, Any] = {"seed": 3, "steps": 3, "guidance": 2.0}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return text_pipeline(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def xl(pipe: Any) -> Any:
    """An XL pipeline around the other's parts: a second text encoder, whose pooled output enters with the time."""
    config = CLIPTextConfig(**{**pipe.text_encoder.config.to_dict(), "projection_dim": WIDTH})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        second = CLIPTextModelWithProjection(config)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2 * WIDTH,
            attention_head_dim=4,
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        )
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    return StableDiffusionXLPipeline(
        **parts, text_encoder_2=second, tokenizer_2=pipe.tokenizer, unet=unet, add_watermarker=False
    )


def starts(n: int = 5, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, 16, 16, generator=generator_for(0, "starts")) * 2 - 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, of NumPy 2
@pytest.mark.parametrize("sampler", TEXT_SAMPLERS)
def test_an_image_hangs_on_its_seed_and_index_and_not_on_the_batch(pipe: Any, sampler: str) -> None:
    """Up to one of 255 levels, where a batch's rounding lies on the edge of two."""
    drawing, init = prepared(pipe, sampler=sampler), starts()
    for options in ({}, {"init": init, "init_strength": 0.7}):
        whole = generate(drawing, PROMPTS, indices=range(5), **USUAL, **options)
        assert whole.shape == (5, 3, 16, 16)
        for i in (0, 4):
            one = {**options, **({"init": init[i : i + 1]} if options else {})}
            alone = generate(drawing, [PROMPTS[i]], indices=[i], **USUAL, **one)
            assert (alone[0].int() - whole[i].int()).abs().max() <= 1
        # The first and the last have one prompt, and noise of their own.
        assert (whole[0].int() - whole[4].int()).abs().max() > 30
        assert not torch.equal(whole, generate(drawing, PROMPTS, indices=range(5), **{**USUAL, "seed": 4}, **options))


@pytest.mark.parametrize("change", [{"guidance": 4.0}, {"steps": 4}, {"seed": 4}])
def test_every_option_changes_the_images(pipe: Any, change: dict[str, Any]) -> None:
    before, after = (generate(pipe, ["a six"], indices=[0], **{**USUAL, **c}) for c in ({}, change))
    assert not torch.equal(before, after)


def test_pixels_are_the_pipelines_own(pipe: Any) -> None:
    floats = pipe(
        ["a six"],
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=[generator_for(3, "sample", 7)],
        output_type="np",
    ).images
    expected = np.rint(floats.transpose(0, 3, 1, 2) * 255).astype(np.uint8)
    assert np.array_equal(generate(pipe, ["a six"], indices=[7], **USUAL).numpy(), expected)


def test_what_is_prepared_has_the_same_networks_and_leaves_the_pipeline_as_it_was(pipe: Any) -> None:
    scheduler = pipe.scheduler
    made = prepared(pipe, sampler="euler", image_to_image=True)
    assert isinstance(made, StableDiffusionImg2ImgPipeline)
    assert all(getattr(made, part) is getattr(pipe, part) for part in ("unet", "vae", "text_encoder", "tokenizer"))
    assert isinstance(made.scheduler, EulerDiscreteScheduler)
    assert made.scheduler.config["beta_end"] == scheduler.config["beta_end"] == 0.012
    assert pipe.scheduler is scheduler is prepared(pipe).scheduler
    assert prepared(made).unet is pipe.unet


def test_latents_are_never_clipped() -> None:
    """A pipeline of another sampler does not say so; diffusers' DDIM would clip to [-1, 1] then."""
    assert with_sampler(EulerDiscreteScheduler(steps_offset=1), "ddim").config["clip_sample"] is False


def test_images_are_not_blackened(pipe: Any) -> None:
    pipe.register_modules(safety_checker=torch.nn.Identity())
    try:
        assert prepared(pipe).safety_checker is None
    finally:
        pipe.register_modules(safety_checker=None)


def test_no_bar_is_shown_and_the_owners_setting_comes_back(
    pipe: Any, xl: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    pipe.set_progress_bar_config(disable=False, desc="mine")
    try:
        generate(pipe, ["a"], indices=[0], **USUAL)
        assert pipe._progress_bar_config == {"disable": False, "desc": "mine"}
    finally:
        pipe.set_progress_bar_config(disable=True)
    generate(xl, ["a"], indices=[0], **USUAL)
    assert capfd.readouterr() == ("", "")


def test_image_to_image_starts_from_the_image(pipe: Any) -> None:
    one, other = starts(2)[:1], starts(2)[1:]
    shared = {"indices": [0], **USUAL}
    drawn = [generate(pipe, ["a"], init=init, init_strength=0.5, **shared) for init in (one, other)]
    assert not torch.equal(*drawn)
    # At full strength nothing but noise is left of it.
    far = [generate(pipe, ["a"], init=init, init_strength=1.0, **shared).int() for init in (one, other)]
    near = [images.int() for images in drawn]
    assert (far[0] - far[1]).abs().float().mean() < 0.5 * (near[0] - near[1]).abs().float().mean()
    grey = starts(1, channels=1)
    twice = [generate(pipe, ["a"], init=init, init_strength=0.5, **shared) for init in (grey, grey.repeat(1, 3, 1, 1))]
    assert torch.equal(*twice)
    ready = prepared(pipe, image_to_image=True)
    assert torch.equal(drawn[0], generate(ready, ["a"], init=one, init_strength=0.5, **shared))


def test_another_size(pipe: Any) -> None:
    assert own_size(pipe) == 16
    for given, expected in (([8, 8], 16), ([8, 12], None), (None, None)):
        other = SimpleNamespace(unet=SimpleNamespace(config={"sample_size": given}), vae_scale_factor=2)
        if expected is None:
            with pytest.raises(ValueError, match="expected one number or two equal ones: give the size .*--size"):
                own_size(other)
        else:
            assert own_size(other) == expected
    assert generate(pipe, ["a"], indices=[0], size=32, **USUAL).shape == (1, 3, 32, 32)


def test_xl_draws_from_noise_and_from_an_image(xl: Any) -> None:
    both = generate(xl, ["a", "b"], indices=[0, 1], **USUAL)
    alone = generate(prepared(xl), ["b"], indices=[1], **USUAL)
    assert (both[1].int() - alone[0].int()).abs().max() <= 1
    begun = generate(xl, ["a"], indices=[0], init=starts(1), init_strength=0.7, **USUAL)
    assert begun.shape == (1, 3, 16, 16)


def test_what_is_not_finite_is_refused(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = pipe.unet.forward

    def broken(*inputs: Any, **options: Any) -> Any:
        return tuple(value * torch.nan for value in forward(*inputs, **options))

    monkeypatch.setattr(pipe.unet, "forward", broken)
    with pytest.raises(ValueError, match="images 5 to 5 of seed 3 are not finite.*try another sampler"):
        generate(pipe, ["a"], indices=[5], **USUAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": [0, 1]}, "1 prompts, 2 indices: one of each"),
        ({"init": starts(2), "init_strength": 0.5}, "1 prompts, 1 indices and 2 images to start from"),
        ({"init": starts(1)}, "belong together"),
        ({"init_strength": 0.5}, "belong together"),
        ({"init": starts(1), "init_strength": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"init": starts(1), "init_strength": 0.25}, "0.25 of 3 steps leaves none: give 4 steps or more"),
        ({"init": torch.zeros(1, 3, 16, 15), "init_strength": 0.5}, "3×16×15: .*multiples of 2 px"),
        ({"init": torch.zeros(1, 2, 16, 16), "init_strength": 0.5}, "2×16×16: expected 1 or 3 channels"),
        ({"init": starts(1), "init_strength": 0.5, "size": 32}, "leave the size out"),
    ],
)
def test_what_does_not_fit_together_is_refused(pipe: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(pipe, ["a"], **{**USUAL, "indices": [0], **change})


def test_other_pipelines_and_samplers_are_refused(pipe: Any) -> None:
    with pytest.raises(ValueError, match="a StableDiffusionInpaintPipeline is given, expected one of StableDiffusionP"):
        prepared(StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False))
    with pytest.raises(ValueError, match="unknown sampler 'eular': did you mean 'euler'"):
        prepared(pipe, sampler="eular")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sampler": "ancestral"}, r"'ancestral' is not one of a text-to-image model \(ddim, euler, heun, dpm\+\+\)"),
        ({"init_strength": 0.01, "steps": 50}, "0.01 of 50 steps leaves none: give 100 steps"),
        ({"steps": 1001}, "DDIMScheduler takes no 1001 steps .--set sample.steps="),
        ({"steer": SteerSpec(strength=1, schedule="window(1) + 0.5")}, "has strength 1.5 at noise level"),
        ({"steer": SteerSpec(strength=1, schedule="window(sigma_min=99)")}, "has strength 0 at all 50 noise levels"),
        (
            {"guidance": 1.0, "steer": SteerSpec(strength=1, branch="conditional")},
            "at --set sample.guidance=1 there is none",
        ),
    ],
)
def test_a_spec_that_cannot_be_drawn_is_refused(spec: dict[str, Any], message: str) -> None:
    check_sampling(SampleSpec(), noise_schedule())
    with pytest.raises(ValueError, match=message):
        check_sampling(SampleSpec(**spec), noise_schedule())
