"""Networks whose feature maps are compared: the three of LPIPS with its heads, and SqueezeNet without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision
from jaxtyping import Float
from torch import nn

from leadline.audit.encoders.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    MapsEncoder,
    batch_size_for,
    channel_constants,
    resize,
    resized_size,
)
from leadline.audit.encoders.registry import ENCODERS, Request
from leadline.audit.encoders.weights import Published, fill, find_weights, fingerprint_of, is_published, read_state_dict
from leadline.errors import LeadlineError

ENLARGED = 64
"""Shorter side in pixels of images that were too small for a network: LPIPS was fitted on 64×64 patches."""
VERSION = 1
TORCHVISION = "https://download.pytorch.org/models/"

# torchvision's ImageNet constants in units of [-1, 1]; they are LPIPS's shift and scale.
SHIFT = tuple(round(2 * mean - 1, 3) for mean in IMAGENET_MEAN)
SCALE = tuple(round(2 * std, 3) for std in IMAGENET_STD)


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """The convolutional part of a torchvision classifier. ends: index of the layer that ends each stage.

    smallest: pixels on the shorter side below which a stage would have nothing left to read.
    channels_last: whether its convolutions run faster so on a CPU.
    """

    title: str
    build: Callable[..., nn.Module]
    ends: tuple[int, ...]
    smallest: int
    published: Published
    channels_last: bool = False


ALEXNET = Trunk(
    title="AlexNet",
    build=torchvision.models.alexnet,
    ends=(1, 4, 7, 9, 11),
    smallest=31,
    published=Published(
        file="alexnet-owt-7be5be79.pth", url=f"{TORCHVISION}alexnet-owt-7be5be79.pth", sha256="7be5be79"
    ),
)
VGG = Trunk(
    title="VGG-16",
    build=torchvision.models.vgg16,
    ends=(3, 8, 15, 22, 29),
    smallest=16,
    published=Published(file="vgg16-397923af.pth", url=f"{TORCHVISION}vgg16-397923af.pth", sha256="397923af"),
)
SQUEEZENET = Trunk(
    title="SqueezeNet 1.1",
    build=torchvision.models.squeezenet1_1,
    ends=(1, 4, 7, 9, 10, 11, 12),
    smallest=17,
    published=Published(
        file="squeezenet1_1-b8a52dc0.pth", url=f"{TORCHVISION}squeezenet1_1-b8a52dc0.pth", sha256="b8a52dc0"
    ),
    channels_last=True,
)


def _lpips(request: Request, trunk: Trunk, net: str) -> MapsEncoder:
    """Zhang et al. (2018), eq. 1, v0.1 of the `lpips` package: the stages of a trunk and the weight of each channel.

    No feature space: the distance is one of maps, and no vector of useful size stands for them.
    """
    return _maps_encoder(request, trunk, name=request.name, heads=_heads(net), outputs={})


ENCODERS.register("lpips-alex")(partial(_lpips, trunk=ALEXNET, net="alex"))
ENCODERS.register("lpips-vgg")(partial(_lpips, trunk=VGG, net="vgg"))
ENCODERS.register("lpips-squeeze")(partial(_lpips, trunk=SQUEEZENET, net="squeeze"))


@ENCODERS.register("squeezenet")
def squeezenet(request: Request) -> MapsEncoder:
    """Iandola et al. (2016), SqueezeNet 1.1 in torchvision's layout: its last maps averaged over their pixels (512).

    The maps of its stages are compared without weights: never called LPIPS, whose heads were fitted to other weights.
    """
    return _maps_encoder(request, SQUEEZENET, name="SqueezeNet", heads=None, outputs={"features": 512})


def _maps_encoder(
    request: Request,
    trunk: Trunk,
    *,
    name: str,
    heads: tuple[Float[torch.Tensor, " _"], ...] | None,
    outputs: Mapping[str, int],
) -> MapsEncoder:
    path = find_weights(request.name, trunk.published, request.path, download=request.download)
    with torch.device("meta"):
        features: Any = trunk.build(weights=None).features
    layers: nn.Sequential = features[: trunk.ends[-1] + 1]
    network = fill(
        layers,
        _features_only(read_state_dict(path)),
        file=str(path),
        what=f"torchvision's {trunk.title}",
    )
    height, width = request.shape[1:]
    size = (height, width) if min(height, width) >= trunk.smallest else resized_size(height, width, ENLARGED)
    tensors = network.state_dict() | {f"heads.{index}": head for index, head in enumerate(heads or ())}
    options = {
        "architecture": name,
        "ends": trunk.ends,
        "size": size,
        "shift": SHIFT,
        "scale": SCALE,
        "version": VERSION,
    }
    fingerprint = fingerprint_of(options, tensors)
    memory_format = torch.channels_last if trunk.channels_last else torch.contiguous_format
    network = network.to(request.device).to(memory_format=memory_format)
    shift, scale = channel_constants(SHIFT, request.device), channel_constants(SCALE, request.device)

    def prepare(images: RGB) -> RGB:
        resized = resize(images, size, "bilinear", antialias=False)
        return ((resized - shift) / scale).contiguous(memory_format=memory_format)

    return MapsEncoder(
        name=name,
        fingerprint=fingerprint,
        description=_description(trunk, path, size, enlarged=size != (height, width), with_heads=heads is not None),
        batch_size=batch_size_for(*size),
        outputs=outputs,
        shape=request.shape,
        device=request.device,
        prepare=prepare,
        stages=_stages(network, trunk.ends),
        heads=None if heads is None else tuple(head.to(request.device) for head in heads),
    )


def _stages(layers: nn.Sequential, ends: Sequence[int]) -> tuple[nn.Module, ...]:
    return tuple(layers[first + 1 : last + 1] for first, last in pairwise((-1, *ends)))


def _features_only(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The convolutional part of a whole torchvision checkpoint; of `model.features` alone, all of it."""
    return {
        name.removeprefix("features."): value for name, value in weights.items() if not name.startswith("classifier.")
    }


def _heads(net: str) -> tuple[Float[torch.Tensor, " _"], ...]:
    """The weights that the `lpips` package ships: one non-negative number per channel of each stage."""
    spec = find_spec("lpips")
    if spec is None or spec.origin is None:
        raise LeadlineError("LPIPS's heads come with the package lpips, which is not installed: pip install lpips")
    # Read as a file: importing the package would build nothing of use here, and its classes download by themselves.
    state = read_state_dict(Path(spec.origin).parent / "weights" / "v0.1" / f"{net}.pth")
    return tuple(state[f"lin{index}.model.1.weight"].to(torch.float32).flatten() for index in range(len(state)))


def _description(trunk: Trunk, path: Path, size: tuple[int, int], *, enlarged: bool, with_heads: bool) -> str:
    read = f"read at {size[0]}×{size[1]} px, "
    read += "enlarged bilinearly, as smaller ones leave its last stages nothing" if enlarged else "their own size"
    heads = "no heads: its distances are not calibrated"
    if with_heads:
        heads = "the heads of lpips v0.1"
        if not is_published(path, trunk.published):
            heads += f", which were fitted to {trunk.published.file}: this is LPIPS only if the weights are the same"
    return (
        f"{trunk.title} in torchvision's layout, weights from {path.name}, {heads}; images {read}, "
        "normalised by ImageNet's mean and standard deviation."
    )
