"""The U-Net of a text-to-image pipeline under one prompt, as a Denoiser of latents."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.models.pretrained import NOTHING, DiffusersDenoiser
from leadline.text.generating import cut_prompts, own_size
from leadline.text.loading import load_text_pipeline


class LatentDenoiser(DiffusersDenoiser):
    """2112.10752, section 3: a Denoiser whose images are an autoencoder's scaled latents, of spread about 1.

    Its `shape` and sigmas are those of the latents; `encode` and `decode` go between them and images in [-1, 1].
    """

    def __init__(self, unet: Any, scheduler: Any, vae: Any, *, conditioning: Mapping[str, Any] = NOTHING) -> None:
        super().__init__(unet, scheduler, conditioning=conditioning)
        self.vae = vae

    def encode(self, images: Float[Tensor, "n c height width"]) -> Float[Tensor, "n k h w"]:
        """The mean of the latents of each image, scaled as the U-Net has them."""
        found = self.vae.encode(images.to(self.vae.dtype))
        latents: Tensor = found.latent_dist.mean if hasattr(found, "latent_dist") else found.latents
        return latents.to(images.dtype) * float(self.vae.config["scaling_factor"])

    def decode(self, latents: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c height width"]:
        """The images that scaled latents stand for."""
        images: Tensor = self.vae.decode((latents / self.vae.config["scaling_factor"]).to(self.vae.dtype)).sample
        return images.to(latents.dtype)


@torch.no_grad()
def load_conditional(
    source: str,
    prompt: str = "",
    *,
    device: torch.device | str = "cpu",
    download: bool = False,
    dtype: torch.dtype | None = None,
) -> LatentDenoiser:
    """The U-Net of a Stable Diffusion 1, 2 or XL pipeline under one prompt, without guidance: the conditional estimate.

    source, device, download, dtype: as of `load_text_pipeline`. The empty prompt is the unconditional branch of
    classifier-free guidance. XL is told its own size, uncropped. Raises LeadlineError as `load_text_pipeline` does, on
    a prompt that is longer than the text encoder reads, and on a U-Net that takes more than latents and text.
    """
    pipe = load_text_pipeline(source, device=device, download=download, dtype=dtype)
    for tokens, limit in cut_prompts(pipe, [prompt]).values():
        raise LeadlineError(f"the prompt has {tokens} tokens, and {source} reads {limit}: shorten it")
    if pipe.unet.config.get("time_cond_proj_dim") is not None:
        raise LeadlineError(f"{source} was distilled at a scale of guidance, which its U-Net is told: not supported")
    if pipe.vae.config.get("latents_mean") is not None or pipe.vae.config.get("shift_factor"):
        raise LeadlineError(f"{source}: its autoencoder shifts its latents, which is not supported")
    text, _, *pooled = pipe.encode_prompt(
        prompt, device=pipe.unet.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    conditioning: dict[str, Any] = {"encoder_hidden_states": text}
    if pooled:
        side = own_size(pipe)
        sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=text.dtype)
        conditioning["added_cond_kwargs"] = {"text_embeds": pooled[0], "time_ids": sizes}
    return LatentDenoiser(pipe.unet, pipe.scheduler, pipe.vae, conditioning=conditioning)
