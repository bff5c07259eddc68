"""What all encoders share: images in, float32 arithmetic without shortcuts, vectors or feature maps out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from leadline.errors import LeadlineError
from leadline.precision import full_float32

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_IMAGES = 32
"""Images per call: more make the CPU no faster, and a network's feature maps take room."""
MOST_PIXELS = MOST_IMAGES * 128 * 128

RGB = Float[torch.Tensor, "n 3 _ _"]


@dataclass(frozen=True, kw_only=True)
class VectorEncoder:
    """Images to one vector each. vectors: RGB images in [-1, 1], on the device -> [n, d].

    shape: (channels, height, width) of the images that it was loaded for.
    """

    name: str
    fingerprint: str
    description: str
    batch_size: int
    outputs: Mapping[str, int]
    shape: tuple[int, int, int]
    device: torch.device
    vectors: Callable[[RGB], Float[torch.Tensor, "n d"]]

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> `features`, float32 [n, d]."""
        with exact_arithmetic():
            vectors = self.vectors(rgb(images, self.name, self.shape, self.device))
        return {"features": vectors.float().cpu().numpy()}


@dataclass(frozen=True, kw_only=True)
class MapsEncoder:
    """Images to the feature maps of a network's stages, each after its ReLU; pooled features where `outputs` has them.

    prepare: RGB images in [-1, 1] -> what the first stage reads. heads: the weight of each channel of each stage's
    maps in LPIPS, or None.
    """

    name: str
    fingerprint: str
    description: str
    batch_size: int
    outputs: Mapping[str, int]
    shape: tuple[int, int, int]
    device: torch.device
    prepare: Callable[[RGB], RGB]
    stages: tuple[nn.Module, ...]
    heads: tuple[Float[torch.Tensor, " _"], ...] | None

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> `features`, float32 [n, d]: the last maps' means over their pixels; or nothing."""
        return self.encode_with_taps(images)[0] if self.outputs else {}

    def encode_with_taps(
        self, images: Float[np.ndarray, "n c h w"]
    ) -> tuple[dict[str, np.ndarray], list[Float[torch.Tensor, "n ..."]]]:
        """What `encode` gives, and the maps [n, c, h, w] of each stage, on the encoder's device."""
        taps = []
        with exact_arithmetic():
            maps = self.prepare(rgb(images, self.name, self.shape, self.device))
            for stage in self.stages:
                maps = stage(maps)
                taps.append(maps)
            pooled = maps.mean((2, 3))
        return {name: pooled.cpu().numpy() for name in self.outputs}, taps


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """No gradients, and full float32 whatever the process has asked for: TF32 would move distances in the third digit.

    Not inference mode, whose tensors cannot be changed in place by those who get them.
    """
    with (
        torch.no_grad(),
        full_float32(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def rgb(images: Float[np.ndarray, "n c h w"], name: str, shape: tuple[int, int, int], device: torch.device) -> RGB:
    """Images on the device with three channels, grey ones repeated. Raises LeadlineError on another shape."""
    if images.shape[1:] != shape:
        raise LeadlineError(f"the encoder {name!r} was loaded for images of shape {shape}, not {images.shape[1:]}")
    batch = torch.from_numpy(np.array(images, dtype=np.float32)).to(device)
    return batch.expand(-1, 3, -1, -1)


def to_bytes(images: RGB) -> RGB:
    """The 0–255 values that images in [-1, 1] were made of, exactly: float32 holds (v / 127.5 - 1) well enough."""
    return ((images + 1) * 127.5).round().clamp(0, 255)


def resized_size(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) with the shorter side `shorter` px long and the same proportions, to a whole pixel."""
    least = min(height, width)
    return shorter * height // least, shorter * width // least


def resize(images: RGB, size: tuple[int, int], mode: str, *, antialias: bool) -> RGB:
    """Bilinear or bicubic, pixel centres at the half; images of that size as they are."""
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size=size, mode=mode, align_corners=False, antialias=antialias)


def batch_size_for(height: int, width: int) -> int:
    """Images per call at the size that the network reads: up to 32, fewer above 128×128 px."""
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))


def channel_constants(values: tuple[float, ...], device: torch.device) -> Float[torch.Tensor, "1 3 1 1"]:
    """One number per colour, ready to be broadcast over images."""
    return torch.tensor(values, device=device).reshape(1, 3, 1, 1)


def dimension_of(
    what: str,
    vectors: Callable[[RGB], Float[torch.Tensor, "n d"]],
    shape: tuple[int, int, int],
    device: torch.device,
) -> int:
    """Length of a network's vectors, by a run on one image. Raises LeadlineError where that gives no vector.

    what: the file or folder, for the message. For networks whose shape stands in a file that others wrote.
    """
    try:
        with exact_arithmetic():
            found = vectors(torch.zeros(1, 3, *shape[1:], device=device))
        count, dimension = found.shape
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise LeadlineError(f"the network of {what} gives no vectors of images of shape {shape}: {error}") from None
    if count != 1:
        raise LeadlineError(f"the network of {what} gives {count} vectors of one image, expected one")
    return dimension
