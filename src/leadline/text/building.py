"""The parts of a small Stable Diffusion pipeline, of diffusers' and transformers' own classes, with random weights."""

from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

from leadline.errors import LeadlineError
from leadline.recipe import TextSpec

HEAD_WIDTH = 32
"""Channels of an attention head."""


def check_text(spec: TextSpec, shape: tuple[int, int, int]) -> None:
    """Raise LeadlineError unless images of shape (c, h, w) can be encoded and their latents halved as `spec` asks.

    Also when transformers, the extra `[text]`, is missing.
    """
    try:
        import transformers  # noqa: F401  is it there?
    except ImportError:
        raise LeadlineError(
            "a text-to-image model needs the package transformers: pip install 'leadline[text]'"
        ) from None
    channels, height, width = shape
    if channels != 3:
        raise LeadlineError(
            f"a text-to-image model draws RGB, and the images have {channels} channel: --set data.channels=3"
        )
    factor = 2 ** (len(spec.autoencoder_channels) + len(spec.unet_channels) - 2)
    if height != width or height % factor:
        raise LeadlineError(
            f"images of {height}×{width} px cannot be halved {len(spec.autoencoder_channels) - 1} times by the "
            f"autoencoder and {len(spec.unet_channels) - 1} times by the U-Net: squares of a multiple of {factor} px "
            "are expected (--set data.image_size=…, data.fit=pad or crop), or fewer entries in "
            "text.autoencoder_channels or text.unet_channels"
        )


def latent_size(spec: TextSpec, image_size: int) -> int:
    """Height and width of the latents: the autoencoder halves the image once per entry but the last."""
    return int(image_size // 2 ** (len(spec.autoencoder_channels) - 1))


def build_autoencoder(spec: TextSpec, image_size: int) -> AutoencoderKL:
    """Rombach et al. (2112.10752), the KL autoencoder of RGB images, one residual block at each size."""
    sizes = len(spec.autoencoder_channels)
    return AutoencoderKL(
        sample_size=image_size,
        latent_channels=spec.latent_channels,
        block_out_channels=spec.autoencoder_channels,
        down_block_types=("DownEncoderBlock2D",) * sizes,
        up_block_types=("UpDecoderBlock2D",) * sizes,
        layers_per_block=1,
        norm_num_groups=8,
    )


def build_text_encoder(spec: TextSpec, tokenizer: Any) -> Any:
    """transformers' CLIPTextModel (2103.00020, section 2.4) over the tokenizer's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.text_width,
        intermediate_size=4 * spec.text_width,
        projection_dim=spec.text_width,
        num_hidden_layers=spec.text_layers,
        num_attention_heads=spec.text_width // HEAD_WIDTH,
        max_position_embeddings=spec.tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet(spec: TextSpec, image_size: int) -> UNet2DConditionModel:
    """2112.10752, section 3.3: a U-Net that attends to the text in all blocks but the deepest, and in the mid-block."""
    blocks = len(spec.unet_channels)
    return UNet2DConditionModel(
        sample_size=latent_size(spec, image_size),
        in_channels=spec.latent_channels,
        out_channels=spec.latent_channels,
        block_out_channels=spec.unet_channels,
        layers_per_block=spec.unet_layers,
        down_block_types=(*("CrossAttnDownBlock2D",) * (blocks - 1), "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (blocks - 1)),
        cross_attention_dim=spec.text_width,
        # diffusers takes the number of heads under this name.
        attention_head_dim=tuple(channels // HEAD_WIDTH for channels in spec.unet_channels),
    )


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion 1.5's noise levels, so that a window of them means the same there and here.

    Scaled-linear betas from 0.00085 to 0.012 over 1,000 steps: sigma from 0.029 to 14.6. Few steps begin at the top
    ("trailing", 2305.08891), where the noise is that the sampler starts from.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def assemble(vae: AutoencoderKL, text_encoder: Any, tokenizer: Any, unet: UNet2DConditionModel) -> Any:
    """The parts as a StableDiffusionPipeline, without safety checker and image encoder."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())
