"""SSCD, the descriptor trained to find copies of images."""

import warnings
from pathlib import Path

import torch
import torchvision
from jaxtyping import Float
from torch import nn

from leadline.audit.encoders.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    VectorEncoder,
    batch_size_for,
    channel_constants,
    dimension_of,
    resize,
    resized_size,
)
from leadline.audit.encoders.registry import ENCODERS, Request
from leadline.audit.encoders.weights import (
    Published,
    file_fingerprint,
    fill,
    find_weights,
    fingerprint_of,
    is_torchscript,
    read_state_dict,
)
from leadline.errors import LeadlineError

NAME = "SSCD"
SHORTER = 288
"""Pixels that the authors recommend for the shorter side."""
POWER = 3.0
DIMENSION = 512
LEAST = 1e-6
VERSION = 1
PUBLISHED = Published(
    file="sscd_disc_mixup.torchvision.pt",
    url="https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchvision.pt",
)


class GeneralizedMean(nn.Module):
    """Radenović et al. (2019), eq. 3: maps -> (mean over pixels of max(x, 1e-6)^p)^(1/p), p = 3."""

    def forward(self, maps: Float[torch.Tensor, "n c h w"]) -> Float[torch.Tensor, "n c 1 1"]:
        return maps.clamp(min=LEAST).pow(POWER).mean((2, 3), keepdim=True).pow(1 / POWER)


@ENCODERS.register("sscd")
def sscd(request: Request) -> VectorEncoder:
    """Pizzi et al. (2022): descriptors of length 1 (512), whose inner product says how surely one image copies another.

    Weights: the authors' `.torchvision.pt` (or its tensors as .safetensors), a ResNet-50 with generalised-mean
    pooling; their `.torchscript.pt` only with `allow_torchscript`, as such a file runs the code within it.
    """
    path = find_weights(request.name, PUBLISHED, request.path, download=request.download)
    size = resized_size(*request.shape[1:], SHORTER)
    preparation = f"bilinear with antialiasing to {size[0]}×{size[1]} px, ImageNet's mean and standard deviation"
    options = {"architecture": NAME, "preparation": preparation, "version": VERSION}
    network: nn.Module
    if is_torchscript(path):
        network, kind = _torchscript(request, path), "a TorchScript file, run as it is"
        fingerprint = file_fingerprint(options, path)
    else:
        network, kind = _resnet(path), "a ResNet-50 with generalised-mean pooling"
        fingerprint = fingerprint_of(options, network.state_dict())
    network = network.to(request.device)
    mean, std = channel_constants(IMAGENET_MEAN, request.device), channel_constants(IMAGENET_STD, request.device)

    def vectors(images: RGB) -> Float[torch.Tensor, "n d"]:
        resized = resize((images + 1) / 2, size, "bilinear", antialias=True)
        return nn.functional.normalize(network((resized - mean) / std))

    return VectorEncoder(
        name=NAME,
        fingerprint=fingerprint,
        description=f"SSCD, {kind}, weights from {path.name}; {preparation}; descriptors of length 1.",
        batch_size=batch_size_for(*size),
        outputs={"features": dimension_of(str(path), vectors, request.shape, request.device)},
        shape=request.shape,
        device=request.device,
        vectors=vectors,
    )


def _resnet(path: Path) -> nn.Module:
    with torch.device("meta"):
        network = torchvision.models.resnet50(weights=None, num_classes=DIMENSION)
    network.avgpool = GeneralizedMean()
    weights = {name.removeprefix("backbone."): value for name, value in read_state_dict(path).items()}
    filled: nn.Module = fill(network, weights, file=str(path), what="SSCD's ResNet-50 in torchvision's layout")
    return filled


def _torchscript(request: Request, path: Path) -> nn.Module:
    if not request.allow_torchscript:
        raise LeadlineError(
            f"{path} is a TorchScript file: loading it runs the code within it. Give the weights alone "
            f"({PUBLISHED.file}), or, if you trust whoever made the file, allow it (--allow-torchscript)"
        )
    try:
        with warnings.catch_warnings():
            # torch asks authors to export their models otherwise; those who only load one can do nothing about it.
            for category in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            network: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=request.device
            )
    except (RuntimeError, ValueError) as error:
        raise LeadlineError(f"{path} cannot be read as TorchScript: {str(error)[:300]}") from None
    return network.eval()
