"""The parts of the pipeline: what they are, and what cannot be built."""

import sys

import pytest
import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn

from leadline.errors import LeadlineError
from leadline.recipe import TextSpec
from leadline.text.building import build_autoencoder, build_unet, check_text, latent_size, noise_schedule

SPEC = TextSpec(autoencoder_channels=(8, 16), unet_channels=(32, 64), text_width=32)


def test_the_autoencoder_halves_as_often_as_it_says() -> None:
    vae = build_autoencoder(SPEC, 16)
    with torch.no_grad():
        mean = vae.encode(torch.zeros(2, 3, 16, 16)).latent_dist.mean
        assert mean.shape == (2, 4, latent_size(SPEC, 16), 8)
        assert vae.decode(mean).sample.shape == (2, 3, 16, 16)


def test_the_text_reaches_the_unet_and_its_mid_block() -> None:
    unet = build_unet(SPEC, 16)
    assert isinstance(unet.mid_block, UNetMidBlock2DCrossAttn)
    assert unet.config["sample_size"] == 8
    assert unet.mid_block.attentions[0].transformer_blocks[0].attn2.heads == 2
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = [unet(x, 500, encoder_hidden_states=torch.full((1, 16, 32), value)).sample for value in (0.0, 1.0)]
    assert not torch.allclose(*outputs)


def test_the_noise_levels_are_those_of_stable_diffusion() -> None:
    """Published for SD 1.5 in k-diffusion's terms: 0.0292 to 14.6146."""
    alphas = noise_schedule().alphas_cumprod.double()
    sigmas = ((1 - alphas) / alphas).sqrt()
    assert float(sigmas[0]) == pytest.approx(0.0292, abs=5e-5)
    assert float(sigmas[-1]) == pytest.approx(14.6146, abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 16, 16), "draws RGB, and the images have 1 channel: --set data.channels=3"),
        ((3, 18, 18), "18×18 px cannot be halved 1 times by the autoencoder and 1 times .* a multiple of 4 px"),
        ((3, 16, 8), "16×8 px cannot be halved"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, int, int], message: str) -> None:
    check_text(SPEC, (3, 16, 16))
    with pytest.raises(LeadlineError, match=message):
        check_text(SPEC, shape)


def test_without_transformers_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LeadlineError, match=r"pip install 'leadline\[text\]'"):
        check_text(SPEC, (3, 16, 16))
