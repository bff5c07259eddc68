"""Decoding of chosen images into one array: in memory, or on disk where it would be large."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from leadline.arrays import allocate
from leadline.data.convert import Converter, Unscalable
from leadline.data.source import Source, Unreadable
from leadline.progress import ProgressCallback, silent

REPORT_EVERY = 250
"""Images between two words on progress."""

Pixels = UInt8[np.ndarray, "n c h w"]


class PixelStore:
    """Pixels by index of the data set; remembers what it decoded, so that a changed choice decodes only what is new."""

    def __init__(self, source: Source, converter: Converter, progress: ProgressCallback = silent) -> None:
        self.source = source
        self.converter = converter
        self.progress = progress
        self.unreadable: dict[int, str] = {}
        """Index -> reason, over all that was tried."""
        self.num_tried = 0
        self._slots: dict[int, int] = {}
        self._pixels: Pixels | None = None

    def read(self, order: Sequence[int]) -> Pixels | None:
        """uint8 [n, c, h, w], row j the image order[j]; None when an image turned out unreadable.

        An index may come several times and is decoded once. After None, ask again without the unreadable ones.
        """
        slots: dict[int, int] = {}
        for slot, index in enumerate(order):
            slots.setdefault(index, slot)
        pixels = self._kept(slots, len(order))
        failures = len(self.unreadable)
        new = sorted(set(slots) - set(self._slots))
        for done, (index, image) in enumerate(zip(new, self.source.read(new), strict=True), 1):
            self.num_tried += 1
            if done % REPORT_EVERY == 0 or done == len(new):
                self.progress(f"decoding {self.source.name}", done, len(new), "")
            if isinstance(image, Unreadable):
                self.unreadable[index] = image.reason
                continue
            try:
                converted = self.converter(image)
            except Unscalable as error:
                self.unreadable[index] = str(error)
                continue
            if pixels is None:
                pixels = allocate((len(order), *converted.shape))
            pixels[slots[index]] = converted
        self._pixels = pixels
        self._slots = {index: slot for index, slot in slots.items() if index not in self.unreadable}
        if len(self.unreadable) > failures or pixels is None:
            return None
        for slot, index in enumerate(order):
            if slots[index] != slot:
                pixels[slot] = pixels[slots[index]]
        return pixels

    def _kept(self, slots: dict[int, int], number: int) -> Pixels | None:
        """A new array with what an earlier call decoded already; None before anything was."""
        if self._pixels is None:
            return None
        pixels = allocate((number, *self._pixels.shape[1:]))
        for index, slot in slots.items():
            if index in self._slots:
                pixels[slot] = self._pixels[self._slots[index]]
        return pixels
