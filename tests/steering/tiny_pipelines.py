"""Pipelines of diffusers' own classes, tiny and with random weights, each with a way to run it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)

from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import DiffusersDenoiser
from leadline.models.unet import depth_unet
from leadline.recipe import SampleSpec
from leadline.sampling import sample

STEPS = 2
LATENT, PIXELS, TEXT = 8, 16, 8


@dataclass
class Case:
    """A pipeline and how it is run: `run()` gives the same tensor every time as long as the model is the same."""

    target: Any
    call: Callable[..., torch.Tensor]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def unet(self) -> Any:
        return getattr(self.target, "unet", self.target)

    def run(self, **more: Any) -> torch.Tensor:
        return self.call(self.target, **(self.options | more))


def randomize(module: torch.nn.Module, seed: int) -> Any:
    """Random weights large enough to matter everywhere, also where a layer starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def unconditional_unet(seed: int = 0, **changes: Any) -> UNet2DModel:
    options: dict[str, Any] = {
        "sample_size": LATENT,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return randomize(UNet2DModel(**(options | changes)), seed)


def text_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    options: dict[str, Any] = {
        "sample_size": LATENT,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": TEXT,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return randomize(UNet2DConditionModel(**(options | changes)), seed)


def xl_unet(seed: int = 0) -> UNet2DConditionModel:
    """Text and size embeddings are added to the time embedding: 6 sizes of width 8 and a pooled text of width 8."""
    return text_unet(
        seed,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT,
    )


def autoencoder() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=PIXELS,
        force_upcast=False,
    )
    return randomize(vae, 1)


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scheduler(**options: Any) -> DDIMScheduler:
    """Stable Diffusion 1.5's."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, **options
    )


def _images(pipe: Any, **options: Any) -> torch.Tensor:
    dtype = pipe.unet.dtype
    options = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    generator = torch.Generator().manual_seed(5)
    result = pipe(**options, num_inference_steps=STEPS, generator=generator, output_type="latent", return_dict=False)
    return result[0].clone()


def _pixels(pipe: Any, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    images, *_ = pipe(
        batch_size=2, generator=generator, num_inference_steps=STEPS, output_type="np.array", return_dict=False
    )
    return torch.from_numpy(images)


def _prompts() -> dict[str, Any]:
    return {"prompt_embeds": draw(1, 4, TEXT, seed=2), "negative_prompt_embeds": draw(1, 4, TEXT, seed=3)}


def _xl_prompts() -> dict[str, Any]:
    pooled = {"pooled_prompt_embeds": draw(1, TEXT, seed=6), "negative_pooled_prompt_embeds": draw(1, TEXT, seed=7)}
    return _prompts() | pooled


def _picture() -> torch.Tensor:
    return draw(1, 3, PIXELS, PIXELS, seed=4).sigmoid()


def assemble(kind: Any, unet: Any = None, **parts: Any) -> Any:
    pipe = kind(
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        unet=text_unet() if unet is None else unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assemble_xl(kind: Any, unet: Any = None, **parts: Any) -> Any:
    pipe = kind(
        vae=autoencoder(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=xl_unet() if unet is None else unet,
        scheduler=scheduler(),
        add_watermarker=False,
        **parts,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddpm() -> Case:
    pipe = DDPMPipeline(unconditional_unet(), DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return Case(pipe, _pixels)


def ddim() -> Case:
    pipe = DDIMPipeline(unconditional_unet(), DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return Case(pipe, _pixels)


def depth_family() -> Case:
    unet = randomize(depth_unet(2, in_channels=1, sample_size=4), 0)

    def run(denoiser: Denoiser, **_: Any) -> torch.Tensor:
        return sample(denoiser, 3, range(2), SampleSpec(steps=STEPS, sampler="ddim", clip_x0=False))

    return Case(DiffusersDenoiser(unet, DDPMScheduler()), run)


def bare() -> Case:
    def run(unet: Any, **_: Any) -> torch.Tensor:
        with torch.no_grad():
            return unet(draw(2, 1, LATENT, LATENT, seed=4), 7).sample

    return Case(unconditional_unet(), run)


def text_to_image(**options: Any) -> Case:
    return Case(assemble(StableDiffusionPipeline), _images, _prompts() | {"height": PIXELS, "width": PIXELS} | options)


def image_to_image(**options: Any) -> Case:
    return Case(
        assemble(StableDiffusionImg2ImgPipeline), _images, _prompts() | {"image": _picture(), "strength": 1.0} | options
    )


def inpaint() -> Case:
    mask = torch.zeros(1, 1, PIXELS, PIXELS)
    mask[..., : PIXELS // 2] = 1
    options = {"image": _picture(), "mask_image": mask, "height": PIXELS, "width": PIXELS, "strength": 1.0}
    return Case(assemble(StableDiffusionInpaintPipeline), _images, _prompts() | options)


def xl_text_to_image() -> Case:
    return Case(assemble_xl(StableDiffusionXLPipeline), _images, _xl_prompts() | {"height": PIXELS, "width": PIXELS})


def xl_image_to_image() -> Case:
    return Case(
        assemble_xl(StableDiffusionXLImg2ImgPipeline), _images, _xl_prompts() | {"image": _picture(), "strength": 1.0}
    )


def controlled(**options: Any) -> Case:
    unet = text_unet()
    control = randomize(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8)), 8)
    pipe = assemble(StableDiffusionControlNetPipeline, unet, controlnet=control)
    return Case(pipe, _images, _prompts() | {"image": _picture(), "height": PIXELS, "width": PIXELS} | options)


def xl_controlled() -> Case:
    unet = xl_unet()
    control = randomize(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8)), 8)
    pipe = assemble_xl(StableDiffusionXLControlNetPipeline, unet, controlnet=control)
    return Case(pipe, _images, _xl_prompts() | {"image": _picture(), "height": PIXELS, "width": PIXELS})


def unguided() -> Case:
    return text_to_image(guidance_scale=1.0)


def several() -> Case:
    return text_to_image(num_images_per_prompt=2)


def half(dtype: torch.dtype) -> Case:
    case = text_to_image()
    case.target.to(dtype=dtype)
    return case


def with_image_prompt() -> Case:
    """IP-Adapter as diffusers installs it: an image projection on the U-Net and processors that attend to it."""
    from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
    from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection

    case = text_to_image(ip_adapter_image_embeds=[torch.cat([torch.zeros(1, 1, 6), draw(1, 1, 6, seed=9)])])
    unet = case.unet
    processors = {}
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
            processors[name] = IPAdapterAttnProcessor2_0(width, TEXT, num_tokens=(2,), scale=1.0)
        else:
            processors[name] = AttnProcessor2_0()
    unet.set_attn_processor(processors)
    projection = ImageProjection(image_embed_dim=6, cross_attention_dim=TEXT, num_image_text_embeds=2)
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([projection])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    randomize(unet, 0)
    return case


class LowRank(torch.nn.Module):
    """A linear layer plus a low-rank update, as a LoRA layer is."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(base.in_features, 2, bias=False)
        self.up = torch.nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))


def adapted() -> Case:
    """Low-rank layers in the mid-block's attention."""
    case = text_to_image()
    attention = case.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    attention.to_q = LowRank(attention.to_q)
    randomize(case.unet, 0)
    return case


def offloaded() -> Case:
    """accelerate's offload, layer by layer, as `enable_sequential_cpu_offload` sets it up."""
    from accelerate import cpu_offload

    case = text_to_image()
    for part in (case.target.vae, case.unet):
        cpu_offload(part, torch.device("cpu"))
    return case


def offloaded_whole() -> Case:
    """accelerate's offload of whole models, as `enable_model_cpu_offload` sets it up."""
    from accelerate import cpu_offload_with_hook

    case = text_to_image()
    for part in (case.target.vae, case.unet):
        cpu_offload_with_hook(part, torch.device("cpu"))
    return case


CASES: dict[str, Callable[[], Case]] = {
    "DDPM": ddpm,
    "DDIM": ddim,
    "depth family": depth_family,
    "bare": bare,
    "text-to-image": text_to_image,
    "unguided": unguided,
    "several": several,
    "image-to-image": image_to_image,
    "inpaint": inpaint,
    "XL": xl_text_to_image,
    "XL image-to-image": xl_image_to_image,
    "ControlNet": controlled,
    "XL ControlNet": xl_controlled,
    "IP-Adapter": with_image_prompt,
    "low rank": adapted,
    "offload": offloaded,
    "model offload": offloaded_whole,
    "bfloat16": lambda: half(torch.bfloat16),
    "float16": lambda: half(torch.float16),
}
