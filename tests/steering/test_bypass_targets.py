"""What cannot be bypassed is refused, before anything runs, and the message says what there is."""

import math
from itertools import combinations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet1DModel,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, UNetMidBlock2DCrossAttn
from tiny_pipelines import (
    LATENT,
    assemble,
    autoencoder,
    ddim,
    draw,
    randomize,
    text_to_image,
    text_unet,
    unconditional_unet,
)

from leadline import bypass, enable_bypass, ramp, window
from leadline.steering.modes import MODES
from leadline.theory.exact import MultiDeltaDenoiser


@pytest.fixture(scope="module")
def unet():
    return unconditional_unet()


def refused(target, strength=0.5, *, match, **options):
    with pytest.raises(ValueError, match=match):
        enable_bypass(target, strength, **options)


@pytest.mark.parametrize("strength", [-0.01, 1.01, math.nan, math.inf, True, "2"])
def test_strengths_outside_0_to_1(unet, strength):
    refused(unet, strength, match=r"\[0, 1\]")


def test_unknown_modes_and_branches(unet):
    refused(unet, mode="blent", match="unknown mode 'blent' of a bypass: did you mean 'blend'")
    refused(unet, branch="uncond", match="unknown branch 'uncond' of guidance: did you mean 'unconditional'")


def test_a_schedule_on_a_unet_alone_needs_its_scheduler(unet):
    refused(unet, ramp(0.0, 0.5), match="pass scheduler=")
    enable_bypass(unet, ramp(0.0, 0.5), scheduler=DDIMScheduler()).remove()


def test_a_schedule_that_leaves_0_to_1_on_the_models_levels():
    refused(ddim().target, window(0.7) + window(0.7, sigma_max=5.0), match="has strength 1.4 at noise level")


def test_a_scheduler_without_such_levels_is_refused_for_a_schedule_alone():
    case = text_to_image()
    case.target.scheduler = FlowMatchEulerDiscreteScheduler()
    refused(case.target, ramp(0.0, 0.5), match="FlowMatchEulerDiscreteScheduler")
    enable_bypass(case.target, 0.5).remove()


def test_a_second_bypass_also_through_another_pipeline():
    first, second = text_to_image(), text_to_image()
    second.target.unet = first.unet
    with bypass(first.target, 0.5):
        refused(first.target, match="has a bypass already")
        refused(second.target, match="has a bypass already")
        refused(first.unet, match="has a bypass already")
    with bypass(second.target, 0.5):
        pass


def test_a_failed_attempt_leaves_the_unet_free(unet):
    refused(unet, ramp(0.0, 0.5), match="scheduler=")
    enable_bypass(unet, 0.5).remove()


def test_a_unet_without_mid_block_says_which_blocks_it_has():
    case = text_to_image()
    case.target.unet = text_unet(mid_block_type=None)
    blocks = r"UNet2DConditionModel has no mid-block.*down_blocks\.0 to down_blocks\.1, up_blocks\.0 to up_blocks\.1"
    refused(case.target, match=blocks)
    refused(case.target.unet, match=blocks)


def test_a_transformer_says_which_blocks_it_has():
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=3, sample_size=LATENT, norm_num_groups=4
    )
    pipe = DiTPipeline(transformer=transformer, vae=autoencoder(), scheduler=DDIMScheduler())
    blocks = r"DiTTransformer2DModel.*transformer_blocks\.0 to transformer_blocks\.2"
    refused(pipe, match=f"DiTPipeline has no U-Net, hence no mid-block.*{blocks}")
    refused(transformer, match=blocks)


def test_what_is_no_unet_at_all():
    denoiser = MultiDeltaDenoiser(torch.zeros(2, 1, 4, 4))
    refused(denoiser, match="MultiDeltaDenoiser has no U-Net, hence no mid-block")
    refused("a pipeline's name", match="str has no U-Net")
    refused(torch.nn.Linear(2, 2), match="Linear has no mid-block.*no lists of blocks")


class Widening(torch.nn.Module):
    """A mid-block of somebody else's that doubles the width."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(16, 32, 1)

    def forward(self, hidden_states, temb=None):
        assert not torch.is_grad_enabled() or temb is not None
        return self.conv(hidden_states)


class Secretive(Widening):
    """One whose shapes cannot be told without values."""

    def forward(self, hidden_states, temb=None):
        return self.conv(hidden_states) if hidden_states.flatten()[0].item() < 1e9 else hidden_states


def test_a_mid_block_that_changes_the_shape_names_both():
    unet = unconditional_unet()
    unet.mid_block = Widening()
    refused(unet, match=r"\[1, 16, 8, 8\] into \[1, 32, 8, 8\]")
    conditional = text_unet()
    conditional.mid_block = UNetMidBlock2DCrossAttn(
        16, temb_channels=32, out_channels=32, resnet_groups=4, num_attention_heads=2, cross_attention_dim=8
    )
    refused(conditional, match=r"\[n, 16, h, w\] into \[n, 32, h, w\]")


def test_the_probe_computes_nothing_and_takes_a_foreign_block_that_keeps_the_shape():
    class Foreign(UNetMidBlock2D):
        def forward(self, hidden_states, temb=None):
            values.append(type(hidden_states))
            return super().forward(hidden_states, temb)

    values = []
    unet = unconditional_unet()
    unet.mid_block = Foreign(in_channels=16, temb_channels=32, resnet_groups=4, attention_head_dim=8)
    enable_bypass(unet, 0.5).remove()
    assert values
    assert torch.Tensor not in values


def test_a_shape_that_cannot_be_told_before_is_checked_at_the_first_call():
    unet = unconditional_unet()
    unet.mid_block = Secretive()
    with bypass(unet, 0.5), pytest.raises(ValueError, match=r"\[1, 16, 4, 4\] into \[1, 32, 4, 4\]"), torch.no_grad():
        unet(draw(1, 1, LATENT, LATENT, seed=0), 3)


class Pair(Widening):
    """A mid-block of somebody else's that gives two tensors."""

    def forward(self, hidden_states, temb=None):
        return hidden_states, hidden_states


class SecretivePair(Pair):
    def forward(self, hidden_states, temb=None):
        assert hidden_states.flatten()[0].item() < 1e9
        return super().forward(hidden_states, temb)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_mid_block_that_gives_no_tensor_is_refused(strength):
    unet = unconditional_unet()
    unet.mid_block = Pair()
    refused(unet, strength, match="the mid-block's output is tuple: only a mid-block that turns one tensor")
    unet.mid_block = SecretivePair()
    with bypass(unet, strength), pytest.raises(ValueError, match="output is tuple"), torch.no_grad():
        unet(draw(1, 1, LATENT, LATENT, seed=0), 3)


def test_the_shape_is_checked_at_a_full_bypass_too():
    """A block that may change the shape is not left out."""
    unet = unconditional_unet()
    unet.mid_block = Secretive()
    with bypass(unet, 1.0), pytest.raises(ValueError, match=r"\[1, 16, 4, 4\] into \[1, 32, 4, 4\]"), torch.no_grad():
        unet(draw(1, 1, LATENT, LATENT, seed=0), 3)


def video_unet():
    """Stable Video Diffusion's, tiny: 2 videos of 3 frames."""
    unet = UNetSpatioTemporalConditionModel(
        sample_size=LATENT,
        in_channels=8,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=1,
        cross_attention_dim=8,
        num_attention_heads=2,
    )
    given = draw(2, 3, 8, LATENT, LATENT, seed=1), 500, draw(2, 1, 8, seed=2), torch.ones(2, 3)
    return randomize(unet, 0), given


def signal_unet():
    """Of one axis, as in audio and motion."""
    unet = UNet1DModel(
        sample_size=16,
        in_channels=2,
        out_channels=2,
        extra_in_channels=64,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D"),
        up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
    )
    return randomize(unet, 0), (draw(2, 2, 16, seed=1), 500)


@pytest.mark.parametrize("make", [video_unet, signal_unet])
def test_unets_of_videos_and_signals(make):
    unet, given = make()

    def run(strength, mode):
        with bypass(unet, strength, mode=mode, scheduler=DDIMScheduler()), torch.no_grad():
            return unet(*given).sample

    plain, found = unet(*given).sample, {}
    for mode in MODES:
        assert torch.equal(run(0.0, mode), plain)
        found[mode] = run(0.5, mode)
    assert not any(torch.equal(first, second) for first, second in combinations([plain, *found.values()], 2))
    full = run(window(1.0), "blend")
    assert torch.equal(run(1.0, "elements"), full)
    unet.mid_block.forward = lambda hidden_states, *_args, **_options: hidden_states
    assert torch.equal(unet(*given).sample, full)


def test_a_schedule_that_is_0_on_all_the_models_levels():
    case = text_to_image()
    for nowhere in ("window(0.5, sigma_min=20)", "ramp(0.1, 0.5) & window(1, sigma_max=1) & window(1, sigma_min=2)"):
        refused(case.target, nowhere, match=r"is 0 at every noise level there is, 0\.0292 to 14\.6.*widen it")
    enable_bypass(case.target, "ramp(0, 0) & window(1, sigma_min=20)").remove()
    handle = enable_bypass(case.target, 0)
    with pytest.raises(ValueError, match="widen it"):
        handle.strength = window(sigma_min=20.0)
    handle.remove()


def test_a_choice_of_no_channel_or_element():
    unet, x = unconditional_unet(), draw(1, 1, LATENT, LATENT, seed=0)
    refused(unet, 0.03, mode="channels", match=r"round\(0\.03 \* 16\) = 0 of the 16 channels.*strength above 0\.031")
    refused(unet, ramp(0.0, 0.03), mode="channels", scheduler=DDIMScheduler(), match="= 0 of the 16 channels")
    with bypass(unet, 0.001, mode="elements") as handle, torch.no_grad():
        with pytest.raises(ValueError, match="= 0 of the 256 elements"):
            unet(x, 3)
        handle.strength = 0.01
        unet(x, 3)
    enable_bypass(unet, 0, mode="channels").remove()


def test_branches_want_a_pipeline_known_to_have_two():
    refused(ddim().target, branch="conditional", match="DDIMPipeline is not known to put")
    refused(text_unet(), branch="conditional", match="UNet2DConditionModel is not known to put")
    three_parts = assemble(StableDiffusionInstructPix2PixPipeline, text_unet(in_channels=8))
    refused(three_parts, branch="unconditional", match="StableDiffusionInstructPix2PixPipeline is not known")
    enable_bypass(three_parts, 0.5).remove()


def test_a_mid_block_that_is_not_reached_is_an_error_at_the_call():
    case = text_to_image()
    handle = enable_bypass(case.target, 0.5)
    mid_block, case.unet.mid_block = case.unet.mid_block, None
    with pytest.raises(ValueError, match="the bypass of its mid-block did not"):
        case.run()
    case.unet.mid_block = mid_block
    with pytest.raises(ValueError, match="called other than through the U-Net"), torch.no_grad():
        case.unet.forward(draw(1, 4, LATENT, LATENT, seed=0), 3, draw(1, 4, 8, seed=1))
    handle.remove()
