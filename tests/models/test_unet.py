"""The depth family against the papers' Table A, and what each control holds equal."""

import pytest
import torch
from diffusers.models.attention_processor import Attention

from leadline.models.unet import build_unet, count_parameters, depth_unet, matched_unet
from leadline.recipe import ModelSpec

TABLE_A = {
    (2, False): 1_002_883,
    (2, True): 15_930_883,
    (3, False): 3_692_867,
    (4, False): 3_859_203,
    (5, False): 16_887_619,
    (6, False): 27_290_691,
}


def meta_count(unet_of):
    with torch.device("meta"):
        return count_parameters(unet_of())


def attention_sizes(unet, channels, size):
    """Heights of the images that each attention layer sees in a real forward pass."""
    seen = set()
    hooks = [
        module.register_forward_pre_hook(lambda _, args: seen.add(args[0].shape[-1]))
        for module in unet.modules()
        if isinstance(module, Attention)
    ]
    with torch.no_grad():
        unet(torch.zeros(1, channels, size, size), torch.zeros(1))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("member", "parameters"), TABLE_A.items())
def test_parameter_counts_equal_the_printed_ones(member, parameters):
    assert meta_count(lambda: depth_unet(member[0], wide=member[1])) == parameters


@pytest.mark.parametrize("blocks", range(2, 7))
def test_n_blocks_halve_the_image_n_minus_1_times(blocks):
    unet = depth_unet(blocks, in_channels=1, sample_size=32)
    sizes = []
    hook = unet.mid_block.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-1]))
    with torch.no_grad():
        out = unet(torch.zeros(2, 1, 32, 32), torch.zeros(2)).sample
    hook.remove()
    assert sizes == [32 // 2 ** (blocks - 1)]
    assert out.shape == (2, 1, 32, 32)


def test_a_size_that_the_depth_cannot_halve_is_refused_with_the_sizes_that_can():
    with pytest.raises(ValueError, match=r"28 px cannot be halved 3 times.*4 blocks.*multiple of 8.*24 or 32"):
        depth_unet(4, sample_size=28)
    with pytest.raises(ValueError, match=r"8 px cannot be halved 5 times.*6 blocks.*multiple of 32.*can: 32"):
        depth_unet(6, sample_size=8)
    assert depth_unet(3, in_channels=1, sample_size=28).config["sample_size"] == 28


@pytest.mark.parametrize("blocks", [1, 7])
def test_other_depths_are_refused(blocks):
    with pytest.raises(ValueError, match=f"2 to 6 blocks, not {blocks}"):
        depth_unet(blocks)
    with pytest.raises(ValueError, match=f"2 to 6 blocks, not {blocks}"):
        matched_unet(blocks, ("width",))


def test_wide_is_a_member_with_2_blocks_only():
    with pytest.raises(ValueError, match="only the model with 2 blocks has a wide member"):
        depth_unet(3, wide=True)
    with pytest.raises(ValueError, match="wide is a member of the papers' family"):
        build_unet(ModelSpec(blocks=2, wide=True, match="width"), 1, 16)


@pytest.mark.parametrize("match", [("parameters",), ("parameters", "attention")])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameter_matched_controls_are_within_3_percent(match, channels):
    counts = [meta_count(lambda b=b: matched_unet(b, match, in_channels=channels)) for b in range(2, 7)]
    assert max(counts) / min(counts) < 1.03


@pytest.mark.parametrize("match", [("width",), ("width", "attention")])
def test_width_matched_controls_have_one_width(match):
    with torch.device("meta"):
        widths = {w for b in range(2, 7) for w in matched_unet(b, match).config["block_out_channels"]}
    assert widths == {64}


@pytest.mark.parametrize("match", [("attention",), ("width", "attention"), ("parameters", "attention")])
@pytest.mark.parametrize("blocks", range(2, 7))
def test_attention_matched_controls_attend_at_half_the_image_only(match, blocks):
    assert attention_sizes(matched_unet(blocks, match, 1, 32), 1, 32) == {16}


@pytest.mark.parametrize("blocks", range(2, 7))
def test_the_papers_models_attend_in_their_mid_block_too(blocks):
    # What the control removes: the mid-block's attention, at a resolution that falls with depth.
    assert 32 // 2 ** (blocks - 1) in attention_sizes(depth_unet(blocks, 1, 32), 1, 32)


def test_impossible_matches_are_refused():
    with pytest.raises(ValueError, match="parameters and width cannot be equal together"):
        matched_unet(3, ("parameters", "width"))
    with pytest.raises(ValueError, match="not depth"):
        matched_unet(3, ("depth",))
    with pytest.raises(ValueError, match="not nothing"):
        matched_unet(3, ())
