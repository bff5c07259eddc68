"""Any image mode and size to uint8 [c, h, w], explicitly: what was done is stated in one sentence."""

from collections import Counter
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from leadline.errors import LeadlineError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
COLOURS = {1: "grey", 3: "RGB"}


class Unscalable(ValueError):
    """The values of an image have no defined meaning in 8 bits."""


class Converter:
    """Converts one image after another to the same channels and size, and keeps count of what it did.

    channels: 1 (grey: ITU-R 601 luma of colours), 3 (RGB), or None: those of the first image, which all must have.
    size: (height, width) in px, or None: that of the first image, which all must have.
    """

    def __init__(
        self,
        name: str,
        channels: Literal[1, 3] | None = None,
        size: tuple[int, int] | None = None,
        fit: Literal["resize", "pad", "crop"] = "resize",
    ) -> None:
        if fit != "resize" and size is None:
            raise LeadlineError(
                f"data.fit={fit} says how images reach data.image_size, which is not set: set it "
                "(--set data.image_size=64), or leave out data.fit"
            )
        self.name = name
        self.channels: int | None = channels
        self.size = size
        self.fit = fit
        self.own_channels = channels is None
        self.own_size = size is None
        self.modes: Counter[str] = Counter()
        self.sizes: set[tuple[int, int]] = set()
        self.transparent = 0

    def __call__(self, image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
        """uint8 [c, h, w]. Raises Unscalable for values that 8 bits cannot hold, LeadlineError on a mismatch."""
        plain = eight_bit(image)
        channels = len(plain.getbands())
        height, width = plain.height, plain.width
        if self.channels is None:
            self.channels = channels
        if self.size is None:
            self.size = (height, width)
        if self.own_channels and channels != self.channels:
            raise LeadlineError(
                f"{self.name} holds grey and RGB images: choose one with --set data.channels=1 or data.channels=3"
            )
        if self.own_size and (height, width) != self.size:
            raise LeadlineError(
                f"{self.name} holds images of different sizes (width×height {self.size[1]}×{self.size[0]} and "
                f"{width}×{height}): set one with --set data.image_size=64, and --set data.fit=resize, pad or crop"
            )
        self.modes[image.mode] += 1
        self.sizes.add((width, height))
        self.transparent += image.has_transparency_data
        fitted = fit_image(_in_mode(plain, "L" if self.channels == 1 else "RGB"), *self.size, self.fit)
        values = np.asarray(fitted)
        return values[None] if self.channels == 1 else values.transpose(2, 0, 1)

    def describe(self) -> str:
        """What was done, in one sentence without a full stop: "grey, 28×28 padded with black to 32×32"."""
        if self.size is None or self.channels is None:
            return "no image was converted"
        colour = COLOURS[self.channels]
        if set(self.modes) - {"L" if self.channels == 1 else "RGB"}:
            counts = ", ".join(f"{mode} {n:,}" for mode, n in sorted(self.modes.items()))
            colour += f" (from PIL's modes {counts})"
        if self.transparent:
            colour += f", transparency over black in {self.transparent:,}"
        return f"{colour}, {self._describe_size(self.size)}"

    def _describe_size(self, size: tuple[int, int]) -> str:
        height, width = size
        ordered = sorted(self.sizes, key=lambda s: (s[0] * s[1], s))
        own = f"{ordered[0][0]}×{ordered[0][1]}"
        if len(ordered) > 1:
            own = f"{len(ordered):,} sizes from {own} to {ordered[-1][0]}×{ordered[-1][1]}"
        if ordered == [(width, height)]:
            return own
        larger = any(w > width or h > height for w, h in ordered)
        how = {
            "resize": "resized (Lanczos)",
            "crop": "cropped at the centre and resized (Lanczos)",
            "pad": "resized (Lanczos) where larger and padded with black" if larger else "padded with black",
        }[self.fit]
        return f"{own} {how} to {width}×{height}"


def eight_bit(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, 8 bits a channel.

    16-bit greys: round(v / 257). Mode I: the same, its values must lie in 0..65535. Mode F: round(255 v), its values
    must lie in 0..1. Transparency: over black. All other modes as PIL converts them. Raises Unscalable.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        top = 1 if image.mode == "F" else 65535
        # Written so that values that are no numbers fail too.
        if not (values.min() >= 0 and values.max() <= top):
            raise Unscalable(f"mode {image.mode} with values {values.min():g} to {values.max():g}, outside 0 to {top}")
        return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB").convert(mode)
    return _in_mode(image, mode)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in another mode; PIL would copy one that is in it already."""
    return image if image.mode == mode else image.convert(mode)


def fit_image(image: Image.Image, height: int, width: int, fit: Literal["resize", "pad", "crop"]) -> Image.Image:
    """The image at width×height px; an image of that size is returned untouched. Resampling: Lanczos, antialiased.

    resize: aspect ratio given up. pad: centred on black, made smaller only where it is larger, aspect ratio kept.
    crop: the largest centred part of the target's aspect ratio, then resized.
    """
    if image.size == (width, height):
        return image
    if fit == "pad":
        scale = min(width / image.width, height / image.height, 1.0)
        if scale < 1:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        canvas = Image.new(image.mode, (width, height))
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas
    if fit == "crop":
        scale = max(width / image.width, height / image.height)
        part_width, part_height = max(1, round(width / scale)), max(1, round(height / scale))
        left, top = (image.width - part_width) // 2, (image.height - part_height) // 2
        image = image.crop((left, top, left + part_width, top + part_height))
        if image.size == (width, height):
            return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
