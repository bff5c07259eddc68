"""Images to feature vectors: one pass over the pixels for all encoders, in batches, cached on disk when asked."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.arrays import allocate
from leadline.audit.cache import FeatureCache
from leadline.audit.pairs import PairDistances, PairSums
from leadline.records import ImageSet

BLOCK_BYTES = 2**26
"""What is read at a time, as float32; each encoder takes it in batches of its own size."""
CHUNK = 2048
"""Images whose features are kept together."""

Outputs = dict[str, dict[str, np.ndarray]]


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns images into vectors. Its fingerprint covers weights and every option."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def description(self) -> str:
        """Network, weights, size and normalisation of what it is given, in one sentence."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per call. Always as many: a network's last digits depend on the size of the batch."""
        ...

    @property
    def outputs(self) -> Mapping[str, int]:
        """Name of each output -> its dimension. A feature space has the output `features`."""
        ...

    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> name of each output -> float32 [n, d]."""
        ...


@runtime_checkable
class TappedEncoder(Encoder, Protocol):
    """An encoder that also shows the feature maps between its layers, as LPIPS compares them."""

    @property
    def heads(self) -> Sequence[Float[torch.Tensor, " _"]] | None:
        """LPIPS's weight of each channel of each tap; None: not calibrated, every channel weighs 1."""
        ...

    def encode_with_taps(
        self, images: Float[np.ndarray, "n c h w"]
    ) -> tuple[dict[str, np.ndarray], list[Float[torch.Tensor, "n ..."]]]:
        """What `encode` gives, and the maps [n, c, h, w] of each tap."""
        ...


@runtime_checkable
class Grouping(Protocol):
    """The group of each image, -1 for none: known, or read off the labeler's output of the same pass."""

    @property
    def num_groups(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, rows: slice, found: Mapping[str, Mapping[str, np.ndarray]], /) -> Int[np.ndarray, " n"]:
        """rows: which images; found: what the encoders made of all images, up to and with these rows."""
        ...


def encode(
    images: ImageSet,
    encoders: Sequence[Encoder],
    *,
    grouping: Grouping | None = None,
    seed: int = 0,
    cache: Path | None = None,
    block: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Outputs, dict[str, PairDistances]]:
    """All outputs of all encoders over an image set, and the distances over all pairs where an encoder has taps.

    Outputs: encoder's name -> output's name -> float32 [n, d]. Pair distances: encoder's name -> PairDistances, of
    the groups of `grouping`; without it none are made. The pixels are read once, so they may be a memory map; an
    output above 1 GiB is one too. Encoders run in the given order, the one that `grouping` reads first.

    cache: folder in which features are kept, chunk by chunk of 2,048 images, under the hash of the images' content
    and the encoder's fingerprint: an interrupted pass goes on at the chunk where it was, and known images are not
    read again. Pair distances are kept when all images have been seen. seed: of the choice of images behind their
    errors. block: images read at a time (default: 64 MiB of them). progress: called with images done and in all.
    """
    run = _Pass(images, encoders, grouping, FeatureCache(cache), seed)
    block = block or _block(images.shape, encoders)
    for start in range(0, len(images), CHUNK):
        run.read(slice(start, min(start + CHUNK, len(images))), block, progress)
    return run.found, run.pairs()


def _block(shape: tuple[int, int, int], encoders: Sequence[Encoder]) -> int:
    """Images to read at a time: a power of two, so that batches fit into it, and a batch of each encoder at least."""
    wanted = max(1, BLOCK_BYTES // (4 * math.prod(shape)))
    return min(CHUNK, max(1 << wanted.bit_length() - 1, *(encoder.batch_size for encoder in encoders), 1))


class _Pass:
    """One way through the images: what the encoders made of them so far."""

    def __init__(
        self,
        images: ImageSet,
        encoders: Sequence[Encoder],
        grouping: Grouping | None,
        store: FeatureCache,
        seed: int,
    ) -> None:
        self.images, self.encoders, self.store = images, encoders, store
        self.found: Outputs = {
            e.name: {name: allocate((len(images), d), np.float32) for name, d in e.outputs.items()} for e in encoders
        }
        self.known: dict[str, PairDistances] = {}
        self.sums: dict[str, _Sums] = {}
        self.content = store.content(images, slice(0, len(images))) if grouping is not None else ""
        for encoder in encoders:
            if grouping is not None and isinstance(encoder, TappedEncoder):
                key = f"{grouping.fingerprint}/{seed}"
                known = store.pairs(self.content, encoder, key)
                if known is None:
                    sums = PairSums(encoder.heads, grouping.num_groups, seed=seed)
                    self.sums[encoder.name] = _Sums(encoder=encoder, grouping=grouping, sums=sums, key=key)
                else:
                    self.known[encoder.name] = known

    def read(self, chunk: slice, block: int, progress: Callable[[int, int], None]) -> None:
        """Fill the rows of a chunk, from the cache or by one pass over its pixels, and add them to the sums."""
        content = self.store.content(self.images, chunk)
        new: list[Encoder] = []
        for encoder in self.encoders:
            known = self.store.outputs(content, encoder, chunk.stop - chunk.start)
            if known is None:
                new.append(encoder)
            for name, array in (known or {}).items():
                self.found[encoder.name][name][chunk] = array
        todo = [encoder for encoder in self.encoders if encoder in new or encoder.name in self.sums]
        for start in range(chunk.start, chunk.stop if todo else chunk.start, block):
            progress(start, len(self.images))
            pixels = self.images.images(start, min(start + block, chunk.stop))
            for encoder in todo:
                for rows, batch in _batches(pixels, encoder.batch_size):
                    where = slice(start + rows.start, start + rows.stop)
                    if encoder.name in self.sums:
                        values = self.sums[encoder.name].add(batch, where, self.found)
                    else:
                        values = encoder.encode(batch)
                    for name, array in values.items() if encoder in new else ():
                        self.found[encoder.name][name][where] = array[: rows.stop - rows.start]
        if todo:
            progress(chunk.stop, len(self.images))
        for encoder in new:
            outputs = self.found[encoder.name].items()
            self.store.keep_outputs(content, encoder, {name: array[chunk] for name, array in outputs})

    def pairs(self) -> dict[str, PairDistances]:
        """The distances over all pairs, once all images have been read."""
        for name, sums in self.sums.items():
            self.known[name] = sums.sums.result()
            self.store.keep_pairs(self.content, sums.encoder, sums.key, self.known[name])
        return self.known


@dataclass(frozen=True, kw_only=True)
class _Sums:
    encoder: TappedEncoder
    grouping: Grouping
    sums: PairSums
    key: str
    """Under which the result is cached."""

    def add(self, batch: np.ndarray, where: slice, found: Outputs) -> dict[str, np.ndarray]:
        """Add a batch's taps; what the encoder made of it. The filling behind the rows `where` is left out."""
        values, taps = self.encoder.encode_with_taps(batch)
        self.sums.add([tap[: where.stop - where.start] for tap in taps], self.grouping(where, found))
        return values


def _batches(pixels: Float[np.ndarray, "n c h w"], size: int) -> Iterator[tuple[slice, Float[np.ndarray, "b c h w"]]]:
    """Batches of exactly `size`, the last filled up with its last image: results cannot depend on what is left over."""
    for start in range(0, len(pixels), size):
        batch = pixels[start : start + size]
        count = len(batch)
        if count < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
        yield slice(start, start + count), batch
