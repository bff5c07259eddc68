"""A set of images or vectors as the closed forms read it: rows in tiles, widened one by one, about a common centre."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from leadline.errors import LeadlineError

Vectors = np.ndarray | Tensor

TILE_BYTES = 8 * 2**20
"""A tile of float32: what two products read one after the other should stay in the cache."""
CENTER_ROWS = 1024
"""Rows, evenly spaced, whose mean is the centre: any point near the vectors serves."""


class Reference:
    """Vectors [n, ...] that many queries are compared with: checked, flattened, read in tiles, never copied whole.

    An array, a memory map or a tensor of float values, or of uint8 pixels, which are read as images in [-1, 1] (pixels
    / 127.5 - 1). A memory map stays on its disk; all else is moved to `device`. labels: int [n] of `num_classes`
    classes, or None. tile: rows per tile, default 8 MiB of float32.

    Raises LeadlineError on an empty set, values that are not finite, and labels that do not fit.
    """

    def __init__(
        self,
        data: Vectors,
        *,
        labels: Int[Tensor, " _n"] | Int[np.ndarray, " _n"] | None = None,
        num_classes: int | None = None,
        tile: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        kind = str(data.dtype).removeprefix("torch.")
        if data.ndim < 2 or 0 in data.shape or not (kind == "uint8" or "float" in kind):
            raise LeadlineError(
                f"expected at least one image [n, ...] of float values or uint8 pixels, not {kind} of shape "
                f"{list(data.shape)}"
            )
        if tile is not None and tile < 1:
            raise LeadlineError(f"tile, the rows read at a time, must be 1 or more, not {tile}")
        own = data.device if isinstance(data, Tensor) else "cpu"
        self.device = torch.device(own if device is None else device)
        self.data: Vectors = data if isinstance(data, np.memmap) else as_tensor(data).detach().to(self.device)
        self.count, self.dimension = len(data), math.prod(data.shape[1:])
        self.tile = min(self.count, tile or max(256, TILE_BYTES // (4 * self.dimension)))
        self.labels, self.num_classes = _labels(labels, num_classes, self.count, self.device)
        spread = torch.arange(0, self.count, max(1, self.count // CENTER_ROWS))[:CENTER_ROWS]
        # A float32, so that taking it off is one rounding of the result.
        self.center = self.rows(spread).mean(0).float().double()
        squared = torch.stack([tile[:, self.dimension].amax() for _, tile in self.tiles(torch.float32)]).amax()
        self.longest = float(squared) ** 0.5
        """Length of the longest vector about the centre."""
        if not math.isfinite(self.longest):
            raise LeadlineError("the images hold values that are NaN, infinite or too large to square in float32")

    @property
    def columns(self) -> int:
        """Of a tile."""
        return self.dimension + 2 + self.num_classes

    def rows(self, chosen: slice | Int[Tensor, " r"]) -> Tensor:
        """Some rows as float64 [r, d]; of a memory map only these are read."""
        return self._read(chosen).double()

    def slices(self) -> Iterator[slice]:
        """The rows of each tile in turn."""
        return (slice(at, min(at + self.tile, self.count)) for at in range(0, self.count, self.tile))

    def tiles(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """(rows, [r, d + 2 + C]) of all vectors, in memory that is used again for the next tile.

        The columns: the vector b about the centre, |b|^2, 1, and the one-hot label. One product with [a, s, ...] then
        gives any a·b + s |b|^2, and one with weights their sum, the weighted mean and the votes.
        """
        d = self.dimension
        room = torch.zeros(self.tile, self.columns, dtype=dtype, device=self.device)
        room[:, d + 1] = 1
        center = self.center.to(dtype)
        for rows in self.slices():
            tile = room[: rows.stop - rows.start]
            torch.sub(self._read(rows).to(dtype), center, out=tile[:, :d])
            tile[:, d] = torch.linalg.vector_norm(tile[:, :d], dim=1).square_()
            if self.labels is not None:
                tile[:, d + 2 :].zero_().scatter_(1, self.labels[rows, None], 1.0)
            yield rows, tile

    def _read(self, chosen: slice | Tensor) -> Tensor:
        if isinstance(self.data, Tensor):
            part = self.data[chosen if isinstance(chosen, slice) else chosen.to(self.data.device)]
        else:
            part = as_tensor(self.data[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]).to(self.device)
        part = part.flatten(1)
        return part.float().div_(127.5).sub_(1) if part.dtype == torch.uint8 else part


def as_tensor(data: Vectors) -> Tensor:
    """The array as a tensor; a copy of what cannot be written to, of which torch would warn."""
    if isinstance(data, Tensor):
        return data
    kind: Any = data.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(data, kind, ["C", "W"]) if data.flags.writeable else np.array(data, kind))


def _labels(
    labels: Tensor | np.ndarray | None, num_classes: int | None, count: int, device: torch.device
) -> tuple[Tensor | None, int]:
    """Labels int64 [n] on the device, and how many classes there are; None and 0 without labels."""
    if labels is None:
        if num_classes is not None:
            raise LeadlineError(f"num_classes={num_classes} was given without labels: give both or neither")
        return None, 0
    numbers = as_tensor(labels).to(device, torch.int64)
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.numel() else (0, -1)
    classes = high + 1 if num_classes is None else num_classes
    if numbers.shape != (count,) or low < 0 or high >= classes:
        raise LeadlineError(
            f"labels must be {count} numbers from 0 to {classes - 1}, one per image, not {list(numbers.shape)} "
            f"from {low} to {high}"
        )
    return numbers, classes
